/**
 * The simulation as a gate: seeds that must be green, and mutants that must be red.
 * `HOLDFAST_SIM_SEEDS` asks for another number of seeds than a change (2,000) or a release (1,000,000) needs.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type MutantResult, runMany, runMutant } from './many.ts'
import { mutants } from './mutants/table.ts'
import { totalNames } from './plan.ts'
import { runSeed } from './world.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const seeds = Number(process.env.HOLDFAST_SIM_SEEDS ?? (release ? 1_000_000 : 2_000))
/** As many as a change must keep green: what they would let pass is not guarded. Most mutants fall in the first ten. */
const seedsPerMutant = 2_000
/** Below this a fault may miss all seeds by chance. */
const seedsForTotals = 1_000

test(`${seeds} seeds: nothing lost, doubled or altered, and all of it drains unaided`, async (t) => {
  const { done, red, totals } = await runMany({ seeds, from: 1, workers: 2 })
  t.diagnostic(totalNames.map((name) => `${name} ${totals[name]}`).join(', '))
  assert.deepEqual(
    red.map(({ seed, reasons }) => `seed ${seed}: ${reasons[0]}`),
    [],
  )
  assert.equal(done, seeds)
  assert.ok(totals.segments / done >= 50, `${totals.segments / done} segments a seed`)
  if (seeds < seedsForTotals) return
  const zeros = totalNames.filter((name) => totals[name] === 0)
  assert.deepEqual(zeros, [], 'faults that never struck are not tested')
})

test('the same seed gives the same digest, in this process and in another', async () => {
  const some = 12
  const { digests } = await runMany({ seeds: some, from: 1, workers: 1 })
  for (let seed = 1; seed <= some; seed++)
    assert.equal((await runSeed(seed)).digest, digests.get(seed), `seed ${seed}`)
})

test('every mutant is found by the checker or an invariant', async (t) => {
  const left = [...mutants]
  const results: MutantResult[] = []
  const take = async () => {
    for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift())
      results.push(await runMutant(mutant, { seeds: seedsPerMutant, workers: 1 }))
  }
  await Promise.all([take(), take()])
  for (const { name, end, seed, text } of results)
    t.diagnostic(`${name}: ${end}, seed ${seed}: ${text.slice(0, 100)}`)
  const wrong = results.filter(({ end }) => end !== 'killed')
  assert.deepEqual(wrong, [])
  assert.ok(results.length >= 40)
})
