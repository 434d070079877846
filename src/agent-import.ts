/**
 * Takes blocks of points files into the spool of a running agent: the other side of an air gap.
 *
 * Invariants: which blocks were taken is committed with their points, in one transaction, so a block is taken once
 * however often and wherever its file is imported; a block is taken whole or not at all; its series carry the agent
 * they come from in the tag `origin`, before what stood there: no two gateways share one; losses stay losses.
 */
import { type BlockHeader, readBlock, readNdjson } from './codec/points-file.ts'
import { createSeqRanges, type SeqRanges } from './codec/seq-ranges.ts'
import type { ImportAnswer } from './control/view.ts'
import { Failure } from './errors.ts'
import type { GapReason, Intake, Loss, PointBatch, Seq, SeriesTable } from './model.ts'
import { createLineParser } from './protocol/line.ts'
import type { SpoolPort } from './spool-port.ts'

export interface ImporterParts {
  readonly agent: string
  readonly lanes: readonly string[]
  readonly series: SeriesTable
  readonly spool: Pick<SpoolPort, 'append' | 'kept'>
}
/** `lane` null: the one the points come from. */
export type ImportBlock = (text: string, lane: string | null) => Promise<ImportAnswer>

/** Taken of one lane of one epoch: whole seqs, and the parts of one that is not whole yet. */
interface Taken {
  readonly seqs: SeqRanges
  readonly open: { readonly seq: Seq; readonly parts: number } | null
}
const takenOf = (bytes: Uint8Array | null): Taken => {
  if (bytes === null) return { seqs: createSeqRanges(), open: null }
  const { seqs, open } = JSON.parse(Buffer.from(bytes).toString('utf8')) as {
    seqs: [Seq, Seq][]
    open: Taken['open']
  }
  return { seqs: createSeqRanges(seqs), open }
}
/** What is kept once the block is in; null when it is in already. */
const takenWith = ({ seqs, open }: Taken, header: BlockHeader): string | null => {
  const { seq, seqLast, part, last } = header
  if (seqs.has(seq, seqLast)) return null
  const parts = open?.seq === seq ? open.parts : 0
  if (part < parts) return null
  if (part > parts)
    throw new Failure(
      'HF-X023',
      `part ${part} of seq ${seq} comes before part ${parts}`,
      'Import the file from its beginning.',
    )
  if (last) seqs.add(seq, seqLast)
  return JSON.stringify({ seqs: seqs.list(), open: last ? null : { seq, parts: part + 1 } })
}

const linesOf = (body: Uint8Array, series: Pick<SeriesTable, 'ref'>): PointBatch => {
  const reading = createLineParser(series).read(body, 'us')
  const points = reading.next(Number.POSITIVE_INFINITY)
  const [trouble] = reading.troubles
  if (trouble === undefined) return points
  throw new Failure('HF-K020', `line ${trouble.line} of a block: ${trouble.text}`)
}
/** What was lost before it was written is lost here too, and says so. */
const lossesOf = ({ agent, gap, leftOut, format }: BlockHeader): readonly Loss<GapReason>[] => [
  ...(gap === null
    ? []
    : [
        {
          source: `import ${agent}${gap.source === '' ? '' : `: ${gap.source}`}`,
          reason: gap.reason,
          count: gap.count,
          text: `lost on ${agent} before it was written`,
        },
      ]),
  ...(leftOut === 0
    ? []
    : [
        {
          source: `import ${agent}: ${format}`,
          reason: 'refused' as const,
          count: leftOut,
          text: `${agent} could not say it in format "${format}"`,
        },
      ]),
]

const originTag = 'origin'
/**
 * `gw-7`, or `hub/gw-7` where the file is of `hub`, whose series had that tag already: of an earlier air gap, or the
 * plant's own. No agent's name holds a slash, so no two become one.
 */
const withOrigin: (
  tags: readonly (readonly [string, string])[],
  agent: string,
) => readonly (readonly [string, string])[] = (tags, agent) => {
  const before = tags.find(([name, value]) => name === originTag && value !== '')
  const value = before === undefined ? agent : `${agent}/${before[1]}`
  return [...tags.filter(([name]) => name !== originTag), [originTag, value]]
}

export const createImporter = (parts: ImporterParts): ImportBlock => {
  const { spool, series, lanes } = parts
  let tail: Promise<unknown> = Promise.resolve()

  const take = async (text: string, wanted: string | null): Promise<ImportAnswer> => {
    const read = readBlock(Buffer.from(text, 'utf8'), 0)
    if (read === undefined) throw new Failure('HF-K020', 'the block is not all there')
    const { header, body } = read.block
    const lane = wanted ?? header.lane
    if (!lanes.includes(lane))
      throw new Failure(
        'HF-X024',
        `this agent has no lane "${lane}"`,
        `name one of its own with --lane: ${lanes.join(', ')}`,
      )
    const { agent, epoch, laneId } = header
    const key = `import/${agent}/${epoch}/${laneId}`
    const kept = takenWith(takenOf(await spool.kept(key)), header)
    const losses = lossesOf(header)
    const lost = losses.reduce((sum, { count }) => sum + count, 0)
    if (kept === null) return { taken: false, points: header.points, lost }
    const named: Pick<SeriesTable, 'ref'> = {
      ref: (name, tags, unit) =>
        series.ref(name, agent === parts.agent ? tags : withOrigin(tags, agent), unit),
    }
    const points = header.format === 'lines' ? linesOf(body, named) : readNdjson(body, named, [])
    if (points.count !== header.points)
      throw new Failure('HF-K020', `${points.count} points in a block of ${header.points}`)
    const intake: Intake = {
      points,
      losses,
      kept: [{ key, value: Buffer.from(kept, 'utf8') }],
      urgent: true,
    }
    await spool.append(lane, intake)
    return { taken: true, points: points.count, lost }
  }
  return (text, lane) => {
    // One at a time: two of one lane would each keep only their own seq.
    const next = tail.then(() => take(text, lane))
    tail = next.catch(() => undefined)
    return next
  }
}
