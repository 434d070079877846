/** `holdfast spool check FILE`: is everything in a spool file what was written? Reads all of it, changes nothing. */
import { segmentDigest } from '../../codec/segment.ts'
import { exitCodes } from '../../errors.ts'
import type { Seq } from '../../model.ts'
import { type LaneLook, lookInto, type SpoolLook } from '../../spool/look.ts'
import type { CliContext } from '../context.ts'
import { amountText, countText } from '../format.ts'
import { createProgress } from './progress.ts'

const problemsMax = 100
export interface Problem {
  readonly lane: string
  /** 0 where no seq is concerned. */
  readonly seq: Seq
  readonly text: string
}
export interface LaneVerdict {
  readonly lane: string
  readonly id: number
  readonly segments: number
  readonly points: number
  readonly gaps: number
  readonly journalPoints: number
  readonly problems: number
}
export interface CheckAnswer {
  readonly file: string
  readonly good: boolean
  readonly lanes: readonly LaneVerdict[]
  readonly series: number
  /** The first hundred. */
  readonly problems: readonly Problem[]
}
type Say = (seq: Seq, text: string) => void

const checkSegments = (look: SpoolLook, lane: LaneLook, say: Say, done: (seq: Seq) => void) => {
  const gaps = look.gaps(lane.id)
  let [segments, points, nextGap] = [0, 0, 0]
  /** Digest of the segment just before; '' when there is none to compare with. */
  let before = ''
  for (let seq = Math.max(1, lane.floor); seq <= lane.head; seq++) {
    done(seq)
    while ((gaps[nextGap]?.seqLast ?? Infinity) < seq) nextGap++
    const found = look.segment(lane.id, seq)
    const isGap = (gaps[nextGap]?.seq ?? Infinity) <= seq
    if (found === null) {
      if (!isGap) say(seq, 'nothing answers for this seq')
      before = ''
      continue
    }
    if ('problem' in found) {
      say(seq, found.problem)
      before = ''
      continue
    }
    if (isGap) say(seq, 'a segment and a gap record answer for the same seq')
    if (before !== '' && found.header.previousHash !== before)
      say(seq, 'it does not continue the segment before it')
    before = segmentDigest(found.bytes)
    segments++
    points += found.points.count
  }
  return { segments, points, gaps: gaps.length }
}

export const checkFile = (look: SpoolLook, progress: (text: string) => void): CheckAnswer => {
  const problems: Problem[] = []
  const add = (lane: string, seq: Seq, text: string) => {
    if (problems.length < problemsMax) problems.push({ lane, seq, text })
  }
  progress('the database itself')
  const whole = look.quickCheck()
  for (const text of whole) add('', 0, text)
  const series = look.series()
  if (series.damaged > 0) add('', 0, `${amountText(series.damaged, 'series row')} damaged`)
  let bad = whole.length + series.damaged
  const lanes = look.lanes.map((lane): LaneVerdict => {
    const name = lane.name || `lane ${lane.id}`
    let count = 0
    const say: Say = (seq, text) => {
      count++
      add(name, seq, text)
    }
    if (!lane.intact) say(0, 'its row, or that of one of its readers, is damaged')
    const found = checkSegments(look, lane, say, (seq) =>
      progress(`${name}: ${countText(seq)} of ${countText(lane.head)}`),
    )
    let journalPoints = 0
    for (const { commit, found: row } of look.journal(lane.id)) {
      if ('problem' in row) say(0, `journal row ${commit}: ${row.problem}`)
      else journalPoints += row.points.count
    }
    bad += count
    return { lane: name, id: lane.id, ...found, journalPoints, problems: count }
  })
  return { file: look.path, good: bad === 0, lanes, series: series.count, problems }
}

export const check = async (
  context: CliContext,
  _options: object,
  file: string,
): Promise<number> => {
  using look = lookInto(file)
  const answer = checkFile(look, createProgress(context))
  if (context.flags.json) context.json(answer)
  else {
    for (const one of answer.lanes) {
      const parts = [amountText(one.segments, 'segment'), amountText(one.points, 'point')]
      if (one.journalPoints > 0)
        parts.push(`${amountText(one.journalPoints, 'point')} in the journal`)
      parts.push(amountText(one.gaps, 'gap record'))
      const said = one.problems === 0 ? 'good' : amountText(one.problems, 'problem')
      context.out(`${one.lane}: ${parts.join(', ')}: ${said}`)
    }
    for (const { lane, seq, text } of answer.problems)
      context.out(`  ${lane}${seq > 0 ? ` seq ${seq}` : ''}${lane ? ': ' : ''}${text}`)
    context.out(
      answer.good
        ? context.paint('green', 'good: every segment is what was sealed')
        : context.paint('red', 'damaged: what can be read comes back with: holdfast spool salvage'),
    )
  }
  return answer.good ? exitCodes.good : exitCodes.failed
}
