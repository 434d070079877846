/**
 * One flipped bit anywhere in a stopped spool's database, write-ahead log or anchor: the spool opens and delivers what it
 * had to, refuses with a code, or declares what is gone. Never a point altered, never one lost in silence.
 * 1,000 flips a change, 100,000 a release; `HOLDFAST_BIT_FLIPS` asks for another number.
 */
import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { flipBits, recorder } from './crash/many.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const flips = Number(process.env.HOLDFAST_BIT_FLIPS ?? (release ? 100_000 : 1_000))
const flipsPerLife = release ? 5_000 : 250
const skip = recorder() === null ? 'no C compiler (or not Linux): no life can be recorded' : false

test(`${flips} flipped bits: nothing altered, nothing lost in silence`, { skip }, async (t) => {
  const ends = { whole: 0, declared: 0, refused: 0 }
  for (let seed = 1; seed <= Math.ceil(flips / flipsPerLife); seed++) {
    const share = Math.min(flipsPerLife, flips - (seed - 1) * flipsPerLife)
    const found = await flipBits(seed, share, Math.min(2, availableParallelism()))
    assert.deepEqual(found.wrong.slice(0, 5), [], `life ${seed}`)
    for (const kind of ['whole', 'declared', 'refused'] as const) ends[kind] += found.ends[kind]
  }
  t.diagnostic(
    `whole ${ends.whole}, with a declared loss ${ends.declared}, refused ${ends.refused}`,
  )
  assert.equal(ends.whole + ends.declared + ends.refused, flips)
  assert.ok(ends.declared > flips / 100, 'the flips hit nothing')
})
