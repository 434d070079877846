/**
 * What the spool does with files it should not touch, cannot trust, or finds changed: one behaviour each,
 * with its code.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { Failure, isFailure } from '../../src/errors.ts'
import { silentLog, systemClock } from '../../src/host.ts'
import { openAnchorFile } from '../../src/spool/anchor.ts'
import { ballastPath, prepareBallast } from '../../src/spool/room.ts'
import { openSpool, type Spool } from '../../src/spool/spool.ts'
import { damageMark, die, type SpoolState } from '../../src/spool/state.ts'
import { forgetFolder, temporaryFolder } from '../support/temp.ts'
import {
  contents,
  countingBytes,
  floats,
  newSeries,
  readAll,
  spoolOptions,
  store,
} from '../unit/spool/support.ts'

const series = newSeries()
const openAt = (folder: string): Spool =>
  openSpool({
    at: { path: join(folder, 'spool.db') },
    host: {
      clock: systemClock,
      randomBytes: countingBytes,
      bootId: 'b0'.repeat(16),
      log: silentLog,
    },
    series,
    options: spoolOptions(),
  })
const digests = (folder: string) =>
  readdirSync(folder)
    .sort()
    .map((file) => [
      file,
      createHash('sha256')
        .update(readFileSync(join(folder, file)))
        .digest('hex'),
    ])
const copyTo = (from: string, to: string) => {
  for (const file of readdirSync(from)) copyFileSync(join(from, file), join(to, file))
}
/** A folder with a closed spool of `count` points, 100 a segment, the rest in the journal. */
const filled = (count: number): string => {
  const folder = temporaryFolder('spool')
  const spool = openAt(folder)
  for (let first = 1; first <= count; first += 70) {
    store(spool, floats(series, first, Math.min(70, count - first + 1)))
  }
  spool.close()
  return folder
}
/** Every point is there bit for bit, or counted as lost; nothing else is. */
const assertAnswered = (spool: Spool, count: number) => {
  spool.seal(['raw'])
  const all = contents(readAll(spool))
  const values = all.filter((one) => typeof one === 'number')
  const lost = all.reduce<number>((sum, one) => (typeof one === 'number' ? sum : sum + one[1]), 0)
  assert.ok(values.every((value) => Number.isInteger(value) && value >= 1 && value <= count))
  assert.equal(new Set(values).size, values.length, 'a point was delivered twice')
  assert.equal(values.length + lost, count)
}

/** As a supervisor does: a spool that ends with damage (exit 74) is opened again, once. */
const openUntilWhole = (folder: string, count: number): Spool => {
  const first = openAt(folder)
  try {
    assertAnswered(first, count)
    return first
  } catch (error) {
    if (!isFailure(error, 'HF-S005')) throw error
    first.close()
  }
  const second = openAt(folder)
  assertAnswered(second, count)
  return second
}

/** Points a reader still gets, or is told to be lost: after one restart at most. */
const pendingAfterDamage = (folder: string): number => {
  for (let opening = 0; ; opening++) {
    try {
      const spool = openAt(folder)
      try {
        spool.openReader('raw', 'region', 'oldest')
        const after = spool.lanes()[0]?.readers[0]?.cursor.backlog ?? 0
        const all = contents(readAll(spool, 'raw', after))
        const values = all.filter((one) => typeof one === 'number')
        assert.ok(values.every((one) => Number.isInteger(one) && one >= 1 && one <= 2_000))
        assert.equal(new Set(values).size, values.length)
        return all.reduce<number>((sum, one) => sum + (typeof one === 'number' ? 1 : one[1]), 0)
      } finally {
        spool.close()
      }
    } catch (error) {
      if (!isFailure(error, 'HF-S005') || opening > 0) throw error
    }
  }
}

test('a file of a newer version is refused without changing a byte, also from the write-ahead log', () => {
  const folder = filled(150)
  const path = join(folder, 'spool.db')
  const db = new Database(path)
  db.pragma(`user_version = ${9 + 9 * 65_536}`)
  const inLog = temporaryFolder('spool')
  copyTo(folder, inLog)
  db.close()
  for (const one of [folder, inLog]) {
    const before = digests(one)
    assert.throws(() => openAt(one), { code: 'HF-S003' })
    assert.deepEqual(digests(one), before)
    forgetFolder(one)
  }
})

