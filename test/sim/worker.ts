/** One process of many: runs seeds FROM, FROM + STEP, … below TO and tells each result to its parent. */
import { standsStill } from './clock.ts'
import { drawPlan, noTotals } from './plan.ts'
import { runSeed, type SeedResult } from './world.ts'

const [from = 1, to = 2, step = 1] = process.argv.slice(2).map(Number)
const only = process.argv[5] ?? ''

const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return `bug: ${String(error)}`
  return error.message.startsWith(standsStill) ? error.message : `bug: ${error.stack}`
}
const asBug = (seed: number, error: unknown): SeedResult => ({
  seed,
  ok: false,
  reasons: [reasonOf(error)],
  verdict: null,
  digest: '',
  totals: noTotals(),
  virtualMs: 0,
})
let stray: unknown
process.on('unhandledRejection', (error) => {
  stray = error
})
process.on('disconnect', () => process.exit(1))
for (let seed = from; seed < to; seed += step) {
  if (only !== '' && drawPlan(seed).stages !== only) continue
  stray = undefined
  let result: SeedResult
  try {
    result = await runSeed(seed)
    if (stray !== undefined) result = asBug(seed, stray)
  } catch (error) {
    result = asBug(seed, error)
  }
  process.send?.(result)
}
process.exit(0)
