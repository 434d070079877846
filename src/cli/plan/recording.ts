/**
 * The points of a recording, a piece at a time: line protocol, a points file, a lane of a spool or of a running agent.
 *
 * Invariants: at most a few MiB of a file are in memory; what cannot be read is counted and said, never passed over in
 * silence; points come in the order they were accepted in, as far as the recording tells.
 */
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { readBlock, readNdjson } from '../../codec/points-file.ts'
import { openSegment } from '../../codec/segment.ts'
import type { ControlClient } from '../../control/client.ts'
import { Failure, textOf } from '../../errors.ts'
import type { PointBatch, SeriesEntry, SeriesTable } from '../../model.ts'
import { createLineParser, type LinePrecision } from '../../protocol/line.ts'
import type { SpoolLook } from '../../spool/look.ts'

export interface Troubles {
  /** Lines and points that could not be read. */
  malformed: number
  /** The first of them, with its place. */
  first: string
  /** Declared lost in the recording. */
  lost: number
}
export type Recording = AsyncIterable<PointBatch>

const holds = (lanes: readonly string[]) => `It holds: ${lanes.join(', ')}. Name one with --lane.`
const pieceBytes = 1 << 20
const piecePoints = 60_000
/** A line protocol string may be long; a line beyond this is none. */
const lineBytesMax = 4 << 20
const newline = 10

const beginning = async (path: string): Promise<Buffer> => {
  try {
    await using file = await open(path)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0)
    return buffer.subarray(0, bytesRead)
  } catch (error) {
    throw new Failure('HF-X031', `cannot read ${path}: ${textOf(error)}`, 'Name a recording.')
  }
}
export const isSpoolFile = async (path: string): Promise<boolean> =>
  (await beginning(path)).toString('latin1', 0, 15) === 'SQLite format 3'

async function* piecesOf(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const from = createReadStream(path, { highWaterMark: pieceBytes, signal })
  const unpack = path.endsWith('.gz')
    ? createGunzip()
    : path.endsWith('.zst')
      ? createZstdDecompress()
      : null
  if (unpack !== null) from.once('error', (error) => unpack.destroy(error)).pipe(unpack)
  try {
    for await (const piece of unpack ?? from) yield piece as Buffer
  } catch (error) {
    if (!signal.aborted) throw new Failure('HF-X031', `cannot read ${path}: ${textOf(error)}`)
  } finally {
    from.destroy()
  }
}

const withTimes = (points: PointBatch, path: string): PointBatch => {
  if (!points.timeUs.some(Number.isNaN)) return points
  const text = `${path} has points without a time`
  throw new Failure('HF-X031', text, 'A recording says when: give each line its timestamp.')
}
async function* linesOf(
  path: string,
  series: SeriesTable,
  precision: LinePrecision,
  troubles: Troubles,
  signal: AbortSignal,
): AsyncGenerator<PointBatch> {
  const parser = createLineParser(series)
  let rest: Buffer = Buffer.alloc(0)
  let lines = 0
  function* read(bytes: Buffer) {
    const reading = parser.read(bytes, precision)
    while (!reading.done()) yield withTimes(reading.next(piecePoints), path)
    const { malformed, refused } = reading.counts
    troubles.malformed += malformed + refused
    const [first] = reading.troubles
    if (first !== undefined) troubles.first ||= `${path}:${lines + first.line}: ${first.text}`
    for (const byte of bytes) if (byte === newline) lines++
  }
  for await (const piece of piecesOf(path, signal)) {
    const all = Buffer.concat([rest, piece])
    const end = all.lastIndexOf(newline) + 1
    if (end === 0 && all.length > lineBytesMax)
      throw new Failure('HF-X031', `${path} is no recording`, 'Line protocol, or a points file.')
    yield* read(all.subarray(0, end))
    rest = all.subarray(end)
  }
  yield* read(rest)
}
async function* blocksOf(
  path: string,
  series: SeriesTable,
  lane: string,
  troubles: Troubles,
  signal: AbortSignal,
): AsyncGenerator<PointBatch> {
  const parser = createLineParser(series)
  const lanes = new Set<string>()
  let rest: Buffer = Buffer.alloc(0)
  for await (const piece of piecesOf(path, signal)) {
    rest = Buffer.concat([rest, piece])
    let at = 0
    for (let read = readBlock(rest, at); read !== undefined; read = readBlock(rest, at)) {
      const { header, body } = read.block
      lanes.add(header.lane)
      at = read.end
      if (header.lane === lane) {
        troubles.lost += (header.gap?.count ?? 0) + header.leftOut
        const all = Number.POSITIVE_INFINITY
        if (header.format === 'ndjson') yield readNdjson(body, series, [])
        else yield parser.read(body, 'us').next(all)
      }
      if (at === rest.length) break
    }
    rest = rest.subarray(at)
  }
  if (rest.length > 0 && !signal.aborted)
    throw new Failure('HF-K020', `${path} ends within a block`, 'Copy it again.')
  if (!lanes.has(lane) && !signal.aborted)
    throw new Failure('HF-X031', `${path} holds nothing of lane "${lane}"`, holds([...lanes]))
}

