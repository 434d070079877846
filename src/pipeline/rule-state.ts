/**
 * The rules' state as bytes and back: one record a series, its entry, how its class treated it, its row.
 *
 * Invariants: saved and loaded rows are equal bit for bit, in the same order; a record whose class now treats its
 * series otherwise gives only the point it still owed; bytes that are no state throw RangeError.
 */
import { seriesMax } from '../limits.ts'
import type { SeriesEntry } from '../model.ts'
import type { SeriesClass } from './classes.ts'
import {
  cell,
  countsOfClass,
  flags,
  paramStride,
  type RuleTable,
  signatureOf,
  stride,
} from './rule-table.ts'
import type { StageSeries } from './stage-series.ts'
import {
  createStateWriter,
  openState,
  putEntry,
  type StateReader,
  takeEntry,
} from './state-bytes.ts'

const kind = 1
const version = 1

export interface RuleState {
  readonly classes: readonly SeriesClass[]
  readonly series: StageSeries
  readonly table: RuleTable
  readonly counts: Float64Array
}

export const saveRules = ({ classes, series, table, counts }: RuleState): Uint8Array => {
  const to = createStateWriter(kind, version)
  to.uint(classes.length)
  classes.forEach((one, at) => {
    to.text(one.name)
    to.text(signatureOf(one))
    for (let i = 0; i < countsOfClass; i++) to.float(counts[at * countsOfClass + i] as number)
  })
  const cells = new Uint8Array(table.cells().buffer)
  to.uint(series.count())
  series.entries.forEach((entry, own) => {
    putEntry(to, entry)
    to.uint(series.classes[own] as number)
    to.raw(cells.subarray(own * stride * 8, (own + 1) * stride * 8))
    const texts = [table.heldTexts.get(own), table.sentTexts.get(own)]
    to.byte(texts.reduce((bits, text, at) => bits | (text === undefined ? 0 : 1 << at), 0))
    for (const text of texts) if (text !== undefined) to.text(text)
  })
  return to.finish()
}

interface SavedClass {
  readonly name: string
  readonly signature: string
}
const takeSeries = (from: StateReader, saved: readonly SavedClass[], state: RuleState): void => {
  const { classes, series, table } = state
  const entry: SeriesEntry = takeEntry(from)
  const was = saved[from.uint()]
  const row = from.raw(stride * 8)
  const bits = from.byte()
  const held = bits & 1 ? from.text() : undefined
  const sent = bits & 2 ? from.text() : undefined
  const own = series.add(entry)
  if (own === undefined) return
  const classNumber = series.classes[own] as number
  const cells = table.cells()
  const at = own * stride
  new Uint8Array(cells.buffer).set(row, at * 8)
  cells[at + cell.params] = classNumber * paramStride
  if (held !== undefined) table.heldTexts.set(own, held)
  if (sent !== undefined) table.sentTexts.set(own, sent)
  if (was?.signature === signatureOf(classes[classNumber] as SeriesClass)) return
  // Another rule: what the old one owed leaves by the next turn, and the next point is a first one.
  const owed = cells[at + cell.heldTime] as number
  const meta = (at + cell.meta) * 2
  for (const one of [cell.lastTime, cell.usual, cell.sentTime, cell.sentValue])
    cells[at + one] = Number.NaN
  table.words()[meta + 1] = Number.isNaN(owed) ? 0 : flags.orphan
}

export const loadRules = (bytes: Uint8Array, state: RuleState): void => {
  const from = openState(bytes, kind, version)
  const { classes, counts } = state
  const saved: SavedClass[] = []
  for (let left = from.uint(); left > 0; left--) {
    const one = { name: from.text(), signature: from.text() }
    saved.push(one)
    const at = classes.findIndex(({ name }) => name === one.name)
    for (let i = 0; i < countsOfClass; i++) {
      const value = from.float()
      if (at >= 0) counts[at * countsOfClass + i] = value
    }
  }
  const count = Math.min(from.uint(), seriesMax)
  for (let i = 0; i < count; i++) takeSeries(from, saved, state)
}
