/**
 * The windows' state as bytes and back: one record a series, its newest point, and its open windows of each length.
 *
 * Invariants: rows saved and loaded are equal bit for bit and in the same order; windows of a length that the series'
 * class no longer has are dropped, a length it did not have begins with windows made from the raw lane, and one that
 * counts otherwise than the saved rows did has them made again from there; bytes that are no state throw RangeError.
 */
import { seriesMax } from '../limits.ts'
import { kinds, type SeriesEntry } from '../model.ts'
import { windowsPerClassMax } from './classes.ts'
import {
  createStateWriter,
  openState,
  putEntry,
  type StateReader,
  type StateWriter,
  takeEntry,
} from './state-bytes.ts'
import { createTexts } from './window-add.ts'
import { makeDue } from './window-feed.ts'
import { type SlotTexts, slot, slotStride, standing } from './window-slots.ts'
import { type CompiledWindow, newest, newestStride, type WindowTable } from './window-table.ts'

const kind = 2
const version = 2

/** What a row holds only where it is asked for: states, and what a counter gained by its modulus. */
const countingOf = ({ states, modulus }: CompiledWindow): string =>
  JSON.stringify([states, modulus ?? (modulus === null ? 'none' : 'no counter')])

const putOptional = (to: StateWriter, text: string | undefined): void => {
  to.byte(text === undefined ? 0 : 1)
  if (text !== undefined) to.text(text)
}
const takeOptional = (from: StateReader): string | undefined =>
  from.byte() === 0 ? undefined : from.text()

const putTexts = (to: StateWriter, texts: SlotTexts | undefined): void => {
  to.byte(texts === undefined ? 0 : 1)
  if (texts === undefined) return
  to.text(texts.first)
  to.text(texts.last)
  putOptional(to, texts.carry)
  putOptional(to, texts.force)
  to.uint(texts.states.size)
  for (const [state, us] of texts.states) {
    to.text(state)
    to.float(us)
  }
}
const takeTexts = (from: StateReader): SlotTexts | undefined => {
  if (from.byte() === 0) return undefined
  const texts = createTexts(undefined)
  texts.first = from.text()
  texts.last = from.text()
  texts.carry = takeOptional(from)
  texts.force = takeOptional(from)
  for (let left = from.uint(); left > 0; left--) texts.states.set(from.text(), from.float())
  return texts
}

/** Oldest first, so that each links in front of those before it. */
const chainOf = (table: WindowTable, owner: number): number[] => {
  const chain: number[] = []
  for (let at = table.heads()[owner] as number; at >= 0; ) {
    chain.push(at)
    at = table.slots.cells()[at * slotStride + slot.older] as number
  }
  return chain.reverse()
}
const bytesOf = (cells: Float64Array, row: number, stride: number): Uint8Array =>
  new Uint8Array(cells.buffer, cells.byteOffset + row * 8, stride * 8)

export const saveWindows = (table: WindowTable, classNames: readonly string[]): Uint8Array => {
  const { series, slots, windows } = table
  const to = createStateWriter(kind, version)
  to.float(table.bornUs)
  to.uint(windows.length)
  windows.forEach((ofClass, at) => {
    to.text(classNames[at] as string)
    to.float(table.pointsIn[at] as number)
    to.uint(ofClass.length)
    for (const { spec, pointsOut, tooLate } of ofClass) {
      to.float(spec.everyUs)
      to.float(pointsOut)
      to.float(tooLate)
    }
  })
  const owns = series.remembered()
  to.uint(owns.length)
  for (const own of owns) {
    putEntry(to, series.entries[own] as SeriesEntry)
    to.raw(bytesOf(table.newestCells(), own * newestStride, newestStride))
    putOptional(to, table.newestTexts.get(own))
    const ofClass = windows[series.classes[own] as number] as readonly CompiledWindow[]
    to.uint(ofClass.length)
    ofClass.forEach((window, k) => {
      const owner = own * windowsPerClassMax + k
      to.float(window.spec.everyUs)
      to.text(countingOf(window))
      to.float(table.closedUntil()[owner] as number)
      const chain = chainOf(table, owner)
      to.uint(chain.length)
      for (const at of chain) {
        to.raw(bytesOf(slots.cells(), at * slotStride, slotStride))
        putTexts(to, slots.texts.get(at))
      }
    })
  }
  return to.finish()
}

