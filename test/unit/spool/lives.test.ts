/** Which ends of a process count as crashes of its spool, over the real file in a real folder. */
import assert from 'node:assert/strict'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Failure } from '../../../src/errors.ts'
import { silentLog } from '../../../src/host.ts'
import { beginLife, type Lives } from '../../../src/spool/lives.ts'
import { salvagedMark, setAsideIn } from '../../../src/spool/set-aside.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createTestClock } from './support.ts'

const createMachine = () => {
  const stateDir = temporaryFolder('lives')
  const clock = createTestClock()
  let bootId = 'boot-1'
  let pid = 100
  const alive = new Set<number>()
  return {
    stateDir,
    clock,
    alive,
    pid: () => pid,
    reboot: () => {
      bootId = 'boot-2'
    },
    begin: (): Lives => {
      pid++
      return beginLife({
        stateDir,
        host: { clock, bootId, log: silentLog },
        pid,
        runs: (one) => alive.has(one),
      })
    },
  }
}
/** So many lives that end by `end`; then: is the spool suspected? */
const suspectAfter = (
  count: number,
  end: (one: Lives, nth: number) => void,
  machine = createMachine(),
) => {
  for (let nth = 0; nth < count; nth++) end(machine.begin(), nth)
  return machine.begin().suspect
}
const diskFailed = (cause?: unknown) =>
  new Failure('HF-S074', 'the process must end', '', cause === undefined ? {} : { cause })

test('five that end without a word, or by a bug, make the spool suspect; four do not', () => {
  const ends: Record<string, (one: Lives) => void> = {
    'without a word': () => {},
    'by an exception': (one) => one.crashes(),
    'by an exception, after it worked': (one) => {
      one.proven()
      one.crashes()
    },
    'by a bug of the spool': (one) => one.ends(new Failure('HF-S099', 'a bug')),
    'by damage met while running': (one) => one.ends(diskFailed(new Failure('HF-S005', 'damaged'))),
    'by an end of the spool thread': (one) => one.ends(diskFailed(new Error('thread'))),
    'by something thrown at the start': (one) => one.ends(new TypeError('undefined')),
  }
  for (const [name, end] of Object.entries(ends)) {
    assert.equal(suspectAfter(4, end), false, name)
    assert.equal(suspectAfter(5, end), true, name)
  }
})

test('what the spool cannot be the cause of is no crash', () => {
  const ends: Record<string, (one: Lives) => void> = {
    'in good order': (one) => one.ends(),
    'killed while its spool worked': (one) => one.proven(),
    'disk failed': (one) => one.ends(diskFailed()),
    'read-only': (one) => one.ends(diskFailed(new Failure('HF-S004', 'read-only'))),
    'another agent has it': (one) => one.ends(new Failure('HF-S002', 'busy')),
    'a newer version': (one) => one.ends(new Failure('HF-S003', 'newer')),
    certificates: (one) => one.ends(new Failure('HF-N001', 'no file')),
  }
  for (const [name, end] of Object.entries(ends)) assert.equal(suspectAfter(20, end), false, name)
})

test('a life that worked in between clears those that were killed before it, not the bugs', () => {
  const killed = (one: Lives, nth: number) => {
    if (nth === 3) one.proven()
  }
  assert.equal(suspectAfter(8, killed), false)
  assert.equal(suspectAfter(9, killed), true)
  const bugs = (one: Lives, nth: number) => (nth === 3 ? one.proven() : one.crashes())
  assert.equal(suspectAfter(6, bugs), true)
})

test('only within a minute of one boot, and never a process that still runs', async () => {
  const slow = createMachine()
  for (let nth = 0; nth < 20; nth++) {
    slow.begin()
    await slow.clock.pass(15_500)
  }
  assert.equal(slow.begin().suspect, false)

  const rebooted = createMachine()
  for (let nth = 0; nth < 5; nth++) rebooted.begin()
  rebooted.reboot()
  assert.equal(rebooted.begin().suspect, false)

  const running = createMachine()
  for (let nth = 0; nth < 5; nth++) {
    running.begin()
    running.alive.add(running.pid())
  }
  assert.equal(running.begin().suspect, false)
  running.alive.clear()
  assert.equal(running.begin().suspect, true)
})

test('once: crashes that go on over the new spool set nothing aside until the first is dealt with', () => {
  const machine = createMachine()
  assert.equal(
    suspectAfter(5, () => {}, machine),
    true,
  )
  const file = join(machine.stateDir, 'spool.db.suspect-0123abcd')
  writeFileSync(file, '')
  assert.equal(
    suspectAfter(9, () => {}, machine),
    false,
  )
  writeFileSync(`${file}${salvagedMark}`, '')
  assert.equal(machine.begin().suspect, true)
})

test('a file of nonsense counts as nothing; a link in its place is replaced, not followed', () => {
  const machine = createMachine()
  const path = join(machine.stateDir, 'lives.json')
  for (const nonsense of ['', '{', '[1]', '[{"boot":1}]', `[${'1,'.repeat(100)}1]`]) {
    writeFileSync(path, nonsense)
    assert.equal(machine.begin().suspect, false)
  }
  const outside = join(temporaryFolder('outside'), 'file')
  const linked = createMachine()
  writeFileSync(outside, 'untouched')
  symlinkSync(outside, join(linked.stateDir, 'lives.json'))
  symlinkSync(outside, join(linked.stateDir, 'lives.json.new'))
  linked.begin().ends()
  assert.equal(readFileSync(outside, 'utf8'), 'untouched')
})

test('files set aside are known by their names alone', () => {
  const names = [
    'spool.db',
    'spool.db.damaged-00000001',
    'spool.db.suspect-00000002',
    'spool.db.suspect-00000002-wal',
    'spool.db.suspect-00000002-salvaged',
    'spool.db.suspect-x',
  ]
  assert.deepEqual(
    setAsideIn(names, '/s').map(({ file, kind, dealtWith }) => [file, kind, dealtWith]),
    [
      ['/s/spool.db.damaged-00000001', 'damaged', false],
      ['/s/spool.db.suspect-00000002', 'suspect', true],
    ],
  )
})