test('a torn frame of the write-ahead log that looks like a newer version is no newer version', () => {
  const folder = temporaryFolder('spool')
  const spool = openAt(folder)
  for (let first = 1; first <= 50; first += 10) store(spool, floats(series, first, 10))
  const copy = temporaryFolder('spool')
  copyTo(folder, copy)
  const path = join(copy, 'spool.db-wal')
  const log = readFileSync(path)
  const frames = Math.floor((log.length - 32) / 4_120)
  const last = 32 + (frames - 1) * 4_120
  // The head of a frame for page 1 over bytes that are not page 1's: its checksum tells.
  log.writeUInt32BE(1, last)
  log.writeUInt32BE(9 + 9 * 65_536, last + 24 + 60)
  writeFileSync(path, log)
  const after = openAt(copy)
  assertAnswered(after, 50)
  after.close()
  spool.close()
  forgetFolder(folder)
  forgetFolder(copy)
})

test('a newer file that allows this version to write is opened', () => {
  const folder = filled(10)
  const db = new Database(join(folder, 'spool.db'))
  db.pragma(`user_version = ${9 + 1 * 65_536}`)
  db.close()
  const spool = openAt(folder)
  assertAnswered(spool, 10)
  spool.close()
  forgetFolder(folder)
})

test('a second opening is refused', () => {
  const folder = filled(10)
  const spool = openAt(folder)
  assert.throws(() => openAt(folder), { code: 'HF-S002' })
  assertAnswered(spool, 10)
  spool.close()
  forgetFolder(folder)
})

test('a file that is no database is set aside; what it held is declared lost', () => {
  const folder = filled(250)
  writeFileSync(
    join(folder, 'spool.db'),
    'no database at all, but long enough to be one'.repeat(200),
  )
  const spool = openAt(folder)
  assert.deepEqual(contents(readAll(spool)), [['damaged', 250]])
  store(spool, floats(series, 900, 1))
  spool.close()
  assert.ok(readdirSync(folder).some((file) => file.startsWith('spool.db.damaged-')))
  forgetFolder(folder)
})

test('a link planted in place of a file of the spool: refused, and nothing is written where it leads', () => {
  for (const content of ['mine', ''])
    for (const part of ['', '-wal', '-shm', '-journal', '-anchor', '-ballast', '-damaged']) {
      const folder = filled(150)
      const outside = join(temporaryFolder('outside'), 'file')
      writeFileSync(outside, content)
      rmSync(join(folder, `spool.db${part}`), { force: true })
      symlinkSync(outside, join(folder, `spool.db${part}`))
      assert.throws(() => openAt(folder), { code: 'HF-S001', message: /is a link/ }, part)
      assert.equal(readFileSync(outside, 'utf8'), content, part)
      // What was kept is kept: without the link it goes on.
      if (part === '') continue
      rmSync(join(folder, `spool.db${part}`))
      const spool = openAt(folder)
      assertAnswered(spool, 150)
      spool.close()
      forgetFolder(folder)
    }
})

test('a link planted while the spool is open leads nowhere either', () => {
  const folder = filled(150)
  const outside = join(temporaryFolder('outside'), 'file')
  writeFileSync(outside, 'mine')
  const path = join(folder, 'spool.db')
  rmSync(`${path}-anchor`)
  symlinkSync(outside, `${path}-anchor`)
  assert.throws(() => openAnchorFile(`${path}-anchor`), { code: 'ELOOP' })
  const diskFreeBytes = () => Number.MAX_SAFE_INTEGER
  const state = { path, ballast: false, diskFreeBytes, dead: null, options: spoolOptions() }
  rmSync(`${path}-ballast`)
  symlinkSync(outside, `${path}-ballast`)
  prepareBallast(state as unknown as SpoolState)
  symlinkSync(outside, damageMark(path))
  die(state as unknown as SpoolState, new Failure('HF-S005', 'damaged'))
  assert.equal(readFileSync(outside, 'utf8'), 'mine')
  for (const one of [ballastPath(path), damageMark(path)]) assert.ok(lstatSync(one).isFile(), one)
  forgetFolder(folder)
})

test('a file that vanished is answered by its anchor', () => {
  const folder = filled(250)
  const empty = temporaryFolder('spool')
  copyFileSync(join(folder, 'spool.db-anchor'), join(empty, 'spool.db-anchor'))
  const spool = openAt(empty)
  assert.deepEqual(contents(readAll(spool)), [['anchor', 250]])
  spool.close()
  forgetFolder(folder)
  forgetFolder(empty)
})

