/**
 * What the demo shows: one line that lives on a terminal, a line now and then elsewhere; the
 * story's turns in between.
 */
import type { Clock } from '../../host.ts'
import type { CliContext } from '../context.ts'

export interface Shown {
  readonly text: string
  readonly linkUp: boolean
  readonly agentUp: boolean
}
export interface Screen {
  readonly say: (text: string) => void
  /** A turn of the story. */
  readonly turn: (text: string) => void
  readonly show: (shown: Shown) => void
  readonly verdict: (text: string, ok: boolean) => void
}

const plainEveryMs = 5_000

export const createScreen = (context: CliContext, clock: Clock): Screen => {
  const live = process.stderr.isTTY === true && !context.flags.quiet
  const startedMs = clock.monotonicMs()
  let shownMs = Number.NEGATIVE_INFINITY
  const clear = () => {
    if (live) process.stderr.write('\r\x1b[2K')
  }
  const at = () => `${((clock.monotonicMs() - startedMs) / 1000).toFixed(1).padStart(5)} s`
  const line = (text: string) => {
    clear()
    context.say(text)
  }
  return {
    say: (text) => line(text),
    turn: (text) => line(`${at()}  ${context.paint('bold', text)}`),
    show: ({ text: now, linkUp, agentUp }) => {
      const text = `${at()}  agent ${agentUp ? 'up  ' : 'DOWN'}  link ${linkUp ? 'up ' : 'CUT'}  ${now}`
      if (live) {
        clear()
        process.stderr.write(text)
      } else if (clock.monotonicMs() - shownMs >= plainEveryMs) {
        shownMs = clock.monotonicMs()
        context.say(text)
      }
    },
    verdict: (text, ok) => {
      clear()
      context.warn(context.paint(ok ? 'green' : 'red', text))
    },
  }
}
