/**
 * A TCP proxy before a server of somebody's own: nothing of what it carries is looked at, so TLS goes through it. Raw to
 * one address, or to whatever an HTTP CONNECT asks for.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Mischief extends AsyncDisposable {
  readonly port: number
  /** What the server says is held back until `there` (the send took effect); then every connection breaks. */
  readonly loseAnswer: (there: () => Promise<boolean>) => void
  /** The next bytes go nowhere, `arrives` is called; connections that are new pass again. */
  readonly hold: (arrives: () => void) => void
}
/** Longer than a look at the server takes. */
const heldBackMs = 1_000

const targetOf = async (near: Socket): Promise<{ host: string; port: number } | undefined> => {
  let head = ''
  for await (const part of near.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    head += part.toString('latin1')
    if (head.includes('\r\n\r\n')) break
    if (head.length > 8_192) return undefined
  }
  const [, host = '', port = ''] = /^CONNECT \[?([^\s\]]+?)\]?:(\d+) HTTP/.exec(head) ?? []
  return host === '' ? undefined : { host, port: Number(port) }
}

export const openMischief = async (
  target: { readonly host: string; readonly port: number } | 'connect',
): Promise<Mischief> => {
  const sockets = new Set<Socket>()
  const silent = new WeakSet<Socket>()
  let losing = false
  let holding: (() => void) | undefined
  const upwards = (near: Socket, far: Socket) => (part: Buffer) => {
    if (holding !== undefined) {
      silent.add(near)
      holding()
      holding = undefined
    }
    if (!silent.has(near)) far.write(part)
  }
  const downwards = (near: Socket, far: Socket) => {
    let last: Promise<unknown> = Promise.resolve()
    return (part: Buffer) => {
      const held = losing
      last = last.then(async () => {
        if (held) await sleep(heldBackMs)
        if (!near.destroyed && !silent.has(near)) near.write(part)
      })
      if (near.destroyed) far.destroy()
    }
  }
  const join = async (near: Socket) => {
    near.on('error', () => {})
    sockets.add(near)
    const to = target === 'connect' ? await targetOf(near) : target
    if (to === undefined) return near.destroy()
    const far = connect(to.port, to.host)
    sockets.add(far)
    far.on('error', () => near.destroy())
    if (target === 'connect')
      far.once('connect', () => near.write('HTTP/1.1 200 Connection established\r\n\r\n'))
    near.on('data', upwards(near, far))
    far.on('data', downwards(near, far))
    near.once('close', () => far.destroy())
    far.once('close', () => near.destroy())
    for (const one of [near, far]) one.once('close', () => sockets.delete(one))
    return undefined
  }
  const cut = () => {
    for (const one of sockets) one.destroy()
  }
  const server = createServer((near) => void join(near))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    hold: (arrives) => {
      holding = arrives
    },
    loseAnswer: (there) => {
      losing = true
      const watch = async () => {
        for (let tries = 0; tries < 600 && !(await there()); tries++) await sleep(20)
        losing = false
        cut()
      }
      void watch()
    },
    [Symbol.asyncDispose]: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