test('flipped bits in stored segments: never a wrong point, every point answered', () => {
  const count = 2_000
  const folder = filled(count)
  const bytes = readFileSync(join(folder, 'spool.db'))
  const flips = process.env.HOLDFAST_TEST_RELEASE === '1' ? 5_000 : 150
  const places: number[] = []
  for (let at = bytes.indexOf('HFSG'); at !== -1; at = bytes.indexOf('HFSG', at + 1))
    places.push(at)
  assert.ok(places.length >= count / 100)
  let damaged = 0
  for (let flip = 0; flip < flips; flip++) {
    const copy = temporaryFolder('spool')
    copyTo(folder, copy)
    const changed = Buffer.from(bytes)
    const at = (places[flip % places.length] as number) + ((flip * 7_919) % 200)
    changed[at] = (changed[at] as number) ^ (1 << (flip % 8))
    writeFileSync(join(copy, 'spool.db'), changed)
    const spool = openUntilWhole(copy, count)
    damaged += spool.gaps(10).length
    spool.close()
    forgetFolder(copy)
  }
  assert.ok(damaged > flips / 10, 'the flips hit nothing')
  forgetFolder(folder)
})

test('flipped bits anywhere in the file: a reader misses nothing that is not declared to it', () => {
  const folder = filled(2_000)
  const spool = openAt(folder)
  spool.openReader('raw', 'region', 'oldest')
  spool.ack('raw', 'region', { which: 'backlog', upTo: 5 })
  spool.close()
  const bytes = readFileSync(join(folder, 'spool.db'))
  const flips = process.env.HOLDFAST_TEST_RELEASE === '1' ? 20_000 : 200
  for (let flip = 0; flip < flips; flip++) {
    const copy = temporaryFolder('spool')
    copyTo(folder, copy)
    const changed = Buffer.from(bytes)
    const at = (flip * 7_919 * 13) % bytes.length
    changed[at] = (changed[at] as number) ^ (1 << (flip % 8))
    writeFileSync(join(copy, 'spool.db'), changed)
    assert.ok(pendingAfterDamage(copy) >= 1_500, `bit ${flip % 8} of byte ${at}`)
    forgetFolder(copy)
  }
  forgetFolder(folder)
})

test('flipped bits in the write-ahead log: what it silently drops is declared', () => {
  const folder = temporaryFolder('spool')
  const spool = openAt(folder)
  const count = 300
  for (let first = 1; first <= count; first += 10) store(spool, floats(series, first, 10))
  const log = readFileSync(join(folder, 'spool.db-wal'))
  assert.ok(log.length > 50_000)
  let declared = 0
  for (let flip = 0; flip < 60; flip++) {
    const copy = temporaryFolder('spool')
    copyTo(folder, copy)
    const changed = Buffer.from(log)
    const at = 32 + ((flip * 104_729) % (log.length - 32))
    changed[at] = (changed[at] as number) ^ (1 << (flip % 8))
    writeFileSync(join(copy, 'spool.db-wal'), changed)
    const after = openAt(copy)
    declared += after.gaps(10).length
    assertAnswered(after, count)
    after.close()
    forgetFolder(copy)
  }
  assert.ok(declared > 0, 'no flip dropped a commit')
  spool.close()
  forgetFolder(folder)
})

test('damage met while running ends the spool; the next opening sets the file aside', () => {
  const folder = filled(2_000)
  const path = join(folder, 'spool.db')
  const bytes = readFileSync(path)
  // Every page but the first few that opening needs not: the b-tree of segments falls apart.
  const first = bytes.indexOf('HFSG')
  bytes.fill(0xa5, first - (first % 4_096))
  writeFileSync(path, bytes)
  let refused = 0
  for (let opening = 0; opening < 3; opening++) {
    try {
      const spool = openAt(folder)
      try {
        assertAnswered(spool, 2_000)
        store(spool, floats(series, 5_000, 1))
        spool.close()
        break
      } catch (error) {
        spool.close()
        throw error
      }
    } catch (error) {
      assert.ok(isFailure(error, 'HF-S005'), String(error))
      refused++
    }
  }
  assert.ok(refused <= 1, 'it did not mend itself at the next opening')
  assert.equal(existsSync(`${path}-damaged`), false)
  forgetFolder(folder)
})
