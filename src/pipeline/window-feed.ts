/**
 * Points into windows: ahead of their series' time at once, others by marking what they change.
 *
 * Invariants: a point ahead of its series' time goes into one window of each length, opened if need be, whose
 * predecessors are then due; any other makes its window, and the next one whose value at the start it is, dirty; a
 * window that ended more than `latenessUs` before the series' time takes nothing (`tooLate`). Which time that is, is
 * asked once a step, before its first point: a window given out at the end of a step has all points up to there.
 */
import { kinds, type Pieces, type PointBatch } from '../model.ts'
import { windowsPerClassMax } from './classes.ts'
import { isAhead } from './quality.ts'
import { addPoint, createTexts, type Faces, facesOf, usedNumber, usedState } from './window-add.ts'
import { resetSlot, slot, slotStride, standing } from './window-slots.ts'
import { type CompiledWindow, newest, newestStride, type WindowTable } from './window-table.ts'

/** Whether the window takes no more points when its series has come to `newestUs`. */
export const isOver = (table: WindowTable, at: number, newestUs: number): boolean => {
  const cells = table.slots.cells()
  const row = at * slotStride
  const { latenessUs } = table.windowOf(cells[row + slot.owner] as number).spec
  return (cells[row + slot.end] as number) + latenessUs <= newestUs
}

export const flagsOf = (table: WindowTable, at: number): number =>
  table.slots.words()[(at * slotStride + slot.meta) * 2 + 1] as number
export const setFlags = (table: WindowTable, at: number, flags: number): void => {
  table.slots.words()[(at * slotStride + slot.meta) * 2 + 1] = flags
}
/** Given out, nothing owed, and over: nothing can change it any more. */
export const isDone = (table: WindowTable, at: number, newestUs: number): boolean => {
  const owed = standing.issued | standing.dirty | standing.due
  return (flagsOf(table, at) & owed) === standing.issued && isOver(table, at, newestUs)
}
export const release = (table: WindowTable, at: number): void => {
  table.unlink(at)
  table.slots.free(at)
}
/** Frees what is done of an owner's chain. */
export const sweep = (table: WindowTable, owner: number, newestUs: number): void => {
  let at = table.heads()[owner] as number
  while (at >= 0) {
    const older = table.slots.cells()[at * slotStride + slot.older] as number
    if (isDone(table, at, newestUs)) release(table, at)
    at = older
  }
}
/** Puts the window into the list of those to give out, once. */
export const makeDue = (table: WindowTable, at: number, more = 0): void => {
  const flags = flagsOf(table, at) | more
  if ((flags & standing.due) === 0) table.due.push(at)
  setFlags(table, at, flags | standing.due)
}
/** From where on it may read: a window to be made again asks for what was in force at its start, too. */
export const readsFromUs = (table: WindowTable, at: number): number => {
  const cells = table.slots.cells()
  const row = at * slotStride
  const startUs = cells[row + slot.start] as number
  if ((flagsOf(table, at) & standing.dirty) === 0) return startUs
  return table.windowOf(cells[row + slot.owner] as number).spans.startOf(startUs - 1)
}
const makeDirty = (table: WindowTable, at: number): void => {
  const flags = flagsOf(table, at) | standing.dirty | standing.mixed
  setFlags(table, at, flags)
  table.holdFromUs = Math.min(table.holdFromUs, readsFromUs(table, at))
  if ((flags & standing.issued) !== 0) makeDue(table, at)
}

/** It cannot be made again, and a point that belongs to it is not in it: every issue from now on says so. */
const makeLacking = (table: WindowTable, at: number): void => {
  const flags = flagsOf(table, at) | standing.lacking
  setFlags(table, at, flags)
  if ((flags & standing.issued) !== 0) makeDue(table, at)
}

/** A window that begins at `startUs`; what was in force before it is not known yet. */
const open = (
  table: WindowTable,
  owner: number,
  window: CompiledWindow,
  startUs: number,
): number => {
  const { slots } = table
  const at = slots.take()
  const [cells, words, row] = [slots.cells(), slots.words(), at * slotStride]
  cells[row + slot.start] = startUs
  cells[row + slot.end] = window.spans.endOf(startUs)
  cells[row + slot.owner] = owner
  cells[row + slot.carryTime] = Number.NaN
  cells[row + slot.carryValue] = Number.NaN
  cells[row + slot.rev] = 0
  words[(row + slot.meta) * 2 + 1] = 0
  resetSlot(cells, words, at)
  if (window.states) slots.texts.set(at, createTexts(undefined))
  table.link(owner, at)
  table.holdFromUs = Math.min(table.holdFromUs, startUs)
  return at
}

