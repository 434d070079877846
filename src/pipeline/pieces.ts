/** Work in pieces, for whoever has the time to do it at once. */
import type { Pieces } from '../model.ts'

export const atOnce = <T>(pieces: Pieces<T>): T => {
  let next = pieces.next()
  while (next.done !== true) next = pieces.next()
  return next.value
}
