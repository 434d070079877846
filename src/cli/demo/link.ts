/** The demo's wide-area link: a TCP relay between agent and region that can be cut and healed, and counts its bytes. */
import { connect, createServer, type Socket } from 'node:net'

export interface Link extends AsyncDisposable {
  readonly port: number
  /** Bytes that went from the agent to the region, TLS and all. */
  readonly bytesUp: () => number
  readonly isUp: () => boolean
  readonly cut: () => void
  readonly heal: () => void
}

export const openLink = async (regionPort: number): Promise<Link> => {
  let up = true
  let bytesUp = 0
  const sockets = new Set<Socket>()
  const forget = (socket: Socket) => () => sockets.delete(socket)
  const server = createServer((near) => {
    near.on('error', () => {})
    if (!up) return near.destroy()
    const far = connect(regionPort, '127.0.0.1')
    far.on('error', () => near.destroy())
    for (const socket of [near, far])
      sockets.add(socket).size && socket.once('close', forget(socket))
    near.on('data', (data) => {
      bytesUp += data.length
    })
    near.pipe(far).pipe(near)
    near.once('close', () => far.destroy())
    far.once('close', () => near.destroy())
    return undefined
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const cut = () => {
    up = false
    for (const socket of sockets) socket.destroy()
  }
  return {
    port,
    bytesUp: () => bytesUp,
    isUp: () => up,
    cut,
    heal: () => {
      up = true
    },
    [Symbol.asyncDispose]: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
