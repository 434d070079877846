/** A TCP relay that can keep back what its client says: a server's view of a client that dies before its answer. */
import { connect, createServer, type Socket } from 'node:net'

export interface HeldLink extends AsyncDisposable {
  readonly port: number
  /** From now on nothing the client says gets through; what the server says does. */
  readonly hold: () => void
  /** Resolves once the client has said nothing for `ms`: its last acks are through. */
  readonly quiet: (ms: number) => Promise<void>
  /** Ends every connection, with what was kept back; later ones pass both ways. */
  readonly drop: () => void
}

export const openHeldLink = async (serverPort: number): Promise<HeldLink> => {
  let held = false
  let saidAtMs = 0
  const pairs = new Set<readonly [near: Socket, far: Socket]>()
  const server = createServer((near) => {
    const far = connect(serverPort, '127.0.0.1')
    const pair = [near, far] as const
    pairs.add(pair)
    near.on('data', (data) => {
      saidAtMs = performance.now()
      if (!held) far.write(data)
    })
    far.on('data', (data) => near.write(data))
    for (const socket of pair) {
      socket.on('error', () => {})
      socket.once('close', () => {
        pairs.delete(pair)
        for (const other of pair) other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A failed test ends without `dispose`.
  server.unref()
  const { port } = server.address() as { port: number }
  const drop = () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy()
    held = false
  }
  return {
    port,
    hold: () => {
      held = true
    },
    quiet: async (ms) => {
      for (;;) {
        const leftMs = saidAtMs + ms - performance.now()
        if (leftMs <= 0) return
        await new Promise((resolve) => setTimeout(resolve, leftMs))
      }
    },
    drop,
    [Symbol.asyncDispose]: async () => {
      drop()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
