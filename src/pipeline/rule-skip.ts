/**
 * The common case of the rules in one tight loop: floats in order, of the quality they had, that a deadband or a
 * swinging door leaves out. It decides nothing of its own: `rule-step.ts` would come to the same.
 */
import { kinds, type PointBatch } from '../model.ts'
import {
  cell,
  doorRounding,
  methods,
  param,
  type RuleTable,
  stride,
  usualShare,
} from './rule-table.ts'

/** Works off points from `from` on; the index of the first that needs the long way, or the count. */
export const skip = (
  table: RuleTable,
  params: Float64Array,
  batch: PointBatch,
  floats: Float64Array,
  owns: Int32Array,
  from: number,
  countIn: (params: number, points: number) => void,
): number => {
  const cells = table.cells()
  const words = table.words()
  const { series, timeUs, qualities, kinds: kindOf, count } = batch
  let counted = 0
  let countedAt = 0
  let i = from
  for (; i < count; i++) {
    const own = owns[series[i] as number] as number
    if (own < 0) continue
    const row = own * stride
    const meta = (kindOf[i] as number) | ((qualities[i] as number) << 2)
    if ((meta & 3) !== kinds.float || meta !== words[(row + cell.meta) * 2]) break
    const at = cells[row + cell.params] as number
    const time = timeUs[i] as number
    const value = floats[i] as number
    const before = cells[row + cell.lastTime] as number
    const distance = time - before
    const usual = cells[row + cell.usual] as number
    const span = time - (cells[row + cell.sentTime] as number)
    const sent = cells[row + cell.sentValue] as number
    if (!(distance > 0 && distance <= (params[at + param.gapTimes] as number) * usual)) break
    if (distance > (params[at + param.gapAfterUs] as number)) break
    if (span >= (params[at + param.heartbeatUs] as number)) break
    const method = params[at + param.method] as number
    const deviation = params[at + param.deviation] as number
    if (method === methods.deadband) {
      if (!(Math.abs(value - sent) <= deviation)) break
      words[(row + cell.meta) * 2 + 1] = 0
    } else if (method === methods.swinging_door) {
      const upper = cells[row + cell.upper] as number
      const lower = cells[row + cell.lower] as number
      const slope = (value - sent) / span
      if (!(slope <= upper && slope >= lower) || slope - slope !== 0) break
      // Right behind a corner nothing is held, and the door is yet to open.
      if (cells[row + cell.heldTime] !== before) break
      const slack = deviation - doorRounding * (Math.abs(value) + Math.abs(sent))
      const ownUpper = (value + slack - sent) / span
      const ownLower = (value - slack - sent) / span
      if (ownUpper < upper) cells[row + cell.upper] = ownUpper
      if (ownLower > lower) cells[row + cell.lower] = ownLower
    } else break
    cells[row + cell.heldTime] = time
    cells[row + cell.heldBits] = value
    cells[row + cell.lastTime] = time
    if (distance !== usual) cells[row + cell.usual] = usual + (distance - usual) / usualShare
    if (at !== countedAt) {
      countIn(countedAt, counted)
      countedAt = at
      counted = 0
    }
    counted++
  }
  countIn(countedAt, counted)
  return i
}
