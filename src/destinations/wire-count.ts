/**
 * How many bytes a destination has handed to its sockets: what a ceiling on the link counts.
 *
 * Invariants: never goes down; what waits in a socket counts as sent; a socket that is gone is not kept. TLS's own
 * framing is not in it where TLS is the socket's, nor are the headers of TCP and IP.
 */
interface Counted {
  readonly bytesWritten: number
  readonly once: (event: 'close', heard: () => void) => unknown
}
export interface WireCount {
  readonly track: (socket: Counted) => void
  readonly total: () => number
}

export const createWireCount = (): WireCount => {
  const open = new Set<Counted>()
  let gone = 0
  return {
    track: (socket) => {
      open.add(socket)
      socket.once('close', () => {
        open.delete(socket)
        gone += socket.bytesWritten
      })
    },
    total: () => [...open].reduce((sum, { bytesWritten }) => sum + bytesWritten, gone),
  }
}
