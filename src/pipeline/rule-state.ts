/**
 * The rules' state as bytes and back: one record a series, its entry, how its class treated it, its row.
 *
 * Invariants: saved and loaded rows are equal bit for bit, in the same order; whoever loads a state of other classes
 * hears so; bytes that are no state throw RangeError.
 */
import { seriesMax } from '../limits.ts'
import type { SeriesEntry } from '../model.ts'
import type { SeriesClass } from './classes.ts'
import { forgetKnots } from './rule-knots.ts'
import {
  cell,
  countsOfClass,
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
/** 2: more knots a row. A state of another version begins anew. */
const version = 2

export interface RuleState {
  readonly classes: readonly SeriesClass[]
  readonly series: StageSeries
  readonly table: RuleTable
  readonly counts: Float64Array
  /** What was given out while it read the last points may not be what these rules would have given. */
  readonly unsure: boolean
}

export const saveRules = ({ classes, series, table, counts, unsure }: RuleState): Uint8Array => {
  const to = createStateWriter(kind, version)
  to.uint(classes.length)
  classes.forEach((one, at) => {
    to.text(one.name)
    // No class is like this one: whoever loads it is as unsure.
    to.text(unsure && series.count() > 0 ? '' : signatureOf(one))
    for (let i = 0; i < countsOfClass; i++) to.float(counts[at * countsOfClass + i] as number)
  })
  const cells = new Uint8Array(table.cells().buffer)
  const owns = series.remembered()
  to.uint(owns.length)
  for (const own of owns) {
    putEntry(to, series.entries[own] as SeriesEntry)
    to.uint(series.classes[own] as number)
    to.raw(cells.subarray(own * stride * 8, (own + 1) * stride * 8))
    const texts = [table.heldTexts.get(own), table.sentTexts.get(own)]
    to.byte(texts.reduce((bits, text, at) => bits | (text === undefined ? 0 : 1 << at), 0))
    for (const text of texts) if (text !== undefined) to.text(text)
  }
  return to.finish()
}

interface SavedClass {
  readonly name: string
  readonly signature: string
}
const takeSeries = (
  from: StateReader,
  { series, table }: Pick<RuleState, 'series' | 'table'>,
): void => {
  const entry: SeriesEntry = takeEntry(from)
  from.uint()
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
}

/** Its newest point is held, whether or not it was sent before; knots that others may not have sent are forgotten. */
export const holdNewest = (table: RuleTable, own: number, forget: boolean): void => {
  const cells = table.cells()
  const words = table.words()
  const at = own * stride
  if (forget) forgetKnots(cells, at)
  if (!Number.isNaN(cells[at + cell.heldTime])) return
  cells[at + cell.heldTime] = cells[at + cell.sentTime] as number
  for (const word of [0, 1])
    words[(at + cell.heldBits) * 2 + word] = words[(at + cell.sentBits) * 2 + word] as number
  const text = table.sentTexts.get(own)
  if (text !== undefined) table.heldTexts.set(own, text)
}

/** True when the rules are no longer those of the state. */
export const loadRules = (bytes: Uint8Array, state: Omit<RuleState, 'unsure'>): boolean => {
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
  for (let i = 0; i < count; i++) takeSeries(from, state)
  const now = classes.map((one) => ({ name: one.name, signature: signatureOf(one) }))
  return JSON.stringify(now) !== JSON.stringify(saved)
}
