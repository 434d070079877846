/** `holdfast spool check | stats | salvage` as a real process over real files: whole, damaged, in use, newer. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import Database from 'better-sqlite3'
import { openControlSocket } from '../../../src/control/socket.ts'
import { exitCodes } from '../../../src/errors.ts'
import { createSystemHost, silentLog, systemClock } from '../../../src/host.ts'
import { createSalvage } from '../../../src/pipeline/salvage.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import { openSpool, type Spool } from '../../../src/spool/spool.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createView, status } from '../control/view.ts'
import {
  createRig,
  floats,
  laneOptions,
  newSeries,
  readAll,
  spoolOptions,
  store,
} from '../spool/support.ts'
import { holdfast } from './process.ts'

const folder = temporaryFolder('look')
const open: AsyncDisposable[] = []
after(async () => {
  for (const one of open) await one[Symbol.asyncDispose]()
})
const host = createSystemHost()

let made = 0
/** 10 segments of 100 points, 3 of them sent, and 5 points in the journal. */
const createFile = (change: (db: Database.Database) => void = () => {}) => {
  const path = join(folder, `spool-${made++}.db`)
  const series = newSeries()
  const spool = openSpool({ at: { path }, host, series, options: spoolOptions() })
  spool.openReader('raw', 'region', 'oldest')
  for (let first = 0; first < 1_000; first += 100)
    store(spool, floats(series, first, 100), 'raw', true)
  spool.ack('raw', 'region', { which: 'backlog', upTo: 3 })
  store(spool, floats(series, 1_000, 5))
  spool.close()
  const db = new Database(path)
  change(db)
  db.close()
  return path
}
const key = (seq: number) => 2 ** 44 + seq
const flip = (seq: number) => (db: Database.Database) => {
  const bytes = db
    .prepare('SELECT bytes FROM segments WHERE key = ?')
    .pluck()
    .get(key(seq)) as Buffer
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1
  db.prepare('UPDATE segments SET bytes = ? WHERE key = ?').run(bytes, key(seq))
}
const remove = (seq: number) => (db: Database.Database) => {
  db.prepare('DELETE FROM segments WHERE key = ?').run(key(seq))
}

interface Agent {
  readonly spool: Spool
  readonly ask: (...args: string[]) => ReturnType<typeof holdfast>
}
/** A spool in memory behind a real control socket: what an agent is to salvage. */
const createAgent = async (): Promise<Agent> => {
  const lanes = [laneOptions('raw', { segmentPointsMax: 60_000 })]
  const rig = createRig({ lanes })
  const spool = rig.open()
  const ingest = createSpoolIngest(spool, systemClock, {
    commitWindowMs: 10,
    lanes,
  })
  const port = createSpoolPort(spool, ingest, rig.series)
  const { view } = createView({
    status: async () => status,
    salvage: createSalvage(port, rig.series),
  })
  const path = join(folder, `s${open.length}`)
  const socket = await openControlSocket({ path, view, log: silentLog })
  open.push({
    [Symbol.asyncDispose]: async () => {
      await socket[Symbol.asyncDispose]()
      await port[Symbol.asyncDispose]()
    },
  })
  return { spool, ask: (...args) => holdfast([...args, '--socket', path]) }
}

test('a whole file: check is good, stats say what is not sent', async () => {
  const path = createFile()
  const before = readFileSync(path)
  const [check, stats] = await Promise.all([
    holdfast(['spool', 'check', path]),
    holdfast(['spool', 'stats', path, '--json']),
  ])
  assert.equal(check.code, 0, check.err + check.out)
  assert.match(
    check.out,
    /^raw: 10 segments, 1,000 points, 5 points in the journal, 0 gap records: good$/m,
  )
  const said = JSON.parse(stats.out) as {
    unsent: number
    series: number
    lanes: { head: number; readers: unknown[] }[]
  }
  assert.deepEqual(
    [said.unsent, said.series, said.lanes[0]?.head, said.lanes[0]?.readers.length],
    [705, 1, 10, 1],
  )
  assert.deepEqual(readFileSync(path), before, 'a look changes nothing')
})

test('one flipped bit, a missing row, a damaged journal, reader or series are each found', async () => {
  const damages: readonly [string, (db: Database.Database) => void, RegExp][] = [
    ['flip', flip(5), /raw seq 5: segment is damaged/],
    ['missing', remove(6), /raw seq 6: nothing answers/],
    ['journal', (db) => db.prepare("UPDATE journal SET bytes = x'00'").run(), /journal row/],
    ['cursor', (db) => db.prepare('UPDATE cursors SET backlog = 9').run(), /one of its readers/],
    ['series', (db) => db.prepare("UPDATE series SET name = 'another'").run(), /series row/],
  ]
  for (const [name, change, problem] of damages) {
    const { code, out } = await holdfast(['spool', 'check', createFile(change)])
    assert.equal(code, exitCodes.failed, name)
    assert.match(out, problem, name)
  }
})

test('salvage: what was not sent comes once; what cannot be read is declared lost', async () => {
  const agent = await createAgent()
  const path = createFile(flip(7))
  const said = await agent.ask('spool', 'salvage', path)
  assert.equal(said.code, 0, said.err)
  assert.match(said.out, /^raw: 605 points not sent, 605 taken in now, 100 cannot be read$/m)
  agent.spool.seal(['raw'])
  const points = readAll(agent.spool).reduce(
    (sum, item) => sum + (item.type === 'segment' ? item.pointCount : 0),
    0,
  )
  assert.equal(points, 605)
  assert.deepEqual(
    agent.spool.gaps(10).map(({ reason, count }) => [reason, count]),
    [['damaged', 100]],
  )
  assert.match((await agent.ask('spool', 'salvage', path)).out, /0 taken in now/)
  assert.equal(agent.spool.lanes()[0]?.accepted, 705)
  assert.match(
    (await agent.ask('spool', 'salvage', createFile(), '--all')).out,
    /1,005 points held, 1,005 taken/,
  )
})

test('no lane of that name: nothing is taken, --into names another', async () => {
  const agent = await createAgent()
  const path = createFile((db) => db.prepare("UPDATE lanes SET name = 'gone'").run())
  const damaged = await agent.ask('spool', 'salvage', path)
  assert.equal(damaged.code, exitCodes.usage)
  assert.match(damaged.err, /--into/)
  assert.match(
    (await agent.ask('spool', 'salvage', path, '--into', 'raw')).out,
    /1,005 taken in now/,
  )
})

test('a file in use is refused with 75, one of a newer version and one that is none untouched', async () => {
  const path = createFile()
  const held = openSpool({ at: { path }, host, series: newSeries(), options: spoolOptions() })
  const busy = await holdfast(['spool', 'stats', path])
  held.close()
  assert.equal(busy.code, exitCodes.tryLater, busy.err)
  assert.match(busy.err, /HF-S002/)
  const newer = createFile((db) => db.pragma(`user_version = ${900 + 900 * 65_536}`))
  const before = readFileSync(newer)
  assert.match((await holdfast(['spool', 'salvage', newer])).err, /HF-S003/)
  assert.deepEqual(readFileSync(newer), before)
  const none = await holdfast(['spool', 'check', import.meta.filename])
  assert.equal(none.code, exitCodes.diskTrouble)
  assert.match(none.err, /HF-S005/)
  assert.match((await holdfast(['spool', 'check', join(folder, 'nothing')])).err, /HF-S001/)
})
