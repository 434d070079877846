/**
 * The HTTP side of the stand-ins: one handler over one server on loopback, whole bodies, the vendor's own overload
 * answer on demand. It knows no vendor.
 */
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Asked {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  /** As it came: whether and how it is unpacked is the vendor's. */
  readonly body: Buffer
}
export interface Told {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}
export interface Shell extends AsyncDisposable {
  readonly url: string
  /** The next requests are turned away as the vendor does under load. */
  readonly overload: (times: number) => void
  /** How many requests came. */
  readonly asked: () => number
}

export const json = (status: number, value: unknown, headers = {}): Told => ({
  status,
  headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
  body: JSON.stringify(value),
})
export const text = (status: number, body: string, headers = {}): Told => ({
  status,
  headers: { 'content-type': 'text/plain; charset=utf-8', ...headers },
  body,
})

export const openShell = async (answer: (asked: Asked) => Told, busy: Told): Promise<Shell> => {
  let turnAway = 0
  let count = 0
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('error', () => response.destroy())
    request.on('end', () => {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://stand-in')
      count++
      const { method = 'GET', headers } = request
      const told =
        turnAway > 0
          ? busy
          : answer({
              method,
              path: pathname,
              query: searchParams,
              headers,
              body: Buffer.concat(parts),
            })
      if (turnAway > 0) turnAway--
      response.writeHead(told.status, { ...told.headers }).end(told.body ?? '')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    overload: (times) => {
      turnAway = times
    },
    asked: () => count,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
