/**
 * Below SQLite: every change to the spool's files is recorded while a real spool lives through openings, commits, seals,
 * acks, trims, quotas and kills, in a third of the lives with rules and windows; from the record, the files that a power
 * cut at any moment may leave; each is opened.
 * 10,000 states a change, 250,000 a release; `HOLDFAST_CRASH_STATES` asks for another number.
 */
import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { inMutatedCopy } from '../support/mutants.ts'
import { explore, recorder } from './crash/many.ts'
import { mutants } from './crash/mutants.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
const states = Number(process.env.HOLDFAST_CRASH_STATES ?? (release ? 250_000 : 10_000))
const statesPerLife = release ? 5_000 : 1_250
const workers = Math.min(2, availableParallelism())
const skip =
  recorder() === null
    ? 'no C compiler (or not Linux): nothing records what the spool writes'
    : false

test(`${states} crash states: nothing acked is missing, altered, used twice or ahead`, {
  skip,
}, async (t) => {
  const lives = Math.ceil(states / statesPerLife)
  let done = 0
  let distinct = 0
  for (let seed = 1; seed <= lives; seed++) {
    const share = Math.min(statesPerLife, states - done)
    const found = await explore(seed, { states: share, workers })
    assert.deepEqual(found.wrong.slice(0, 5), [], `life ${seed}`)
    done += found.states
    distinct += found.distinct
  }
  t.diagnostic(`${done} states of ${lives} lives, ${distinct} distinct`)
  assert.equal(done, states)
  assert.ok(distinct > done * 0.8, `only ${distinct} of ${done} states differ`)
})

/** Of the checker, not of a program that broke. */
const byVerdict = /^(?:missing|altered|reused|twice|ahead|behind|books|windows|rules)/

test('every wrong spool is found', { skip }, async (t) => {
  for (const mutant of mutants) {
    const found = await inMutatedCopy(
      mutant,
      ['test/fault', 'test/reduce', 'test/sim', 'test/support', 'test/unit/spool'],
      (root) => explore(mutant.life ?? 1, { states: 1_000, workers: 1, stopAtRed: true, root }),
    )
    assert.ok(typeof found !== 'number', `${mutant.name} applies in ${found} places`)
    const [first] = found.wrong
    assert.ok(first !== undefined, `${mutant.name} survived ${found.states} states`)
    t.diagnostic(`${mutant.name}: red after ${found.states} states: ${first.text}`)
    assert.match(first.text, byVerdict, mutant.name)
  }
})
