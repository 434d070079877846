/**
 * The rules themselves: which points of a run leave, series by series.
 *
 * Invariants: always sent are a series' first point, a change of quality or type, NaN and infinity, ints beyond 2^53,
 * the last point before and the first after a gap; of the others, none left out lies further off the drawn line
 * (`Contract`) than the deviation, unless `min_gap` says so. Strings and bools have no distance: they leave when they
 * change. A point not later than the newest of its series is left out where the line already covers it, else sent, and
 * asks for the raw points around it (`rule-late.ts`).
 */

import type { BatchBuilder } from '../batch.ts'
import { because, kinds, type PointBatch } from '../model.ts'
import { isAhead } from './quality.ts'
import { addKnot } from './rule-knots.ts'
import { type RuleListener, type RuleReason, wantedReason } from './rule-reasons.ts'
import { skip } from './rule-skip.ts'
import {
  cell,
  doorRounding,
  flags,
  methods,
  param,
  type RuleTable,
  stride,
  usualShare,
} from './rule-table.ts'

export interface RuleStep {
  readonly run: (points: PointBatch, owns: Int32Array) => void
  /** Sends what is held of a series, as the corner of a line or as the value in force from then on. */
  readonly flush: (own: number, marked: boolean, reason?: RuleReason) => void
  /** Sends point `i` of any batch as it is. */
  readonly resend: (own: number, batch: PointBatch, i: number, reason: RuleReason) => void
}
export interface RuleSinks {
  /** A step that is listened to takes the long way for each point. */
  readonly decided?: RuleListener
  /** Where the points of the class with these parameters go. */
  readonly outOf: (params: number) => BatchBuilder
  /** Points of a class came in. */
  readonly countIn: (params: number, points: number) => void
  readonly countWithheld: (params: number) => void
  readonly countLate: (params: number) => void
  /**
   * Point `i` was out of order and no line covers it: it must be sent after the raw points around it, unless it was
   * `sent` already, in the place of what was held.
   */
  readonly late: (own: number, i: number, timeUs: number, sent: boolean) => void
}

const highWord = 4_294_967_296
const highSafe = 2 ** 21
/** A sub-code says why a point is bad: a heartbeat does not take its place. */
const marked = (quality: number): number => (quality < 4 ? quality | because.repeated : quality)

