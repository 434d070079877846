/**
 * One point of a batch into one window's row: numbers, bools, texts, and points that are not used.
 *
 * Invariants: called in time order; a point counts whatever it is; only a used one (not bad, finite) is a value, and an
 * unused one ends what was in force.
 */
import { kinds, type PointBatch, quality } from '../model.ts'
import {
  addNumber,
  addState,
  endForce,
  marks,
  type Slots,
  type SlotTexts,
  slot,
  slotStride,
} from './window-slots.ts'
import type { CompiledWindow } from './window-table.ts'

/** A batch with its bits as numbers and words. */
export interface Faces {
  readonly points: PointBatch
  readonly floats: Float64Array
  readonly bits: Uint32Array
}
export const facesOf = (points: PointBatch): Faces => {
  const { buffer, byteOffset } = points.bits
  return {
    points,
    floats: new Float64Array(buffer, byteOffset, points.count),
    bits: new Uint32Array(buffer, byteOffset, points.count * 2),
  }
}
const highWord = 4_294_967_296
/** NaN where the point is not used, or is a text; ints beyond 2^53 as the nearest double. */
export const usedNumber = ({ points, floats, bits }: Faces, i: number): number => {
  if (((points.qualities[i] as number) & 3) === quality.bad) return Number.NaN
  const kind = points.kinds[i]
  if (kind === kinds.float) {
    const value = floats[i] as number
    return value - value === 0 ? value : Number.NaN
  }
  if (kind === kinds.bool) return bits[i * 2] as number
  if (kind === kinds.string) return Number.NaN
  return ((bits[i * 2 + 1] as number) | 0) * highWord + (bits[i * 2] as number)
}
/** What a used point is called as a state; undefined where it is not used. */
export const usedState = (faces: Faces, i: number): string | undefined => {
  const { points, bits } = faces
  if (points.kinds[i] === kinds.string) {
    const bad = ((points.qualities[i] as number) & 3) === quality.bad
    return bad ? undefined : points.texts[bits[i * 2] as number]
  }
  const value = usedNumber(faces, i)
  if (Number.isNaN(value)) return undefined
  if (points.kinds[i] === kinds.bool) return String(value === 1)
  return points.kinds[i] === kinds.int
    ? String(BigInt.asIntN(64, points.bits[i] as bigint))
    : String(value)
}

export const createTexts = (carry: string | undefined): SlotTexts => ({
  first: '',
  last: '',
  carry,
  force: carry,
  states: new Map(),
})

const addWithStates = (
  slots: Slots,
  at: number,
  window: CompiledWindow,
  faces: Faces,
  i: number,
): void => {
  const cells = slots.cells()
  const words = slots.words()
  const row = at * slotStride
  const texts = slots.texts.get(at) ?? createTexts(undefined)
  slots.texts.set(at, texts)
  const time = faces.points.timeUs[i] as number
  const text = faces.points.kinds[i] === kinds.string
  const state = usedState(faces, i)
  if (window.states && texts.force !== undefined) {
    addState(texts.states, texts.force, time - (cells[row + slot.forceTime] as number))
  }
  if (state !== undefined && text) {
    endForce(cells, row, time)
    const first = cells[row + slot.good] === 0
    // As of numbers: from the last used value, whatever unused points came in between.
    const previous = first ? texts.carry : texts.last
    if (first) texts.first = state
    cells[row + slot.good] = (cells[row + slot.good] as number) + 1
    words[(row + slot.meta) * 2] = (words[(row + slot.meta) * 2] as number) | marks.text
    if (previous !== undefined && previous !== state) {
      cells[row + slot.changes] = (cells[row + slot.changes] as number) + 1
    }
  } else if (state === undefined) endForce(cells, row, time)
  else addNumber(cells, row, time, usedNumber(faces, i), window.modulus)
  if (state !== undefined) texts.last = state
  texts.force = state
}

/** Point `i`, which is later than all that the row holds. */
export const addPoint = (
  slots: Slots,
  at: number,
  window: CompiledWindow,
  faces: Faces,
  i: number,
  value: number,
): void => {
  const cells = slots.cells()
  const words = slots.words()
  const row = at * slotStride
  const meta = (row + slot.meta) * 2
  const kind = faces.points.kinds[i] as number
  cells[row + slot.count] = (cells[row + slot.count] as number) + 1
  const before = cells[row + slot.good] as number
  if (kind === kinds.string || window.states || (slots.texts.size > 0 && slots.texts.has(at)))
    addWithStates(slots, at, window, faces, i)
  else if (!Number.isNaN(value))
    addNumber(cells, row, faces.points.timeUs[i] as number, value, window.modulus)
  else endForce(cells, row, faces.points.timeUs[i] as number)
  const marked = words[meta] as number
  let mark = marked
  if (faces.points.qualities[i] !== quality.good) mark |= marks.doubt
  if (cells[row + slot.good] !== before) {
    const low = faces.bits[i * 2] as number
    const high = faces.bits[i * 2 + 1] as number
    if (kind === kinds.float) mark |= marks.notInt
    if (before === 0) {
      mark = (mark & ~3) | kind
      words[(row + slot.firstBits) * 2] = low
      words[(row + slot.firstBits) * 2 + 1] = high
    }
    mark = (mark & ~12) | (kind << 2)
    words[(row + slot.lastBits) * 2] = low
    words[(row + slot.lastBits) * 2 + 1] = high
  }
  if (mark !== marked) words[meta] = mark
}
