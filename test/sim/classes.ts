/** Classes of a seed with rules and windows, as they are at first and after a change of the configuration. */
import type { Reduce, SeriesClass, WindowSpec } from '../../src/pipeline/classes.ts'
import { allStatistics } from '../reduce/naive-windows.ts'
import type { Chance } from './random.ts'

/** A silence that is a gap, for every rule: longer than any step of the publisher's clock but the rare long ones. */
export const gapAfterUs = 20_000_000
/** Corners wait no longer than the seed idles in the end. */
const maxHoldUs = 5_000_000
/** Longer than any rule of them holds a point. */
export const settlesUs = 12_000_000

export const drawClasses = (
  chance: Chance,
  [thin = '', rollup = '']: readonly string[],
): readonly (readonly SeriesClass[])[] => {
  const latenessUs = chance.pick([0, 2_000_000, 10_000_000])
  const window = (everyUs: number, more: Partial<WindowSpec> = {}): WindowSpec => ({
    everyUs,
    latenessUs,
    statistics: allStatistics,
    lane: rollup,
    ...more,
  })
  const cheap = allStatistics.filter((one) => one !== 'median' && one !== 'p95')
  const common = { lane: thin, gap: { afterUs: gapAfterUs } }
  const heartbeatUs = chance.hit(0.5) ? chance.int(1, 10) * 1_000_000 : null
  const method = chance.pick(['deadband', 'swinging_door'] as const)
  const walk = (deviation: number): Reduce =>
    method === 'deadband'
      ? { method, ...common, deviation, heartbeatUs }
      : { method, ...common, deviation, heartbeatUs, maxHoldUs }
  const onChange: Reduce = { method: 'on_change', ...common }
  const deviation = chance.pick([0.5, 2, 10])
  const counted = window(10_000_000, { counter: { modulus: chance.pick([null, 1_000]) } })
  const rest: SeriesClass = {
    name: 'rest',
    match: { names: ['raw/4', 'raw/5', 'raw/6'] },
    reduce: onChange,
    windows: [window(chance.pick([1_000_000, 5_000_000]), { statistics: cheap })],
  }
  const classes = (reduce: Reduce, walks: readonly WindowSpec[]): readonly SeriesClass[] => [
    { name: 'walks', match: { names: ['raw/1', 'raw/2'] }, reduce, windows: walks },
    { name: 'counts', match: { names: ['raw/3'] }, reduce: onChange, windows: [counted] },
    rest,
  ]
  const shorter = window(1_000_000, chance.hit(0.5) ? { statistics: cheap } : {})
  const minute = window(60_000_000, { statistics: cheap })
  return [
    classes(walk(deviation), [shorter, minute]),
    classes(walk(deviation / 2), [window(5_000_000), minute]),
  ]
}