export interface FileOptions {
  readonly series: SeriesTable
  /** Of a points file: the lane whose points are read. */
  readonly lane: string
  /** Of line protocol. */
  readonly precision: LinePrecision
  readonly troubles: Troubles
  readonly signal: AbortSignal
}
/** A file of points, by what it begins with. */
export async function* readFile(path: string, options: FileOptions): AsyncGenerator<PointBatch> {
  const { series, lane, precision, troubles, signal } = options
  let first = await beginning(path)
  if (/\.(gz|zst)$/.test(path)) {
    for await (const piece of piecesOf(path, signal)) {
      first = piece.subarray(0, 64)
      break
    }
  }
  if (/^(# )?\{"holdfast":/.test(first.toString('latin1')))
    yield* blocksOf(path, series, lane, troubles, signal)
  else yield* linesOf(path, series, precision, troubles, signal)
}

/**
 * Points of a segment come series by series; in the order of their times, and within a series as they were accepted,
 * they are as near to how they came as can be told.
 */
export const inOrder = (
  points: PointBatch,
  entryAt: (index: number) => SeriesEntry | undefined,
  series: SeriesTable,
  fromUs = 0,
): PointBatch => {
  const { timeUs } = points
  const arrived = new Float64Array(points.count)
  const newest = new Map<number, number>()
  for (let at = 0; at < points.count; at++) {
    const index = points.series[at] as number
    const time = Math.max(timeUs[at] as number, newest.get(index) ?? Number.NEGATIVE_INFINITY)
    newest.set(index, time)
    arrived[at] = time
  }
  const recent = (at: number) => (timeUs[at] as number) >= fromUs
  const order = Uint32Array.from(arrived.keys()).filter(recent)
  const count = order.length
  order.sort((a, b) => (arrived[a] as number) - (arrived[b] as number) || a - b)
  const refs = new Map<number, number>()
  const made = {
    series: new Uint32Array(count),
    timeUs: new Float64Array(count),
    kinds: new Uint8Array(count),
    qualities: new Uint8Array(count),
    bits: new BigUint64Array(count),
  }
  order.forEach((at, to) => {
    const index = points.series[at] as number
    let ref = refs.get(index)
    if (ref === undefined) {
      const { name, tags, unit } = entryAt(index) as SeriesEntry
      ref = series.ref(name, tags, unit)
      refs.set(index, ref)
    }
    made.series[to] = ref
    made.timeUs[to] = timeUs[at] as number
    made.kinds[to] = points.kinds[at] as number
    made.qualities[to] = points.qualities[at] as number
    made.bits[to] = points.bits[at] as bigint
  })
  return { count, ...made, texts: points.texts }
}

/** What a lane of a spool file still holds. */
export function* readLane(
  look: SpoolLook,
  lane: string,
  fromUs: number,
  series: SeriesTable,
  troubles: Troubles,
): Generator<PointBatch> {
  const found = look.lanes.find(({ name }) => name === lane)
  if (found === undefined)
    throw new Failure(
      'HF-X031',
      `${look.path} has no lane "${lane}"`,
      holds(look.lanes.map(({ name }) => name)),
    )
  for (let seq = Math.max(1, found.floor); seq <= found.head; seq++) {
    const segment = look.segment(found.id, seq)
    if (segment === null) continue
    if ('problem' in segment) {
      troubles.malformed += segment.points
      troubles.first ||= `${lane} seq ${seq}: ${segment.problem}`
    } else yield inOrder(segment.points, (index) => segment.entries[index], series, fromUs)
  }
  for (const { boot, found: row } of look.journal(found.id)) {
    if (boot === null && !('problem' in row))
      yield inOrder(row.points, (index) => row.entries[index], series, fromUs)
  }
  for (const { count } of look.gaps(found.id)) troubles.lost += count
}
interface SegmentsJson {
  readonly head: number
  readonly items: readonly {
    readonly seqLast: number
    readonly epoch: string
    readonly bytes: string | null
    readonly lost: number
  }[]
}
/** What a lane of a running agent holds now, sealed. */
export async function* readAgent(
  client: Pick<ControlClient, 'get'>,
  lane: string,
  fromUs: number,
  series: SeriesTable,
  troubles: Troubles,
): AsyncGenerator<PointBatch> {
  const dictionaries = new Map<string, SeriesEntry[]>()
  const entriesOf = async (epoch: string, length: number): Promise<readonly SeriesEntry[]> => {
    const known = dictionaries.get(epoch) ?? []
    dictionaries.set(epoch, known)
    while (known.length < length) {
      const path = `/v1/dictionary?epoch=${epoch}&first=${known.length}`
      const more = await client.get<{ series: SeriesEntry[] }>(path)
      if (more.series.length === 0) break
      known.push(...more.series)
    }
    return known
  }
  let head = Number.POSITIVE_INFINITY
  for (let after = 0; after < head; ) {
    const path = `/v1/segments?lane=${encodeURIComponent(lane)}&after=${after}&from_us=${fromUs}`
    const answer = await client.get<SegmentsJson>(path)
    if (head === Number.POSITIVE_INFINITY) head = answer.head
    if (answer.items.length === 0) return
    for (const { seqLast, epoch, bytes, lost } of answer.items) {
      after = seqLast
      troubles.lost += lost
      if (bytes === null) continue
      const { header, points } = openSegment(Buffer.from(bytes, 'base64'))
      const entries = await entriesOf(epoch, header.dictionaryLength)
      yield inOrder(points, (index) => entries[index], series, fromUs)
    }
  }
}
export const emptyTroubles = (): Troubles => ({ malformed: 0, first: '', lost: 0 })
