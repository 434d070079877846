/**
 * Which messages the broker may send again although their points are durable: packet ids with digests of what was
 * committed and whose ack the broker may not have seen, kept in the spool with the points themselves.
 *
 * Invariants: a message is a duplicate only if DUP is set, the session is resumed, and packet id
 * and digest are in what
 * earlier connections committed; that window is forgotten at the first message without DUP; an
 * entry is durable exactly
 * when its points are (each commit writes its own slot, so a commit that fails takes its entries with it);
 * entries are let go once the broker is known to have processed their acks, so memory and disk are
 * bounded by what may
 * be under way.
 */
import type { Kept } from '../model.ts'
import type { Publish } from './mqtt-frames.ts'

/** Commits under way or not yet confirmed by the broker; when all are taken, the newest one grows. */
export const slots = 64
const headBytes = 20
const entryBytes = 10
const format = 1

/** What one commit noted. */
interface Part {
  readonly seal: number
  readonly entries: Uint8Array
  committed: boolean
}

export interface Redelivery {
  /** What an earlier process committed. */
  readonly load: (kept: (key: string) => Promise<Uint8Array | null>) => Promise<void>
  /** A new connection; all commits of the last one must have ended. */
  readonly begin: (resumed: boolean) => void
  /** Takes note of a QoS 1 message; true when it is one that was committed before. */
  readonly seen: (message: Publish) => boolean
  /** Whether `seal` may be called: always, once no commit is under way. */
  readonly free: () => boolean
  /** What was noted since the last seal, to be committed with the points. The other two take its number. */
  readonly seal: () => { readonly number: number; readonly kept: Kept }
  readonly committed: (number: number) => void
  /** The broker has processed the acks of every commit up to `number`. */
  readonly confirmed: (number: number) => void
}

/**
 * Digest of one message's topic and payload, for telling a redelivery from another message that came under the same
 * packet id: not meant to withstand forgery, only chance (1 in 2^64).
 */
export const digestOf = (
  buffer: Uint8Array,
  topicStart: number,
  topicEnd: number,
  payloadStart: number,
  payloadEnd: number,
): { high: number; low: number } => {
  let high = 0x811c9dc5 ^ (topicEnd - topicStart)
  let low = 0x9747b28c ^ (payloadEnd - payloadStart)
  for (let at = topicStart; at < topicEnd; at++) {
    const byte = buffer[at] as number
    high = Math.imul(high ^ byte, 0x01000193)
    low = Math.imul(((low << 5) | (low >>> 27)) ^ byte, 0x9e3779b1)
  }
  for (let at = payloadStart; at < payloadEnd; at++) {
    const byte = buffer[at] as number
    high = Math.imul(high ^ byte, 0x01000193)
    low = Math.imul(((low << 5) | (low >>> 27)) ^ byte, 0x9e3779b1)
  }
  return { high: high >>> 0, low: low >>> 0 }
}

/** Packet id -> digest, as [high, low]; a later entry of the same id stands. */
type Window = Map<number, readonly [number, number]>

const addEntries = (to: Window, bytes: Uint8Array, from = 0): void => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = from; at + entryBytes <= bytes.length; at += entryBytes) {
    const id = view.getUint16(at, true)
    // Set anew, so that the map keeps the order of arrival.
    to.delete(id)
    to.set(id, [view.getUint32(at + 2, true), view.getUint32(at + 6, true)])
  }
}
const entriesOf = (window: Window): Uint8Array => {
  const bytes = new Uint8Array(window.size * entryBytes)
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const [id, [high, low]] of window) {
    view.setUint16(at, id, true)
    view.setUint32(at + 2, high, true)
    view.setUint32(at + 6, low, true)
    at += entryBytes
  }
  return bytes
}