/** One saved window; dropped where `owner` is -1, or its span is none of the owner's any more (another zone). */
const takeSlot = (from: StateReader, table: WindowTable, owner: number, alike: boolean): void => {
  const saved = from.raw(slotStride * 8).slice()
  const texts = takeTexts(from)
  if (owner < 0) return
  const { spans } = table.windowOf(owner)
  const row = new Float64Array(saved.buffer)
  const startUs = row[slot.start] as number
  if (spans.startOf(startUs) !== startUs || spans.endOf(startUs) !== row[slot.end]) return
  const at = table.slots.take()
  const cells = table.slots.cells()
  cells.set(row, at * slotStride)
  cells[at * slotStride + slot.owner] = owner
  if (texts !== undefined) table.slots.texts.set(at, texts)
  table.link(owner, at)
  const flags = (at * slotStride + slot.meta) * 2 + 1
  const words = table.slots.words()
  if (!alike) {
    const gone = ((words[flags] as number) & standing.cut) !== 0
    words[flags] = (words[flags] as number) | (gone ? standing.lacking : standing.dirty)
  }
  if (((words[flags] as number) & standing.due) === 0) return
  words[flags] = (words[flags] as number) & ~standing.due
  makeDue(table, at)
}

/** What the newest point, where it is a used number or bool, is called as a state. */
const newestState = (table: WindowTable, own: number): string | undefined => {
  const row = own * newestStride
  const value = table.newestCells()[row + newest.value] as number
  const words = table.newestWords()
  if (Number.isNaN(value)) return undefined
  const kind = (words[(row + newest.meta) * 2] as number) & 3
  if (kind === kinds.bool) return String(value === 1)
  if (kind === kinds.float) return String(value)
  const [low, high] = [words[(row + newest.bits) * 2], words[(row + newest.bits) * 2 + 1]]
  return String((BigInt((high as number) | 0) << 32n) | BigInt(low as number))
}

const takeSeries = (from: StateReader, table: WindowTable): void => {
  const own = table.series.add(takeEntry(from))
  const saved = from.raw(newestStride * 8)
  const text = takeOptional(from)
  if (own !== undefined) {
    bytesOf(table.newestCells(), own * newestStride, newestStride).set(saved)
    if (text !== undefined) table.newestTexts.set(own, text)
  }
  const ofClass = own === undefined ? [] : table.windows[table.series.classes[own] as number]
  for (let left = from.uint(); left > 0; left--) {
    const everyUs = from.float()
    const counting = from.text()
    const closed = from.float()
    const k = ofClass?.findIndex(({ spec }) => spec.everyUs === everyUs) ?? -1
    const owner = own === undefined || k < 0 ? -1 : own * windowsPerClassMax + k
    if (owner >= 0) table.closedUntil()[owner] = closed
    const window = ofClass?.[k]
    const alike = window !== undefined && countingOf(window) === counting
    for (let slots = from.uint(); slots > 0; slots--) takeSlot(from, table, owner, alike)
  }
  if (own === undefined || !ofClass?.some(({ states }) => states)) return
  // In force when the next window begins, and not kept while nobody asked for states.
  const state = table.newestTexts.get(own) ?? newestState(table, own)
  if (state !== undefined) table.newestTexts.set(own, state)
}

export const loadWindows = (
  bytes: Uint8Array,
  table: WindowTable,
  classNames: readonly string[],
): void => {
  const from = openState(bytes, kind, version)
  table.bornUs = from.float()
  for (let left = from.uint(); left > 0; left--) {
    const at = classNames.indexOf(from.text())
    const pointsIn = from.float()
    if (at >= 0) table.pointsIn[at] = pointsIn
    for (let lengths = from.uint(); lengths > 0; lengths--) {
      const [everyUs, pointsOut, tooLate] = [from.float(), from.float(), from.float()]
      const window = table.windows[at]?.find(({ spec }) => spec.everyUs === everyUs)
      if (window !== undefined) Object.assign(window, { pointsOut, tooLate })
    }
  }
  const count = Math.min(from.uint(), seriesMax)
  for (let i = 0; i < count; i++) takeSeries(from, table)
}
