/**
 * `FOLDER SEED OPENING`: one opening of a real spool, driven by chance through its port; every wish and every ack is
 * noted in `FOLDER/notes`. Ends by itself: closed, or killed at some point of a transaction.
 */
import { openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { openSegment, segmentDigest } from '../../../src/codec/segment.ts'
import { silentLog } from '../../../src/host.ts'
import type { LaneItem } from '../../../src/model.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import { openSpool } from '../../../src/spool/spool.ts'
import { createChance } from '../../sim/random.ts'
import { createTestClock, newSeries } from '../../unit/spool/support.ts'
import { startCopies } from './copies.ts'
import {
  diskFreeBytes,
  isCopied,
  isStaged,
  type LaneName,
  lanes,
  lifeOptions,
  type Note,
  numberAt,
  pointsFrom,
  type Reached,
  readers,
} from './life.ts'
import { lifeStages } from './stages.ts'

const [folder = '', seedText = '1', openingText = '0'] = process.argv.slice(2)
const seed = Number(seedText)
const opening = Number(openingText)
const openings = 3
const steps = 110
const commitWindowMs = 5

const notes = openSync(join(folder, 'notes'), 'a')
const note = (one: Note) => writeSync(notes, `${JSON.stringify(one)}\n`)
const chance = createChance(seed, `writer ${opening}`)
const clock = createTestClock()
const series = newSeries()
const options = lifeOptions(seed)
const refOf = (name: string) => series.ref(name, [])

/** The step and the place at which this opening is killed; the last one is closed every other time. */
const killStep = chance.int(steps / 2, steps)
const killAt = chance.pick(['before-commit', 'after-commit', 'after-anchor', 'before-ack', 'idle'])
const closes = opening === openings - 1 ? seed % 2 === 0 : chance.hit(0.3)
let step = 0
const spool = openSpool({
  at: { path: join(folder, 'spool.db') },
  host: {
    clock,
    randomBytes: chance.bytes,
    bootId: `b${opening}`.repeat(16),
    log: silentLog,
  },
  series,
  options,
  diskFreeBytes,
  stages: lifeStages(seed),
  failpoint: (name) => {
    if (!closes && step >= killStep && name === killAt) process.kill(process.pid, 'SIGKILL')
  },
})
const port = createSpoolPort(
  spool,
  createSpoolIngest(spool, clock, { commitWindowMs, lanes: options.lanes }),
  series,
)

const reached = new Map<LaneName, Reached>()
for (const lane of lanes) {
  const value = await port.kept(`life/${lane}`)
  const none = { points: 0, declared: 0 }
  reached.set(lane, value === null ? none : (JSON.parse(Buffer.from(value).toString()) as Reached))
  for (const reader of readers) await port.openReader(lane, reader, 'oldest')
}
note({
  note: 'opened',
  epoch: port.epoch,
  at: Object.fromEntries(reached) as Record<LaneName, Reached>,
})
/** How far the lane's points are answered by seqs up to this one. */
const through = new Map(lanes.map((lane) => [lane, new Map<number, number>([[0, 0]])]))
for (const line of readFileSync(join(folder, 'notes'), 'utf8').split('\n').slice(0, -1)) {
  const one = JSON.parse(line) as Note
  if (one.note === 'read') through.get(one.lane)?.set(one.seqLast, one.points)
}

const append = (lane: LaneName) => {
  const was = reached.get(lane) as Reached
  const count = chance.int(1, lane === 'bulk' ? 90 : 25)
  const lost = chance.hit(0.1) ? chance.int(1, 3) : 0
  const at = { points: was.points + count, declared: was.declared + lost }
  reached.set(lane, at)
  note({ note: 'wanted', lane, at })
  const stored = port.append(lane, {
    points: pointsFrom(refOf, lane, was.points + 1, count),
    kept: [{ key: `life/${lane}`, value: Buffer.from(JSON.stringify(at)) }],
    losses: lost === 0 ? [] : [{ source: 'door', reason: 'malformed', count: lost, text: 'test' }],
    urgent: chance.hit(0.2),
  })
  // What still waits when the spool closes is refused then.
  void stored.then(() => note({ note: 'acked', lane, at })).catch(() => {})
}

const noteRead = (lane: LaneName, item: LaneItem, before: number): number => {
  if (item.type === 'tombstone') {
    const lostPoints = item.gap.reason === 'malformed' ? 0 : item.gap.count
    const points = before + lostPoints
    note({ note: 'read', lane, seqLast: item.seqLast, points, epoch: item.epoch, digest: '' })
    return points
  }
  const points = openSegment(item.bytes).points.timeUs.reduce(
    (most, time) => Math.max(most, numberAt(time)),
    before,
  )
  const { seq: seqLast, epoch, bytes } = item
  note({ note: 'read', lane, seqLast, points, epoch, digest: segmentDigest(bytes) })
  return points
}
const readAndAck = async (lane: LaneName, reader: string) => {
  const status = (await port.lanes()).find((one) => one.lane === lane)
  const cursor = status?.readers.find((one) => one.reader === reader)?.cursor
  if (cursor === undefined) throw new Error(`no reader ${reader}`)
  const onLive = cursor.live !== null && chance.hit(0.5)
  const after = onLive && cursor.live !== null ? cursor.live.upTo : cursor.backlog
  const items = await port.read(lane, after, chance.int(1, 40_000))
  const known = through.get(lane) as Map<number, number>
  let before = known.get(after)
  for (const item of items) {
    // After a jump of the cursor: a segment says itself where it is.
    if (before === undefined && item.type === 'tombstone') return
    before = noteRead(lane, item, before ?? 0)
    const seq = item.type === 'segment' ? item.seq : item.seqLast
    known.set(seq, before)
    if (chance.hit(0.1)) break
  }
  const seqs = items.map((item) => (item.type === 'segment' ? item.seq : item.seqLast))
  const upTo = seqs.filter((seq) => known.has(seq)).pop()
  if (upTo === undefined) return
  note({ note: 'passing', lane, reader, upTo })
  await port.ack(lane, reader, { which: onLive ? 'live' : 'backlog', upTo })
}
const goBack = async (lane: LaneName, reader: string) => {
  const status = (await port.lanes()).find((one) => one.lane === lane)
  const cursor = status?.readers.find((one) => one.reader === reader)?.cursor
  if (status === undefined || cursor === undefined) return
  const after = Math.max(status.floor - 1, cursor.backlog - chance.int(0, 5))
  note({ note: 'rewinding', lane, reader, after })
  await port.rewind(lane, reader, after)
}
const staged = isStaged(seed)
const copies = isCopied(seed) ? startCopies(port, series, clock, chance) : null
/** A clock that stands closes no window: it only lets stages look what they still hold. */
const standing = { nowUs: clock.nowUs(), bootId: 'b', monotonicUs: 0, trusted: true }
const rest = async () => {
  if (staged) await port.setClock(standing)
  // Long enough for a checkpoint of its own, or for a lane's delay.
  await clock.pass(staged && chance.hit(0.5) ? 61_000 : 1_000)
}
const reject = async (lane: LaneName) => {
  // What of it a window has seen before depends on the moment.
  if ((staged && lane === 'raw') || copies !== null) return
  const status = (await port.lanes()).find((one) => one.lane === lane)
  if (status === undefined || status.head < status.floor) return
  const seq = chance.int(status.floor, status.head)
  note({ note: 'rejecting', lane, seq })
  await port.quarantine(lane, seq, 'rejected', 'test')
}

const act = async () => {
  const lane = chance.pick(lanes)
  const reader = chance.pick(readers)
  const what = chance.next()
  if (copies !== null && chance.hit(0.1)) await copies.ask()
  if (what < 0.6) for (let more = chance.int(1, 4); more > 0; more--) append(chance.pick(lanes))
  else if (what < 0.66) await port.seal(lane)
  else if (what < 0.92) for (const one of lanes) await readAndAck(one, reader)
  else if (what < 0.94) await goBack(lane, reader)
  else if (what < 0.96) await port.startLive(lane, 'copy')
  else if (what < 0.97) await reject(lane)
  else await rest()
  // Whatever was stored is noted as acked before anything else is wanted.
  await clock.pass(chance.hit(0.8) ? commitWindowMs : 0)
}
for (; step < steps; step++) {
  if (!closes && step === killStep && killAt === 'idle') process.kill(process.pid, 'SIGKILL')
  await act()
}
copies?.stop()
if (closes) await port[Symbol.asyncDispose]()
else process.kill(process.pid, 'SIGKILL')