export interface WindowFeed {
  readonly feed: (points: PointBatch) => Pieces<void>
}

/** About 10 ms of looking for the windows of late points, which are found by going back from the newest one. */
const lookedMax = 500_000
/** What as much costs, in points. */
const lookedPoints = 20_000

export const createWindowFeed = (table: WindowTable): WindowFeed => {
  const { series, slots, windows } = table
  let faces: Faces
  /** By own number: the step that last held points of the series, and its newest time before that step. */
  let seen = new Float64Array(64)
  let before = new Float64Array(64)
  /** Own numbers that the step holds. */
  let held = new Int32Array(64)
  let heldCount = 0
  /** By own number: place of the newest point where the table has its time alone, else -1. */
  let newestAt = new Int32Array(64)
  let step = 0
  const room = (count: number): void => {
    if (count <= seen.length) return
    const [moreSeen, moreBefore] = [new Float64Array(count * 2), new Float64Array(count * 2)]
    moreSeen.set(seen)
    moreBefore.set(before)
    seen = moreSeen
    before = moreBefore
    held = new Int32Array(count * 2)
    newestAt = new Int32Array(count * 2)
  }

  /** The newest point of the series is in force when the window begins, if it lies in the span before. */
  const carryNewest = (own: number, at: number, window: CompiledWindow): void => {
    const cells = slots.cells()
    const row = at * slotStride
    const startUs = cells[row + slot.start] as number
    settle(own)
    const last = own * newestStride
    const time = table.newestCells()[last + newest.time] as number
    if (!(time >= window.spans.startOf(startUs - 1))) return
    cells[row + slot.carryTime] = time
    cells[row + slot.carryValue] = table.newestCells()[last + newest.value] as number
    const text = ((table.newestWords()[(last + newest.meta) * 2] as number) & 3) === kinds.string
    const state = text || window.states ? table.newestTexts.get(own) : undefined
    if (state !== undefined) slots.texts.set(at, createTexts(state))
    resetSlot(cells, slots.words(), at)
  }
  /** A point in order lies behind the owner's newest window: the next one opens. */
  const advance = (own: number, owner: number, window: CompiledWindow, timeUs: number): number => {
    const last = table.heads()[owner] as number
    if (last >= 0 && (flagsOf(table, last) & standing.issued) === 0) makeDue(table, last)
    const closed = table.closedUntil()[owner] as number
    if (timeUs < closed) {
      table.refuse(own, window, timeUs)
      return -1
    }
    sweep(table, owner, before[own] as number)
    const startUs = window.spans.startOf(timeUs)
    const at = open(table, owner, window, startUs)
    carryNewest(own, at, window)
    const known = !Number.isNaN(table.newestCells()[own * newestStride + newest.time])
    // Points of it may have been read before this window was thought of.
    const unseen = known ? last < 0 && Number.isNaN(closed) : startUs < table.bornUs
    if (unseen) makeDirty(table, at)
    return at
  }
  /** Of a window that will be made from the raw lane only its size is kept. */
  const countOne = (at: number): void => {
    const row = at * slotStride
    slots.cells()[row + slot.count] = (slots.cells()[row + slot.count] as number) + 1
  }
  const inOrder = (own: number, i: number, ofClass: readonly CompiledWindow[]): void => {
    const time = faces.points.timeUs[i] as number
    const value = usedNumber(faces, i)
    const heads = table.heads()
    let cells = slots.cells()
    let words = slots.words()
    for (let k = 0; k < ofClass.length; k++) {
      const owner = own * windowsPerClassMax + k
      const window = ofClass[k] as CompiledWindow
      let at = heads[owner] as number
      if (at < 0 || time >= (cells[at * slotStride + slot.end] as number)) {
        at = advance(own, owner, window, time)
        if (at < 0) continue
        cells = slots.cells()
        words = slots.words()
      }
      const flags = words[(at * slotStride + slot.meta) * 2 + 1] as number
      if ((flags & standing.dirty) === 0) addPoint(slots, at, window, faces, i, value)
      else countOne(at)
    }
    table.newestCells()[own * newestStride + newest.time] = time
    newestAt[own] = i
  }
  const metaOf = (i: number): number =>
    (faces.points.kinds[i] as number) | ((faces.points.qualities[i] as number) << 2)
  /** Of many points of one step only the last needs to be written down whole. */
  const settle = (own: number): void => {
    const i = newestAt[own] as number
    if (i < 0) return
    newestAt[own] = -1
    const row = own * newestStride
    const cells = table.newestCells()
    const words = table.newestWords()
    cells[row + newest.value] = usedNumber(faces, i)
    words[(row + newest.bits) * 2] = faces.bits[i * 2] as number
    words[(row + newest.bits) * 2 + 1] = faces.bits[i * 2 + 1] as number
    words[(row + newest.meta) * 2] = metaOf(i)
    if (!anyStates && faces.points.kinds[i] !== kinds.string && table.newestTexts.size === 0) return
    const kept =
      withStates[series.classes[own] as number] === true || faces.points.kinds[i] === kinds.string
    const state = kept ? usedState(faces, i) : undefined
    if (state !== undefined) table.newestTexts.set(own, state)
    else table.newestTexts.delete(own)
  }
  const withStates = windows.map((ofClass) => ofClass.some(({ states }) => states))
  const anyStates = withStates.includes(true)
  /** The newest point once more, as a broker that heard no ack sends it. */
  const isNewest = (own: number, i: number): boolean => {
    const row = own * newestStride
    const words = table.newestWords()
    if (words[(row + newest.meta) * 2] !== metaOf(i)) return false
    if (faces.points.kinds[i] === kinds.string) {
      const state = usedState(faces, i)
      return state !== undefined && state === table.newestTexts.get(own)
    }
    return (
      words[(row + newest.bits) * 2] === faces.bits[i * 2] &&
      words[(row + newest.bits) * 2 + 1] === faces.bits[i * 2 + 1]
    )
  }
  const outOfOrder = (own: number, i: number, ofClass: readonly CompiledWindow[]): void => {
    const time = faces.points.timeUs[i] as number
    const newestUs = table.newestCells()[own * newestStride + newest.time] as number
    if (time === newestUs) {
      settle(own)
      if (isNewest(own, i)) return
      newestAt[own] = i
    }
    ofClass.forEach((window, k) => {
      const owner = own * windowsPerClassMax + k
      const startUs = window.spans.startOf(time)
      const endUs = window.spans.endOf(startUs)
      const beforeUs = before[own] as number
      const over = endUs + window.spec.latenessUs <= beforeUs
      const known = table.find(owner, startUs)
      const waits = known >= 0 && (flagsOf(table, known) & standing.due) !== 0
      if ((over || time < (table.closedUntil()[owner] as number)) && !waits)
        table.refuse(own, window, time)
      else if (known >= 0 && (flagsOf(table, known) & standing.cut) !== 0) {
        table.refuse(own, window, time)
        makeLacking(table, known)
      } else correct(owner, window, known, startUs, newestUs)
      const next = table.find(owner, endUs)
      if (next < 0 || isOver(table, next, beforeUs)) return
      const carryUs = slots.cells()[next * slotStride + slot.carryTime] as number
      if (time < carryUs) return
      if ((flagsOf(table, next) & standing.cut) !== 0) makeLacking(table, next)
      else makeDirty(table, next)
    })
  }
  const correct = (
    owner: number,
    window: CompiledWindow,
    known: number,
    startUs: number,
    newestUs: number,
  ): void => {
    const at = known >= 0 ? known : open(table, owner, window, startUs)
    countOne(at)
    makeDirty(table, at)
    if ((slots.cells()[at * slotStride + slot.end] as number) <= newestUs) makeDue(table, at)
  }
  /** From point `first` on, until enough windows were looked at: the first point that is left. */
  const some = (points: PointBatch, first: number): number => {
    const owns = series.owns()
    const { count, timeUs, qualities, series: numbers } = points
    const newestCells = table.newestCells()
    const { pointsIn } = table
    table.looked = 0
    let i = first
    for (; i < count && table.looked < lookedMax; i++) {
      const own = owns[numbers[i] as number] as number
      if (own < 0) continue
      // What lies in a time nobody has seen must not make all that comes now late.
      if (isAhead(qualities[i] as number)) continue
      const classNumber = series.classes[own] as number
      pointsIn[classNumber] = (pointsIn[classNumber] as number) + 1
      const newestUs = newestCells[own * newestStride + newest.time] as number
      if (seen[own] !== step) {
        seen[own] = step
        before[own] = newestUs
        held[heldCount++] = own
        newestAt[own] = -1
      }
      const ofClass = windows[classNumber] as readonly CompiledWindow[]
      if ((timeUs[i] as number) <= newestUs) outOfOrder(own, i, ofClass)
      else inOrder(own, i, ofClass)
    }
    return i
  }
  return {
    feed: function* (points) {
      faces = facesOf(points)
      step++
      heldCount = 0
      room(series.count())
      for (let next = some(points, 0); next < points.count; next = some(points, next)) {
        yield lookedPoints
      }
      for (let k = 0; k < heldCount; k++) settle(held[k] as number)
    },
  }
}