export const createRedelivery = (source: string): Redelivery => {
  const keyOf = (number: number) => `mqtt/${source}/window/${number % slots}`
  /** What earlier connections committed; empty once the broker sends something new. */
  let before: Window = new Map()
  let generation = 0
  /**
   * Slots of this connection that are not confirmed, oldest first: numbers `first` up to `first +
   * open.length - 1`.
   */
  let open: Part[][] = []
  let first = 0
  let seals = 0
  let noted = new Uint8Array(256 * entryBytes)
  let notedView = new DataView(noted.buffer)
  let notedLength = 0

  const note = (id: number, high: number, low: number) => {
    if (notedLength === noted.length) {
      const larger = new Uint8Array(noted.length * 2)
      larger.set(noted)
      noted = larger
      notedView = new DataView(noted.buffer)
    }
    notedView.setUint16(notedLength, id, true)
    notedView.setUint32(notedLength + 2, high, true)
    notedView.setUint32(notedLength + 6, low, true)
    notedLength += entryBytes
  }
  return {
    load: async (kept) => {
      const values = await Promise.all(Array.from({ length: slots }, (_, at) => kept(keyOf(at))))
      const known = values.map(readSlot).filter((slot) => slot !== undefined)
      generation = known.reduce((most, slot) => Math.max(most, slot.generation), 0)
      const last = known.filter((slot) => slot.generation === generation)
      const confirmed = last.reduce((most, slot) => Math.max(most, slot.confirmed), 0)
      before = new Map()
      for (const slot of last.sort((a, b) => a.number - b.number))
        if (slot.number >= confirmed) addEntries(before, slot.bytes, headBytes)
    },
    begin: (resumed) => {
      for (const part of open.flat()) if (part.committed) addEntries(before, part.entries)
      if (!resumed) before = new Map()
      open = []
      generation++
      first = seals = notedLength = 0
    },
    seen: (message) => {
      const { packetId: id, dup, topicStart, topicEnd, payloadStart, payloadEnd } = message
      const { high, low } = digestOf(message.buffer, topicStart, topicEnd, payloadStart, payloadEnd)
      if (!dup && before.size > 0) before = new Map()
      const known = dup ? before.get(id) : undefined
      note(id, high, low)
      return known !== undefined && known[0] === high && known[1] === low
    },
    free: () => open.length < slots || (open.at(-1) ?? []).every((part) => part.committed),
    seal: () => {
      const number = seals++
      // A copy of its own: the value's buffer may move to another thread.
      const part: Part = { seal: number, entries: noted.slice(0, notedLength), committed: false }
      notedLength = 0
      if (open.length < slots) open.push([part])
      else open.at(-1)?.push(part)
      const slot = first + open.length - 1
      // While the broker may still send again what earlier connections committed, every commit carries that too: it
      // must outlive their slots.
      const pieces = [entriesOf(before), ...(open.at(-1) ?? []).map(({ entries }) => entries)]
      return {
        number,
        kept: { key: keyOf(slot), value: slotValue(generation, slot, first, pieces) },
      }
    },
    committed: (number) => {
      for (const part of open.flat()) if (part.seal === number) part.committed = true
    },
    confirmed: (number) => {
      while ((open[0]?.at(-1)?.seal ?? Infinity) <= number) {
        open.shift()
        first++
      }
    },
  }
}

const slotValue = (
  generation: number,
  number: number,
  confirmed: number,
  pieces: readonly Uint8Array[],
): Uint8Array => {
  const value = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, headBytes))
  const head = new DataView(value.buffer)
  head.setUint32(0, format, true)
  head.setUint32(4, generation, true)
  head.setUint32(8, number, true)
  head.setUint32(12, confirmed, true)
  head.setUint32(16, (value.length - headBytes) / entryBytes, true)
  let at = headBytes
  for (const piece of pieces) {
    value.set(piece, at)
    at += piece.length
  }
  return value
}
const readSlot = (value: Uint8Array | null) => {
  if (value === null || value.length < headBytes) return undefined
  const head = new DataView(value.buffer, value.byteOffset, value.byteLength)
  if (head.getUint32(0, true) !== format) return undefined
  if (head.getUint32(16, true) * entryBytes !== value.length - headBytes) return undefined
  return {
    generation: head.getUint32(4, true),
    number: head.getUint32(8, true),
    /** Slots below this one are confirmed. */
    confirmed: head.getUint32(12, true),
    bytes: value,
  }
}
