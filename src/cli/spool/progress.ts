/** Says how far a long look has got: about once a second, to the person, never to a pipe's data. */
import { systemClock } from '../../host.ts'
import type { CliContext } from '../context.ts'

const everyMs = 1_000
export const createProgress = (context: CliContext): ((text: string) => void) => {
  let saidMs = systemClock.monotonicMs()
  return (text) => {
    const nowMs = systemClock.monotonicMs()
    if (nowMs - saidMs < everyMs) return
    saidMs = nowMs
    context.say(text)
  }
}
