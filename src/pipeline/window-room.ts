/**
 * Room for open windows: of those that are out and kept only because points may still come late, the oldest make way.
 *
 * Invariants: what is still owed stays; it follows from the steps alone, so a restart closes the same ones: windows
 * that are done count for nothing, since whether they are still there depends on who looked at them last.
 */
import { windowsPerClassMax } from './classes.ts'
import { flagsOf, release, sweep } from './window-feed.ts'
import { slot, slotStride, standing } from './window-slots.ts'
import { newest, newestStride, type WindowTable } from './window-table.ts'

/** 28 numbers each: 67 MB, and as much while they are saved. 10,000 series have 30 windows each. */
export const openWindowsMax = 300_000
/** One in so many more go than must, so that it comes seldom. */
const spareShare = 8

/** Every open window of an owner, newest first; `visit` may free it. */
export const eachOf = (table: WindowTable, owner: number, visit: (at: number) => void): void => {
  for (let at = table.heads()[owner] as number; at >= 0; ) {
    const older = table.slots.cells()[at * slotStride + slot.older] as number
    visit(at)
    at = older
  }
}
const eachOwner = (table: WindowTable, visit: (owner: number, own: number) => void): void => {
  for (let own = 0; own < table.series.count(); own++) {
    for (let k = 0; k < windowsPerClassMax; k++) visit(own * windowsPerClassMax + k, own)
  }
}
export const each = (table: WindowTable, visit: (at: number, own: number) => void): void =>
  eachOwner(table, (owner, own) => eachOf(table, owner, (at) => visit(at, own)))

const isOut = (flags: number): boolean =>
  (flags & (standing.issued | standing.dirty | standing.due)) === standing.issued

/** Later points of windows that made way are too late, as if their lateness were over. */
export const makeWay = (table: WindowTable, max = openWindowsMax): void => {
  if (table.slots.inUse() <= max) return
  eachOwner(table, (owner, own) =>
    sweep(table, owner, table.newestCells()[own * newestStride + newest.time] as number),
  )
  const over = table.slots.inUse() - max
  if (over <= 0) return
  const cells = table.slots.cells()
  const cellOf = (at: number, place: number) => cells[at * slotStride + place] as number
  const out: number[] = []
  each(table, (at) => {
    if (isOut(flagsOf(table, at))) out.push(at)
  })
  out.sort(
    (a, b) =>
      cellOf(a, slot.end) - cellOf(b, slot.end) || cellOf(a, slot.owner) - cellOf(b, slot.owner),
  )
  const gone = out.slice(0, over + Math.floor(max / spareShare))
  for (const at of gone) {
    const [owner, endUs] = [cellOf(at, slot.owner), cellOf(at, slot.end)]
    const closed = table.closedUntil()
    if (!((closed[owner] as number) >= endUs)) closed[owner] = endUs
    table.noRoom(owner, endUs)
    release(table, at)
  }
}
