/**
 * Opens the files a crash left with the real spool and holds what it answers against the notes. Returns the first thing
 * that is wrong, '' when nothing is.
 */
import { join } from 'node:path'
import { openSegment, segmentDigest } from '../../../src/codec/segment.ts'
import { dictionaryHashStart, extendDictionaryHash } from '../../../src/codec/series-id.ts'
import { type Log, silentLog } from '../../../src/host.ts'
import type { GapReason, LaneItem, SeriesEntry } from '../../../src/model.ts'
import { openSpool, type Spool } from '../../../src/spool/spool.ts'
import type { LaneStatus, ReaderStatus } from '../../../src/spool-port.ts'
import type { Chance } from '../../sim/random.ts'
import { createTestClock, newSeries, readAll } from '../../unit/spool/support.ts'
import { examineCopies } from './copies.ts'
import {
  diskFreeBytes,
  type Facts,
  isCopied,
  isStaged,
  type LaneFacts,
  type LaneName,
  lanes,
  lifeOptions,
  lossReasons,
  numbersOf,
  pointsFrom,
  type Reached,
  seriesCount,
} from './life.ts'
import { createWatch, examineStages, lifeStages } from './stages.ts'

type Series = ReturnType<typeof newSeries>
type Stages = ReturnType<typeof lifeStages>
type Watch = ReturnType<typeof createWatch>
export const openAfter = (
  folder: string,
  seed: number,
  chance: Chance,
  series: Series,
  parts: {
    readonly log?: Log
    readonly stages?: Stages
    readonly clock?: ReturnType<typeof createTestClock>
  } = {},
): Spool =>
  openSpool({
    at: { path: join(folder, 'spool.db') },
    host: {
      clock: parts.clock ?? createTestClock(),
      randomBytes: chance.bytes,
      bootId: 'cc'.repeat(16),
      log: parts.log ?? silentLog,
    },
    series,
    options: lifeOptions(seed),
    diskFreeBytes,
    stages: parts.stages ?? lifeStages(seed),
  })

class Wrong extends Error {}
const demand = (holds: boolean, text: string): void => {
  if (!holds) throw new Wrong(text)
}

export const seqLastOf = (item: LaneItem): number =>
  item.type === 'segment' ? item.seq : item.seqLast
/** The dictionary of a segment's epoch, if it is what the segment says it is. */
export const createDictionaries = (spool: Spool) => {
  const known = new Map<string, { entries: readonly SeriesEntry[]; hashes: string[] }>()
  return (epoch: string, length: number, hash: string): readonly SeriesEntry[] => {
    let found = known.get(epoch)
    if (found === undefined || found.entries.length < length) {
      const entries = spool.dictionary(epoch, 0, 1e6)
      const hashes = [dictionaryHashStart]
      for (const { id } of entries) hashes.push(extendDictionaryHash(hashes.at(-1) as string, id))
      found = { entries, hashes }
      known.set(epoch, found)
    }
    demand(found.hashes[length] === hash, `missing: series of epoch ${epoch.slice(0, 8)}`)
    return found.entries
  }
}
type Dictionaries = ReturnType<typeof createDictionaries>

const pointsIn = (item: LaneItem): number =>
  item.type === 'segment' ? item.pointCount : item.gap.count

/** Walks the lane and returns how many points it answers, from the first one on. */
const walk = (
  lane: LaneName,
  facts: LaneFacts,
  items: readonly LaneItem[],
  from: { readonly seq: number; readonly points: number },
  reasons: readonly GapReason[],
  dictionaries: Dictionaries,
): number => {
  let { seq, points } = from
  let hash = ''
  for (const item of items) {
    const first = item.seq
    demand(first === seq + 1, `missing: ${lane} has no seq ${seq + 1}`)
    seq = seqLastOf(item)
    const read = facts.read.get(seq)
    if (item.type === 'tombstone') {
      hash = ''
      demand(
        reasons.includes(item.gap.reason),
        `missing: ${item.gap.count} of ${lane} as ${item.gap.reason}`,
      )
      const asked = item.gap.reason !== 'rejected' || facts.rejected.has(first)
      demand(asked, `missing: ${lane} ${first} rejected by nobody`)
      if (item.gap.reason !== 'malformed') points += item.gap.count
      continue
    }
    const { header, points: batch } = openSegment(item.bytes)
    const digest = segmentDigest(item.bytes)
    const same = read === undefined || read.digest === digest
    demand(same, `reused: ${lane} ${seq} of ${item.epoch.slice(0, 8)} has other content`)
    demand(hash === '' || header.previousHash === hash, `altered: ${lane} ${seq} breaks the chain`)
    hash = digest
    const entries = dictionaries(item.epoch, header.dictionaryLength, header.dictionaryHash)
    for (const number of numbersOf(lane, batch, entries)) {
      points++
      demand(
        number === points,
        `${number < points ? 'twice' : 'missing'}: ${lane} point ${points}, found ${number}`,
      )
    }
  }
  return points
}

