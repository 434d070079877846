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
  // Neighbours are mostly of one class: what it asks stays at hand.
  let at = 0
  let counted = 0
  let method = params[param.method] as number
  let deviation = params[param.deviation] as number
  let heartbeatUs = params[param.heartbeatUs] as number
  let gapTimes = params[param.gapTimes] as number
  let gapAfterUs = params[param.gapAfterUs] as number
  let i = from
  for (; i < count; i++) {
    const own = owns[series[i] as number] as number
    if (own < 0) continue
    const row = own * stride
    const meta = (kindOf[i] as number) | ((qualities[i] as number) << 2)
    if ((meta & 3) !== kinds.float || meta !== words[(row + cell.meta) * 2]) break
    if (cells[row + cell.params] !== at) {
      countIn(at, counted)
      counted = 0
      at = cells[row + cell.params] as number
      method = params[at + param.method] as number
      deviation = params[at + param.deviation] as number
      heartbeatUs = params[at + param.heartbeatUs] as number
      gapTimes = params[at + param.gapTimes] as number
      gapAfterUs = params[at + param.gapAfterUs] as number
    }
    const time = timeUs[i] as number
    const value = floats[i] as number
    const before = cells[row + cell.lastTime] as number
    const distance = time - before
    const usual = cells[row + cell.usual] as number
    const span = time - (cells[row + cell.sentTime] as number)
    const sent = cells[row + cell.sentValue] as number
    if (!(distance > 0 && distance <= gapTimes * usual) || distance > gapAfterUs) break
    if (span >= heartbeatUs) break
    if (method === methods.deadband) {
      if (!(Math.abs(value - sent) <= deviation)) break
      if (words[(row + cell.meta) * 2 + 1] !== 0) break
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
    counted++
  }
  countIn(at, counted)
  return i
}
