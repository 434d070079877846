/** What doctor reckons without a machine to look at: rights, wear, the flush probe's own traces. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  flushTimesMs,
  lookAtDisk,
  lookAtWear,
  rightsOf,
  wearOf,
} from '../../../src/cli/doctor/disk.ts'
import { systemClock } from '../../../src/host.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { spool, status } from '../control/view.ts'

test('wear: bytes a day from the kernel or from commits, life by what the card is good for', () => {
  const day = 86_400e6
  const busy = { ...status, upForUs: day, spool: { ...spool, commits: 1_000, bytesWritten: 1e9 } }
  const wear = wearOf(busy, null, 10)
  assert.deepEqual(wear && [wear.bytesPerDay, wear.measured], [1e9 + 1_000 * 16_384, false])
  assert.ok(Math.abs((wear?.lifeYears ?? 0) - 10e12 / (1e9 + 16_384_000) / 365) < 1e-9)
  assert.equal(wearOf({ ...busy, upForUs: 1e6 }, null, 10), null)
  assert.equal(wearOf({ ...busy, spool: null }, null, 10), null)
  assert.equal(wearOf(busy, process.pid, 10)?.measured, true)
  assert.equal(lookAtWear(busy, null, 10).state, 'good')
  assert.equal(lookAtWear(busy, null, 1).state, 'warning')
  assert.equal(lookAtWear(undefined, null, 10).state, 'unknown')
})

test('rights: closed is good, readable a warning, writable or a link bad', () => {
  const folder = join(temporaryFolder('rights'), 'state')
  mkdirSync(folder)
  const stateAt = (mode: number) => {
    chmodSync(folder, mode)
    return rightsOf(folder).state
  }
  assert.deepEqual([0o700, 0o750, 0o755, 0o757].map(stateAt), ['good', 'good', 'warning', 'bad'])
  symlinkSync(folder, `${folder}-link`)
  assert.equal(rightsOf(`${folder}-link`).state, 'bad')
})

test('the flush probe leaves nothing, and follows no link', () => {
  const folder = temporaryFolder('flush')
  writeFileSync(join(folder, 'spool.db'), 'untouched')
  const times = flushTimesMs(folder, systemClock)
  assert.equal(times.length, 20)
  assert.deepEqual(
    times,
    [...times].sort((a, b) => a - b),
  )
  assert.deepEqual(readdirSync(folder), ['spool.db'])
  const missing = lookAtDisk(join(folder, 'none'), undefined, undefined, systemClock)
  assert.deepEqual(
    missing.map(({ check, state }) => [check, state]),
    [['disk', 'warning']],
  )
})