const pendingBy = (reader: ReaderStatus, items: readonly LaneItem[]): number => {
  const { backlog, live } = reader.cursor
  return items.reduce((sum, item) => {
    const seq = seqLastOf(item)
    const passed = seq <= backlog || (live !== null && seq > live.start && seq <= live.upTo)
    return passed ? sum : sum + pointsIn(item)
  }, 0)
}
const examineReader = (
  lane: LaneName,
  facts: LaneFacts,
  status: LaneStatus,
  reader: ReaderStatus,
  items: readonly LaneItem[],
) => {
  const { cursor, pending, delivered, reduced, declaredLost, stage, passedOver = 0 } = reader
  const who = `${lane} ${reader.reader}`
  const nobody = { most: stage ? status.head : 0, least: 0 }
  const known = facts.readers.get(reader.reader) ?? nobody
  const top = Math.max(cursor.backlog, cursor.live?.upTo ?? 0)
  const jumped = cursor.live !== null && cursor.live.upTo === cursor.live.start
  demand(
    top <= known.most || (jumped && cursor.backlog <= known.most && top <= status.head),
    `ahead: ${who} stands at ${top}, never acked above ${known.most}`,
  )
  demand(
    cursor.backlog >= known.least,
    `behind: ${who} stands at ${cursor.backlog}, acked ${known.least}`,
  )
  demand(
    status.floor - 1 <= cursor.backlog,
    `ahead: ${lane} trimmed to ${status.floor - 1} before ${who}`,
  )
  const counted = pendingBy(reader, items)
  demand(pending === counted, `books: ${who} has ${pending} pending, finds ${counted}`)
  const sum = delivered + reduced + declaredLost + pending
  // The lane's last series is of no class: a stage passes over it, and it is none of its books' concern.
  const read = status.accepted - pending
  const outside = stage ? Math.floor((read + 1) / seriesCount) : 0
  const missing = status.accepted - sum
  const balanced = declaredLost === 0 ? missing === outside : missing >= 0 && missing <= outside
  demand(
    (stage ? balanced : missing === 0) &&
      missing === passedOver &&
      delivered >= 0 &&
      declaredLost >= 0,
    `books: ${who} ${delivered} + ${declaredLost} + ${pending} of ${status.accepted}`,
  )
}

export const reachedOf = (spool: Spool, lane: LaneName): Reached => {
  const value = spool.kept(`life/${lane}`)
  return value === null
    ? { points: 0, declared: 0 }
    : (JSON.parse(Buffer.from(value).toString()) as Reached)
}
const examineLane = (
  spool: Spool,
  lane: LaneName,
  facts: LaneFacts,
  reasons: readonly GapReason[],
  dictionaries: Dictionaries,
) => {
  const status = spool.lanes().find((one) => one.lane === lane) as LaneStatus
  const readMost = Math.max(0, ...facts.read.keys())
  demand(status.head >= readMost, `missing: ${lane} ends at ${status.head}, ${readMost} was read`)
  const below = status.floor - 1
  const start = below === 0 ? 0 : facts.read.get(below)?.points
  demand(start !== undefined, `missing: ${lane} trimmed to ${below}, which nobody read`)
  const items = readAll(spool, lane, below)
  const epochs = new Set(spool.epochs().map(({ epoch }) => epoch))
  const stray = items.find((item) => !epochs.has(item.epoch))
  demand(stray === undefined, `missing: epoch ${stray?.epoch} of ${lane} ${stray?.seq}`)
  const points = walk(lane, facts, items, { seq: below, points: start ?? 0 }, reasons, dictionaries)
  const acked = facts.states[0] as Reached
  demand(points >= acked.points, `missing: ${lane} ends at point ${points}, ${acked.points} acked`)
  const declared = spool
    .gaps(1e6)
    .reduce(
      (sum, gap) => sum + (gap.lane === lane && gap.reason === 'malformed' ? gap.count : 0),
      0,
    )
  const whole = facts.states.some((one) => one.points === points && one.declared === declared)
  demand(whole, `missing: ${lane} has ${points} points and ${declared} losses: half a commit`)
  const kept = reachedOf(spool, lane)
  const along = kept.points === points && kept.declared === declared
  demand(along, `missing: kept value of ${lane} says ${kept.points}, not ${points}`)
  demand(
    status.accepted === points + declared,
    `books: ${lane} accepted ${status.accepted} of ${points} + ${declared}`,
  )
  for (const reader of status.readers) examineReader(lane, facts, status, reader, items)
  return { points, head: status.head, declared }
}

