/** HTTPS before a server on loopback, which does to single requests what a rig is asked to do. */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Answer, DestinationRig } from './destination.ts'

type Act = (request: IncomingMessage, response: ServerResponse) => Promise<void>
export interface Front
  extends AsyncDisposable,
    Pick<DestinationRig, 'answerNext' | 'loseNextAnswer' | 'holdNext'> {
  readonly port: number
}

const passed = ['content-type', 'content-encoding', 'authorization', 'x-scope-orgid'] as const
const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts)
}
export const openFront = async (
  url: string,
  files?: { readonly cert: string; readonly key: string },
): Promise<Front> => {
  let next: Act | undefined
  const pass: (request: IncomingMessage) => Promise<Response> = async (request) => {
    const headers = new Headers()
    for (const name of passed) {
      const value = request.headers[name]
      if (typeof value === 'string') headers.set(name, value)
    }
    const body = new Uint8Array(await bodyOf(request))
    const { method = 'POST' } = request
    return fetch(`${url}${request.url}`, { method, headers, ...(method === 'GET' ? {} : { body }) })
  }
  const handle: Act = async (request, response) => {
    const act = next
    next = undefined
    if (act !== undefined) return act(request, response)
    const answer = await pass(request)
    const headers = new Headers(answer.headers)
    // fetch has unpacked it: these speak of what came in.
    for (const name of ['content-encoding', 'content-length']) headers.delete(name)
    response.writeHead(answer.status, Object.fromEntries(headers))
    response.end(Buffer.from(await answer.arrayBuffer()))
  }
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    handle(request, response).catch(() => response.destroy())
  }
  const server =
    files === undefined
      ? createServer(listener)
      : createTlsServer(
          { cert: readFileSync(files.cert), key: readFileSync(files.key), minVersion: 'TLSv1.3' },
          listener,
        )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    answerNext: ({ status, headers = {}, body = '' }: Answer) => {
      next = async (request, response) => {
        await bodyOf(request)
        response.writeHead(status, headers).end(body)
      }
    },
    loseNextAnswer: () => {
      next = async (request) => {
        await pass(request)
        request.socket.destroy()
      }
    },
    holdNext: (arrives) => {
      next = async (request) => {
        await bodyOf(request)
        arrives()
      }
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