export const createRuleStep = (
  table: RuleTable,
  params: Float64Array,
  sinks: RuleSinks,
): RuleStep => {
  const { heldTexts, sentTexts } = table
  const { decided } = sinks
  const say = (own: number, timeUs: number, reason: RuleReason, distance = Number.NaN) =>
    decided?.(own, timeUs, reason, distance)
  let cells = table.cells()
  let words = table.words()
  let points!: PointBatch
  let floats: Float64Array = new Float64Array(0)
  let bits: Uint32Array = new Uint32Array(0)

  const textAt = (i: number): string => points.texts[bits[i * 2] as number] as string

  /** The value as a number; NaN of ints beyond 2^53, 0 of strings. */
  const numberAt = (i: number, kind: number): number => {
    if (kind === kinds.float) return floats[i] as number
    if (kind === kinds.bool) return bits[i * 2] as number
    if (kind === kinds.string) return 0
    const high = (bits[i * 2 + 1] as number) | 0
    return high >= -highSafe && high < highSafe
      ? high * highWord + (bits[i * 2] as number)
      : Number.NaN
  }
  const sampleEnd = (timeUs: number, intervalUs: number): number => {
    const rest = timeUs % intervalUs
    return timeUs - (rest < 0 ? rest + intervalUs : rest) + intervalUs
  }
  const knot = (row: number, timeUs: number, value: number): void => {
    addKnot(cells, row, timeUs, Number.isNaN(cells[row + cell.heldTime]))
    cells[row + cell.sentTime] = timeUs
    cells[row + cell.sentValue] = value
    cells[row + cell.heldTime] = Number.NaN
    words[(row + cell.meta) * 2 + 1] = 0
    const at = cells[row + cell.params] as number
    if (params[at + param.method] === methods.sample) {
      cells[row + cell.upper] = sampleEnd(timeUs, params[at + param.intervalUs] as number)
    }
  }
  /** Out with point `i` as it is. */
  const put = (own: number, i: number, quality: number): void => {
    const kind = points.kinds[i] as 0 | 1 | 2 | 3
    const time = points.timeUs[i] as number
    const out = sinks.outOf(cells[own * stride + cell.params] as number)
    if (kind === kinds.string) out.addText(own, time, textAt(i), quality)
    else {
      const [low, high] = [bits[i * 2] as number, bits[i * 2 + 1] as number]
      out.addWords(own, time, kind, quality, low, high)
    }
  }
  /** Out with point `i`, which is what comes next is measured against. */
  const send = (own: number, i: number, value: number, quality: number): void => {
    put(own, i, quality)
    const row = own * stride
    knot(row, points.timeUs[i] as number, value)
    words[(row + cell.sentBits) * 2] = bits[i * 2] as number
    words[(row + cell.sentBits) * 2 + 1] = bits[i * 2 + 1] as number
    if (points.kinds[i] === kinds.string) sentTexts.set(own, textAt(i))
  }
  const hold = (own: number, i: number): void => {
    const row = own * stride
    cells[row + cell.heldTime] = points.timeUs[i] as number
    words[(row + cell.heldBits) * 2] = bits[i * 2] as number
    words[(row + cell.heldBits) * 2 + 1] = bits[i * 2 + 1] as number
    if (points.kinds[i] === kinds.string) heldTexts.set(own, textAt(i))
  }
  const heldNumber = (row: number, kind: number): number => {
    if (kind === kinds.float) return cells[row + cell.heldBits] as number
    const low = words[(row + cell.heldBits) * 2] as number
    if (kind === kinds.bool) return low
    const high = (words[(row + cell.heldBits) * 2 + 1] as number) | 0
    return kind === kinds.string ? 0 : high * highWord + low
  }
  /** Out with what is held; kind and quality are still those of the newest point. */
  const sendHeld = (own: number, mark: boolean, reason: RuleReason): void => {
    const row = own * stride
    const time = cells[row + cell.heldTime] as number
    if (Number.isNaN(time)) return
    say(own, time, reason)
    const meta = words[(row + cell.meta) * 2] as number
    const kind = (meta & 3) as 0 | 1 | 2 | 3
    const quality = mark ? marked(meta >>> 2) : meta >>> 2
    const out = sinks.outOf(cells[row + cell.params] as number)
    const low = words[(row + cell.heldBits) * 2] as number
    const high = words[(row + cell.heldBits) * 2 + 1] as number
    if (kind === kinds.string) {
      const text = heldTexts.get(own) ?? ''
      out.addText(own, time, text, quality)
      sentTexts.set(own, text)
    } else out.addWords(own, time, kind, quality, low, high)
    knot(row, time, heldNumber(row, kind))
    words[(row + cell.sentBits) * 2] = low
    words[(row + cell.sentBits) * 2 + 1] = high
  }
  const differs = (own: number, i: number, kind: number): boolean => {
    const row = own * stride
    if (kind === kinds.string) return textAt(i) !== sentTexts.get(own)
    return (
      bits[i * 2] !== words[(row + cell.sentBits) * 2] ||
      bits[i * 2 + 1] !== words[(row + cell.sentBits) * 2 + 1]
    )
  }
  const openDoor = (row: number, at: number, timeUs: number, value: number): void => {
    const from = cells[row + cell.sentValue] as number
    const span = timeUs - (cells[row + cell.sentTime] as number)
    const slack =
      (params[at + param.deviation] as number) - doorRounding * (Math.abs(value) + Math.abs(from))
    cells[row + cell.upper] = (value + slack - from) / span
    cells[row + cell.lower] = (value - slack - from) / span
  }
  /** A point of a swinging door that is neither late nor special. */
  const swing = (own: number, i: number, at: number, value: number, timeUs: number): void => {
    const row = own * stride
    const sentTime = cells[row + cell.sentTime] as number
    const heldTime = cells[row + cell.heldTime] as number
    let withheld = false
    if (Number.isNaN(heldTime)) openDoor(row, at, timeUs, value)
    else {
      const slope = (value - (cells[row + cell.sentValue] as number)) / (timeUs - sentTime)
      const upper = cells[row + cell.upper] as number
      const lower = cells[row + cell.lower] as number
      if (slope <= upper && slope >= lower && Number.isFinite(slope)) {
        openDoor(row, at, timeUs, value)
        if ((cells[row + cell.upper] as number) > upper) cells[row + cell.upper] = upper
        if ((cells[row + cell.lower] as number) < lower) cells[row + cell.lower] = lower
      } else if (heldTime - sentTime < (params[at + param.minGapUs] as number)) {
        withheld = true
        sinks.countWithheld(at)
        openDoor(row, at, timeUs, value)
      } else {
        sendHeld(own, false, 'corner')
        openDoor(row, at, timeUs, value)
      }
    }
    hold(own, i)
    say(own, timeUs, withheld ? 'min_gap' : 'corridor')
  }
  /** First of all, late, or behind a gap, a change of quality or type, or no number: it leaves whatever its value. */
  const special = (own: number, i: number, value: number, afterGap: boolean): void => {
    const row = own * stride
    const at = cells[row + cell.params] as number
    const door = params[at + param.method] === methods.swinging_door
    const first = Number.isNaN(cells[row + cell.lastTime] as number)
    if (afterGap || door) sendHeld(own, false, afterGap ? 'before_gap' : 'before_change')
    send(own, i, value, points.qualities[i] as number)
    const plain = value - value === 0 ? 'changed' : 'special'
    say(own, points.timeUs[i] as number, first ? 'first' : afterGap ? 'after_gap' : plain)
  }
  /** Whether the rule of a stepped line wants point `i`. */
  const wants = (own: number, i: number, at: number, kind: number, value: number): boolean => {
    const row = own * stride
    const timeUs = points.timeUs[i] as number
    switch (params[at + param.method]) {
      case methods.every: {
        const since = timeUs - (cells[row + cell.sentTime] as number)
        return since >= (params[at + param.intervalUs] as number)
      }
      case methods.sample:
        return timeUs >= (cells[row + cell.upper] as number)
      case methods.deadband:
        if (kind === kinds.float || kind === kinds.int) {
          const distance = Math.abs(value - (cells[row + cell.sentValue] as number))
          return !(distance <= (params[at + param.deviation] as number))
        }
    }
    return differs(own, i, kind)
  }
  /** What `wants` said of point `i`. */
  const sayWanted = (own: number, i: number, at: number, value: number, yes: boolean) => {
    const kind = points.kinds[i] as number
    const numeric = kind === kinds.float || kind === kinds.int
    const away = Math.abs(value - (cells[own * stride + cell.sentValue] as number))
    const reason = wantedReason(params[at + param.method] as number, numeric, yes)
    say(own, points.timeUs[i] as number, reason, numeric ? away : Number.NaN)
  }
  /** A point that is neither late nor special. */
  const ordinary = (own: number, i: number, at: number, kind: number, value: number): void => {
    const row = own * stride
    const timeUs = points.timeUs[i] as number
    const door = params[at + param.method] === methods.swinging_door
    const numeric = kind === kinds.float || kind === kinds.int
    if (door && numeric) swing(own, i, at, value, timeUs)
    else if (wants(own, i, at, kind, value)) {
      const since = timeUs - (cells[row + cell.sentTime] as number)
      if (since >= (params[at + param.minGapUs] as number)) {
        // A bool or text of a series drawn as a line: the value it leaves is sent too.
        if (door) sendHeld(own, false, 'before_change')
        if (decided !== undefined) sayWanted(own, i, at, value, true)
        send(own, i, value, points.qualities[i] as number)
        return
      }
      sinks.countWithheld(at)
      hold(own, i)
      say(own, timeUs, 'min_gap')
      words[(row + cell.meta) * 2 + 1] = flags.withheld
    } else {
      hold(own, i)
      if (decided !== undefined) sayWanted(own, i, at, value, false)
      words[(row + cell.meta) * 2 + 1] = 0
    }
    const since = timeUs - (cells[row + cell.sentTime] as number)
    if (since >= (params[at + param.heartbeatUs] as number)) {
      send(own, i, value, marked(points.qualities[i] as number))
      say(own, timeUs, 'heartbeat')
    }
  }
  /** Whether point `i`, between what was sent last and what is held, is drawn well enough without it. */
  const covered = (own: number, i: number, at: number, kind: number, value: number): boolean => {
    const row = own * stride
    if (value - value !== 0) return false
    const numeric = kind === kinds.float || kind === kinds.int
    if (params[at + param.method] !== methods.swinging_door || !numeric) {
      return !wants(own, i, at, kind, value)
    }
    const timeUs = points.timeUs[i] as number
    const from = cells[row + cell.sentValue] as number
    const span = (cells[row + cell.heldTime] as number) - (cells[row + cell.sentTime] as number)
    const newest = timeUs === cells[row + cell.heldTime]
    const slope = ((newest ? value : heldNumber(row, kind)) - from) / span
    const upper = cells[row + cell.upper] as number
    const lower = cells[row + cell.lower] as number
    openDoor(row, at, timeUs, value)
    const [ownUpper, ownLower] = [
      cells[row + cell.upper] as number,
      cells[row + cell.lower] as number,
    ]
    cells[row + cell.upper] = Math.min(upper, ownUpper)
    cells[row + cell.lower] = Math.max(lower, ownLower)
    if (!Number.isFinite(slope)) return false
    return newest ? slope <= upper && slope >= lower : slope <= ownUpper && slope >= ownLower
  }
  /** Point `i` is not later than the newest of its series. */
  const outOfOrder = (own: number, i: number): void => {
    const row = own * stride
    const at = cells[row + cell.params] as number
    const timeUs = points.timeUs[i] as number
    const kind = points.kinds[i] as number
    const meta = kind | ((points.qualities[i] as number) << 2)
    const held = cells[row + cell.heldTime] as number
    const sent = cells[row + cell.sentTime] as number
    const value = numberAt(i, kind)
    const alike = meta === words[(row + cell.meta) * 2]
    sinks.countLate(at)
    if (timeUs === sent && Number.isNaN(held) && alike && !differs(own, i, kind)) {
      say(own, timeUs, 'repetition')
      return
    }
    const bounded = (params[at + param.method] as number) >= methods.on_change
    if (bounded && alike && timeUs > sent && covered(own, i, at, kind, value)) {
      if (timeUs === held) hold(own, i)
      say(own, timeUs, 'late_covered')
      return
    }
    say(own, timeUs, 'late')
    if (timeUs === held) {
      hold(own, i)
      words[(row + cell.meta) * 2] = meta
    }
    if (timeUs === sent && Number.isNaN(held)) {
      words[(row + cell.meta) * 2] = meta
      cells[row + cell.sentValue] = value
      words[(row + cell.sentBits) * 2] = bits[i * 2] as number
      words[(row + cell.sentBits) * 2 + 1] = bits[i * 2 + 1] as number
      if (kind === kinds.string) sentTexts.set(own, textAt(i))
    } else if (bounded && timeUs >= sent) sendHeld(own, false, 'late')
    if (bounded) sinks.late(own, i, timeUs, timeUs === held)
    else put(own, i, points.qualities[i] as number)
  }
  const one = (own: number, i: number): void => {
    const row = own * stride
    const at = cells[row + cell.params] as number
    sinks.countIn(at, 1)
    const timeUs = points.timeUs[i] as number
    // No part of any line: it leaves as it is, and what comes now is not late for its sake.
    if (isAhead(points.qualities[i] as number)) {
      say(own, timeUs, 'special')
      put(own, i, points.qualities[i] as number)
      return
    }
    const kind = points.kinds[i] as number
    const meta = kind | ((points.qualities[i] as number) << 2)
    const distance = timeUs - (cells[row + cell.lastTime] as number)
    if (distance <= 0) {
      outOfOrder(own, i)
      return
    }
    const value = numberAt(i, kind)
    const usual = cells[row + cell.usual] as number
    // NaN (no distance known yet) is no limit.
    const longest = (params[at + param.gapTimes] as number) * usual
    const afterGap = distance > (params[at + param.gapAfterUs] as number) || distance > longest
    const change = Number.isNaN(distance) || meta !== words[(row + cell.meta) * 2]
    const sendAnyway = afterGap || change || value - value !== 0
    if (sendAnyway) special(own, i, value, afterGap)
    cells[row + cell.lastTime] = timeUs
    words[(row + cell.meta) * 2] = meta
    cells[row + cell.usual] = Number.isNaN(usual)
      ? distance
      : usual + (Math.min(distance, longest) - usual) / usualShare
    if (!sendAnyway) ordinary(own, i, at, kind, value)
  }
  const face = (batch: PointBatch): void => {
    cells = table.cells()
    words = table.words()
    points = batch
    const { buffer, byteOffset } = batch.bits
    floats = new Float64Array(buffer, byteOffset, batch.count)
    bits = new Uint32Array(buffer, byteOffset, batch.count * 2)
  }
  return {
    run: (batch, owns) => {
      face(batch)
      for (let i = 0; i < batch.count; i++) {
        if (decided === undefined) i = skip(table, params, batch, floats, owns, i, sinks.countIn)
        else if ((owns[batch.series[i] as number] as number) < 0) continue
        if (i < batch.count) one(owns[batch.series[i] as number] as number, i)
      }
    },
    flush: (own, mark, reason = 'silence') => {
      cells = table.cells()
      words = table.words()
      sendHeld(own, mark, reason)
    },
    resend: (own, batch, i, reason) => {
      if (points !== batch) face(batch)
      say(own, batch.timeUs[i] as number, reason)
      put(own, i, batch.qualities[i] as number)
    },
  }
}