/** It goes on: the next points get seqs that were never used, in the new epoch. */
const goOn = (
  { spool, series }: { spool: Spool; series: Series },
  lane: LaneName,
  facts: LaneFacts,
  at: { points: number; head: number },
  count: number,
) => {
  const used = Math.max(at.head, ...facts.read.keys())
  const points = pointsFrom((name) => series.ref(name, []), lane, at.points + 1, count)
  const result = spool.commit([{ lane, intakes: [{ points }], seal: true }])
  demand(result.kind === 'stored', `stuck: ${lane} takes no points`)
  const [next] = readAll(spool, lane, used)
  demand(next?.seq === used + 1 && next.epoch === spool.epoch, `reused: ${lane} goes on elsewhere`)
}

/** More than the longest window: those a crash fell into come to their ends. */
const pointsToEnd = 140
/** Driving stages on costs twice as much as all else. */
const drivenShare = 0.5
const examineSpool = (
  { spool, series }: { spool: Spool; series: Series },
  seed: number,
  facts: Facts,
  chance: Chance,
  driven: boolean,
) => {
  demand(!facts.epochs.has(spool.epoch), `reused: epoch ${spool.epoch}`)
  spool.seal([...lanes])
  const dictionaries = createDictionaries(spool)
  const next = chance.pick(lanes)
  for (const lane of lanes) {
    const laneFacts = facts.lanes.get(lane) as LaneFacts
    const at = examineLane(spool, lane, laneFacts, lossReasons(seed), dictionaries)
    if (driven && lane === 'raw') goOn({ spool, series }, lane, laneFacts, at, pointsToEnd)
    else if (lane === next) goOn({ spool, series }, lane, laneFacts, at, 3)
  }
}
const examineRaw = (spool: Spool, facts: Facts, watch: Watch, stages: Stages) => {
  const raw = facts.lanes.get('raw') as LaneFacts
  const text = examineStages(spool, stages, raw, createDictionaries(spool))
  demand(text === '', text)
  demand(watch.text() === '', `windows: a crash led to ${watch.text()}`)
}

export const examine = async (
  folder: string,
  seed: number,
  facts: Facts,
  chance: Chance,
): Promise<string> => {
  let spool: Spool | null = null
  try {
    const series = newSeries()
    const stages = lifeStages(seed)
    const watch = createWatch()
    const clock = createTestClock()
    spool = openAfter(folder, seed, chance, series, { log: watch.log, stages, clock })
    const driven = isStaged(seed) && chance.hit(drivenShare)
    examineSpool({ spool, series }, seed, facts, chance, driven)
    if (driven) examineRaw(spool, facts, watch, stages)
    if (isCopied(seed)) {
      const entriesOf = createDictionaries(spool)
      const text = await examineCopies(spool, seed, { series, clock }, facts, entriesOf)
      demand(text === '', text)
    }
    return ''
  } catch (error) {
    if (error instanceof Wrong) return error.message
    const text = error instanceof Error ? error.message : String(error)
    return text.startsWith('altered')
      ? text
      : `bug: ${error instanceof Error ? error.stack : error}`
  } finally {
    try {
      spool?.close()
    } catch {
      // What was wrong has been said.
    }
  }
}
