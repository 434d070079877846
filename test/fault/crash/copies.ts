/**
 * Copies of chosen points in a life, and after its crashes: gone on with to the end they are what was asked for, each
 * point once, bit for bit and in the order of its source, whatever was asked for or cancelled meanwhile.
 */
import { openSegment, orderOf } from '../../../src/codec/segment.ts'
import { silentLog } from '../../../src/host.ts'
import type { SealOrder, SeriesEntry } from '../../../src/model.ts'
import { matchesGlob } from '../../../src/pipeline/globs.ts'
import {
  createSelections,
  replayLane,
  type SelectionStatus,
} from '../../../src/pipeline/selections.ts'
import { createSpoolIngest, createSpoolPort } from '../../../src/spool/port.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import type { SpoolPort } from '../../../src/spool-port.ts'
import type { Chance } from '../../sim/random.ts'
import { type createTestClock, type newSeries, readAll } from '../../unit/spool/support.ts'
import {
  type Facts,
  type LaneFacts,
  type LaneName,
  lanes,
  lifeOptions,
  nameOf,
  numbersOf,
  timeOf,
} from './life.ts'

type Series = ReturnType<typeof newSeries>
type TestClock = ReturnType<typeof createTestClock>

/** Reads little at a time: a copy takes many transactions. */
const copying = (port: SpoolPort, series: Series, clock: TestClock, readBytes: number) => {
  const read: typeof port.read = (lane, after, bytesMax, upTo) =>
    port.read(lane, after, Math.min(bytesMax, readBytes), upTo)
  const spool = { ...port, read }
  const selections = createSelections({ spool, series, host: { clock, log: silentLog } })
  const stop = new AbortController()
  void selections.run(stop.signal).catch(() => {})
  return { selections, stop: () => stop.abort() }
}
const isOpen = ({ state }: SelectionStatus) => state === 'waiting' || state === 'running'
const asksMax = 5
/** In a life: asks for copies now and then, and takes some of it back. */
export const startCopies = (port: SpoolPort, series: Series, clock: TestClock, chance: Chance) => {
  const { selections, stop } = copying(port, series, clock, chance.pick([600, 2_000, 20_000]))
  let asked = 0
  const ask = async () => {
    if (asked++ >= asksMax) return
    const open = selections.list().findLast(isOpen)
    if (open !== undefined && chance.hit(0.3)) await selections.cancel(open.id)
    const lane = chance.pick(lanes)
    const fromUs = chance.hit(0.5) ? 0 : timeOf(chance.int(1, 600))
    const names = chance.hit(0.5) ? [`${lane}-*`] : [`${lane}-1`, `${lane}-4`]
    await selections.start({ lane, series: names, fromUs, toUs: 4e15 })
  }
  return { ask, stop }
}

type EntriesOf = (epoch: string, length: number, hash: string) => readonly SeriesEntry[]
/** Of a lane: what its seqs answer for, as far as it is known, and the order of what is held. */
const placesOf = (spool: Spool, lane: LaneName, { read }: LaneFacts) => {
  const ends = new Map<number, number>([[0, 0]])
  for (const [seq, { points }] of read) ends.set(seq, points)
  const held: { readonly end: number; readonly order: SealOrder }[] = []
  const floor = spool.lanes().find((one) => one.lane === lane)?.floor ?? 1
  let end = ends.get(floor - 1)
  for (const item of readAll(spool, lane, floor - 1)) {
    if (end === undefined) break
    if (item.type === 'tombstone') {
      for (let seq = item.seq; seq <= item.seqLast; seq++) ends.set(seq, end)
      continue
    }
    end += item.pointCount
    ends.set(item.seq, end)
    held.push({ end, order: orderOf(openSegment(item.bytes).header) })
  }
  const from = ends.get(floor - 1) ?? Number.POSITIVE_INFINITY
  return {
    ends,
    /** Undefined where it is no longer held. */
    orderAt: (number: number) =>
      number > from ? held.find((one) => one.end >= number)?.order : undefined,
  }
}
type Places = ReturnType<typeof placesOf>

