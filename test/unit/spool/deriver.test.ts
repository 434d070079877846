import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDeriver } from '../../../src/spool/deriver.ts'
import type { Turn } from '../../../src/spool/spool.ts'
import { createTestClock } from './support.ts'

const head = { lane: 'raw', head: 1, openCount: 0, derived: false, ticks: false }
const drive = (answers: readonly (Turn | Error)[]) => {
  const clock = createTestClock()
  const failures: unknown[] = []
  let turns = 0
  const deriver = createDeriver(
    {
      heads: () => [{ ...head, underived: turns < answers.length }],
      derive: () => {
        const answer = answers[turns++]
        if (answer instanceof Error) throw answer
        return answer ?? assert.fail('one turn too many')
      },
    },
    clock,
    { moved: () => deriver.look(), failed: (error) => failures.push(error) },
  )
  return { clock, deriver, failures, turns: () => turns }
}

test('turns follow each other while there is more, and end by themselves', async () => {
  const { clock, deriver, turns } = drive(['more', 'more', 'done'])
  deriver.look()
  await clock.pass(100)
  assert.deepEqual([turns(), clock.timers()], [3, 0])
  await deriver.stop()
})

test('without room the next turn waits a second; a stop leaves no timer', async () => {
  const { clock, deriver, turns } = drive(['full', 'full', 'done'])
  deriver.look()
  await clock.pass(900)
  assert.equal(turns(), 1)
  await clock.pass(200)
  assert.equal(turns(), 2)
  await deriver.stop()
  assert.equal(clock.timers(), 0)
  await clock.pass(5_000)
  assert.equal(turns(), 2)
})

test('a turn that fails is the last, though there is more to derive', async () => {
  const { clock, deriver, failures, turns } = drive([new Error('the disk is gone'), 'more'])
  deriver.look()
  await clock.pass(5_000)
  deriver.look()
  await clock.pass(5_000)
  assert.deepEqual([turns(), failures.length], [1, 1])
})
