/**
 * `holdfast spool salvage FILE`: what a spool file that was set aside holds unsent goes to the running agent, which
 * takes it in as new points of the same lanes and sends it like all others.
 *
 * Invariants: the file is read here, in a process of its own, and not changed; the agent keeps how far it has come in
 * the transaction that takes the points, so that salvage may be broken off anywhere and asked for again; what cannot
 * be read is declared lost there, unless it was when the file was set aside.
 */
import { writeFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { sealSegment } from '../../codec/segment.ts'
import type { ControlClient } from '../../control/client.ts'
import type { AgentStatus } from '../../control/view.ts'
import { exitCodes, Failure } from '../../errors.ts'
import { createSystemHost, systemClock } from '../../host.ts'
import { segmentPointsMax } from '../../limits.ts'
import type { GapReason, PointBatch, SeriesEntry } from '../../model.ts'
import { releasedAtUs } from '../../release.ts'
import { createOpenColumns } from '../../spool/columns.ts'
import { type Found, type LaneLook, lookInto, type SpoolLook } from '../../spool/look.ts'
import { salvagedMark, setAsideIn } from '../../spool/set-aside.ts'
import { neverTrusted, rebased, stamped } from '../../spool/waiting.ts'
import type { CliContext } from '../context.ts'
import { amountText, countText } from '../format.ts'
import { createProgress } from './progress.ts'

interface SalvageOptions {
  readonly all?: boolean
  readonly into?: string
  readonly dryRun?: boolean
}
interface Loss {
  readonly reason: GapReason
  readonly count: number
  readonly source: string
}
export interface LaneSalvage {
  readonly lane: string
  readonly into: string
  /** Points the file holds that had not been sent to every destination. */
  readonly found: number
  /** Of them taken by the agent now; the others it had from a salvage before. */
  readonly taken: number
  /** Could not be read. */
  readonly unreadable: number
  /** Points that wait for a clock, of this boot, while the agent does not trust its own. */
  readonly waiting: number
}
/** Places of a lane in a file, in the order they were accepted: segments, journal, points that wait for a clock. */
const journalPlace = 2 ** 45
const waitingPlace = 2 ** 46
const batchBytesMax = 2 * 1024 * 1024
const answerMsMin = 120_000

/** Every reader has it: the backlog passed it, or the second cursor did. */
const isSent = ({ readers, intact }: LaneLook, seq: number): boolean =>
  intact &&
  readers.length > 0 &&
  readers.every(
    ({ backlog, live }) =>
      seq <= backlog || (live !== null && seq > live.start && seq <= live.upTo),
  )

interface Item {
  readonly place: number
  readonly found: Found | null
  readonly bytes: number
  readonly losses: readonly Loss[]
  readonly unreadable: number
}
const lost = (count: number): Loss[] =>
  count > 0 ? [{ reason: 'damaged', count, source: '' }] : []

/** Gives points that wait for a clock a time, as the agent would have; null: it does not know the time itself. */
type Stamp = (points: PointBatch, boot: string) => PointBatch | null
export const createStamp = (lastWallUs: number, bootId: string, offsetUs: number | null): Stamp => {
  let floorUs = Math.max(releasedAtUs, lastWallUs + 1)
  const offsets = new Map<string, number>()
  return (points, boot) => {
    if (boot === bootId) return offsetUs === null ? null : stamped(points, offsetUs, rebased)
    const offset = offsets.get(boot) ?? floorUs - (points.timeUs[0] ?? 0)
    offsets.set(boot, offset)
    const done = stamped(points, offset, neverTrusted)
    floorUs = Math.max(floorUs, (done.timeUs.at(-1) ?? 0) + 1)
    return done
  }
}

/** What of the lane has not been sent, in accept order; null in place of points that must wait. */
function* itemsOf(
  look: SpoolLook,
  lane: LaneLook,
  stamp: Stamp,
  all: boolean,
): Generator<Item | { readonly waiting: number }> {
  const gaps = look.gaps(lane.id)
  let next = 0
  for (let seq = Math.max(1, lane.floor); seq <= lane.head; seq++) {
    while ((gaps[next]?.seqLast ?? Infinity) < seq) next++
    const sent = isSent(lane, seq)
    if (sent && !all) continue
    const item = { place: seq, found: null, bytes: 0, losses: [], unreadable: 0 }
    const gap = gaps[next]
    if (gap !== undefined && gap.seq <= seq) {
      const { reason, count, source } = gap
      // Said once, at its end; a reader in the middle of it is told of all of it.
      if (seq === gap.seqLast && !sent && count > 0)
        yield { ...item, losses: [{ reason, count, source }] }
      continue
    }
    const found = look.segment(lane.id, seq)
    if (found === null) yield { ...item, unreadable: 1 }
    else if ('problem' in found)
      yield { ...item, losses: sent ? [] : lost(found.points), unreadable: found.points }
    else yield { ...item, found, bytes: found.bytes.length }
  }
  for (const { commit, boot, found } of look.journal(lane.id)) {
    const place = (boot === null ? journalPlace : waitingPlace) + commit
    const item = { place, bytes: 0, losses: [], unreadable: 0 }
    if ('problem' in found) {
      yield { ...item, found: null, losses: lost(found.points), unreadable: found.points }
      continue
    }
    const points = boot === null ? found.points : stamp(found.points, boot)
    if (points === null) yield { waiting: found.points.count }
    else yield { ...item, found: { ...found, points } }
  }
}

/** Gathers points of several epochs under numbers of its own, until a request is full. */
const createParcel = (laneId: number) => {
  let columns = createOpenColumns()
  let numbers = new Map<bigint, number>()
  let series: SeriesEntry[] = []
  let losses: Loss[] = []
  let bytes = 0
  const numberOf = (entry: SeriesEntry): number => {
    let number = numbers.get(entry.id)
    if (number === undefined) {
      number = series.push(entry) - 1
      numbers.set(entry.id, number)
    }
    return number
  }
  return {
    isEmpty: () => columns.count() === 0 && losses.length === 0,
    hasRoom: (item: Item) =>
      columns.count() + (item.found?.points.count ?? 0) <= segmentPointsMax &&
      bytes + item.bytes <= batchBytesMax &&
      losses.length < 1_000,
    add: ({ found, losses: more, bytes: size }: Item) => {
      bytes += size
      losses.push(...more)
      if (found === null) return
      const { points, entries } = found
      columns.append(points, (source, into) => {
        source.forEach((index, at) => {
          into[at] = numberOf(entries[index] as SeriesEntry)
        })
      })
    },
    take: () => {
      const count = columns.count()
      const header = {
        epoch: '0'.repeat(32),
        lane: laneId,
        seq: 1,
        sealNumber: 0,
        previousHash: '0'.repeat(32),
        configRevision: 0,
        dictionaryLength: series.length,
        dictionaryHash: '0'.repeat(32),
        bootId: '',
        monotonicUs: 0,
        clockState: 'trusted',
      } as const
      const segment = count === 0 ? null : sealSegment(header, columns.slice(0, count), 'zstd')
      const taken = {
        series: series.map(({ name, tags, unit }) => ({ name, tags, unit })),
        segment: segment === null ? null : Buffer.from(segment).toString('base64'),
        losses,
      }
      columns = createOpenColumns()
      numbers = new Map()
      series = []
      losses = []
      bytes = 0
      return taken
    },
  }
}

interface Work {
  readonly context: CliContext
  readonly client: ControlClient | null
  readonly look: SpoolLook
  readonly stamp: Stamp
  readonly options: SalvageOptions
  /** Of a file whose losses the agent declared when it set it aside. */
  readonly declared: boolean
  readonly progress: (text: string) => void
}
const salvageLane = async (work: Work, lane: LaneLook): Promise<LaneSalvage> => {
  const { client, look, options, progress } = work
  const into = options.into ?? lane.name
  if (into === '')
    throw new Failure(
      'HF-X002',
      `the name of lane ${lane.id} is damaged`,
      'Name the lane that takes its points with --into.',
    )
  const file = { spool: look.spoolId, lane_id: lane.id }
  const asked = await client?.post<{ up_to: number }>('/v1/salvage/place', file)
  const done = asked?.up_to ?? 0
  const parcel = createParcel(lane.id)
  let [found, taken, unreadable, waiting, upTo] = [0, 0, 0, 0, 0]
  const send = async () => {
    const { losses, ...rest } = parcel.take()
    if (client === null) return
    const body = { ...file, lane: into, up_to: upTo, ...rest, losses: work.declared ? [] : losses }
    taken += (await client.post<{ points: number }>('/v1/salvage', body)).points
    progress(`${into}: ${countText(found)} points`)
  }
  for (const item of itemsOf(look, lane, work.stamp, options.all === true)) {
    if (work.context.signal.aborted)
      throw new Failure('HF-X012', 'broken off', 'Ask again: it goes on from here.')
    if ('waiting' in item) {
      waiting += item.waiting
      continue
    }
    found += item.found?.points.count ?? 0
    unreadable += item.unreadable
    if (item.place <= done) continue
    if (!parcel.isEmpty() && !parcel.hasRoom(item)) await send()
    parcel.add(item)
    upTo = item.place
  }
  if (!parcel.isEmpty()) await send()
  return { lane: lane.name || `lane ${lane.id}`, into, found, taken, unreadable, waiting }
}

const show = (context: CliContext, options: SalvageOptions, lanes: readonly LaneSalvage[]) => {
  for (const one of lanes) {
    const parts = [`${amountText(one.found, 'point')} not sent`]
    if (options.all === true) parts[0] = `${amountText(one.found, 'point')} held`
    if (options.dryRun !== true) parts.push(`${countText(one.taken)} taken in now`)
    if (one.unreadable > 0) parts.push(`${countText(one.unreadable)} cannot be read`)
    if (one.waiting > 0) parts.push(`${countText(one.waiting)} wait until the clock is trusted`)
    const into = one.into === one.lane ? '' : ` into ${one.into}`
    context.out(`${one.lane}${into}: ${parts.join(', ')}`)
  }
}

/** Beside the file, so that health says no more of it; the file itself stays. */
const noteSalvaged = (path: string): boolean => {
  if (setAsideIn([basename(path)], dirname(path)).length === 0) return false
  try {
    writeFileSync(`${path}${salvagedMark}`, '', { flag: 'wx', mode: 0o640 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  return true
}

export const salvage = async (
  context: CliContext,
  options: SalvageOptions,
  given: string,
): Promise<number> => {
  const path = resolve(given)
  using look = lookInto(path)
  if (!/^[0-9a-f]{32}$/.test(look.spoolId))
    throw new Failure(
      'HF-S005',
      `${path} does not say which spool it is`,
      'Nothing was taken from it.',
    )
  const dryRun = options.dryRun === true
  const client = dryRun ? null : await context.client(answerMsMin)
  const status = client === null ? null : await client.get<AgentStatus>('/v1/status')
  const nowUs = systemClock.nowUs() - systemClock.monotonicMs() * 1_000
  const offsetUs = dryRun || status?.clock.trusted === true ? nowUs : null
  const work: Work = {
    context,
    client,
    look,
    options,
    stamp: createStamp(look.lastWallUs, createSystemHost().bootId, offsetUs),
    declared: basename(path).includes('.damaged-'),
    progress: createProgress(context),
  }
  const lanes: LaneSalvage[] = []
  for (const lane of look.lanes) lanes.push(await salvageLane(work, lane))
  const rest = lanes.reduce((sum, one) => sum + one.waiting, 0)
  const noted = !dryRun && rest === 0 && noteSalvaged(path)
  if (context.flags.json) context.json({ file: path, complete: !dryRun && rest === 0, lanes })
  else show(context, options, lanes)
  if (dryRun) context.say('nothing was sent: without --dry-run the running agent takes it in')
  else if (rest > 0) context.say('ask again once the clock of this machine is trusted')
  else if (noted) context.say(`done; ${path} is not needed any more and stays until you remove it`)
  return exitCodes.good
}