/** Numbers that it should have copied in all; null where nobody can say. */
const wantedBy = (job: SelectionStatus, { ends }: Places): readonly number[] | null => {
  const [before, last] = [ends.get(job.seqFirst - 1), ends.get(job.seqLast)]
  if (before === undefined || last === undefined) return null
  const gone = job.gone.map((range) => [ends.get(range[0] - 1), ends.get(range[1])] as const)
  if (gone.flat().includes(undefined)) return null
  const wanted: number[] = []
  for (let number = before + 1; number <= last; number++) {
    const timeUs = timeOf(number)
    const chosen = job.series.some((glob) =>
      matchesGlob(glob, nameOf(job.lane as LaneName, number)),
    )
    const isGone = gone.some(([from = 0, to = 0]) => number > from && number <= to)
    if (chosen && !isGone && timeUs >= job.fromUs && timeUs < job.toUs) wanted.push(number)
  }
  return wanted
}

interface Copied {
  readonly lane: LaneName
  readonly numbers: readonly number[]
}
/** The copies that lie in their lane, one by one; throws where one is not what it is of. */
const copiesIn = (
  spool: Spool,
  entriesOf: EntriesOf,
  places: ReadonlyMap<LaneName, Places>,
): readonly Copied[] | string => {
  const epochs = new Set(spool.epochs().map(({ epoch }) => epoch))
  const copies: Copied[] = []
  for (const item of readAll(spool, replayLane)) {
    if (item.type === 'tombstone') return `missing: copy ${item.seq}`
    const { header, points } = openSegment(item.bytes)
    const { copyOf } = header
    if (copyOf === undefined) return `altered: copy ${item.seq} has an order of its own`
    if (!epochs.has(copyOf.epoch)) return `missing: the opening that copy ${item.seq} names`
    const entries = entriesOf(item.epoch, header.dictionaryLength, header.dictionaryHash)
    const lane = entries[points.series[0] as number]?.name.split('-')[0] as LaneName
    const numbers = numbersOf(lane, points, entries)
    const order = places.get(lane)?.orderAt(numbers.at(-1) as number)
    const same = order?.epoch === copyOf.epoch && order.sealNumber === copyOf.sealNumber
    if (order !== undefined && !same) return `altered: copy ${item.seq} has another order`
    copies.push({ lane, numbers })
  }
  return copies
}

const commitWindowMs = 5
const turnsMax = 2_000
/** What is wrong once all copies are gone on with to their ends, '' for nothing. */
export const examineCopies = async (
  spool: Spool,
  seed: number,
  { series, clock }: { readonly series: Series; readonly clock: TestClock },
  facts: Facts,
  entriesOf: EntriesOf,
): Promise<string> => {
  const options = { commitWindowMs, lanes: lifeOptions(seed).lanes }
  const port = createSpoolPort(spool, createSpoolIngest(spool, clock, options), series)
  const { selections, stop } = copying(port, series, clock, 2_000)
  await clock.pass(0)
  for (let turn = 0; selections.list().some(isOpen); turn++) {
    if (turn === turnsMax) return 'missing: there is no end of copying'
    await clock.pass(commitWindowMs)
  }
  stop()
  const places = new Map(
    lanes.map((lane) => [lane, placesOf(spool, lane, facts.lanes.get(lane) as LaneFacts)]),
  )
  const copies = copiesIn(spool, entriesOf, places)
  if (typeof copies === 'string') return copies
  const left = copies.flatMap(({ lane, numbers }) => numbers.map((number) => ({ lane, number })))
  for (const job of [...selections.list()].sort((a, b) => a.id - b.id)) {
    if (job.state === 'failed') return `bug: copying failed: ${job.text}`
    const own = left.splice(0, job.pointsCopied)
    const who = `copies ${job.id} of ${job.lane}`
    if (own.length < job.pointsCopied) return `missing: ${who} are ${own.length}`
    if (own.some(({ lane }) => lane !== job.lane)) return `twice: ${who} hold others`
    const wanted = wantedBy(job, places.get(job.lane as LaneName) as Places)
    if (wanted === null) continue
    const numbers = own.map(({ number }) => number).sort((a, b) => a - b)
    const wrong = numbers.findIndex((number, at) => number !== wanted[at])
    if (wrong >= 0) return `twice: ${who}: point ${numbers[wrong]}, not ${wanted[wrong]}`
    if (job.state === 'done' && numbers.length < wanted.length)
      return `missing: ${who}: ${numbers.length} of ${wanted.length}`
  }
  return left.length === 0 ? '' : `twice: ${left.length} copies that no job speaks of`
}
