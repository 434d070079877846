/**
 * The open windows: one row of numbers each, in one array, and what a point adds to a row.
 *
 * Invariants: points are added in time order, so sums are those of a recomputation in time order, bit for bit; a free
 * row is in no chain; a value is used when its quality is not bad and it is finite, and only then.
 * The value in force at the start is that of the last point of the span before (`carry`), if one came.
 */
export const slot = {
  start: 0,
  end: 1,
  /** own × windowsPerClassMax + number of the window in its class. */
  owner: 2,
  /** Next older window of the same owner, -1 for none; next free row, when free. */
  older: 3,
  carryTime: 4,
  carryValue: 5,
  count: 6,
  good: 7,
  min: 8,
  minAt: 9,
  max: 10,
  maxAt: 11,
  sum: 12,
  /** First value used: deviations are summed from it. */
  base: 13,
  sum1: 14,
  sum2: 15,
  /** Value × µs while a value was in force, and for how many µs one was. */
  area: 16,
  covered: 17,
  /** Time up to which `area` is summed, and the value in force from there on (NaN: none). */
  forceTime: 18,
  force: 19,
  /** Last value used, before the first one that of the carry. */
  previous: 20,
  /** Where `delta` begins: the carry, else the first value. */
  deltaFrom: 21,
  /** What a counter has gained. */
  gained: 22,
  changes: 23,
  firstBits: 24,
  lastBits: 25,
  /** Low word: kinds (first | last << 2) and marks; high word: standing. */
  meta: 26,
  rev: 27,
} as const
export const slotStride = 28

/** Low word of `meta`, above the kinds of first and last. */
export const marks = {
  /** A value that is neither int nor bool. */
  notInt: 16,
  /** A point that is not good. */
  doubt: 32,
  /** A text: there is no number to make. */
  text: 64,
} as const
/** High word of `meta`. */
export const standing = {
  /** Given out at least once. */
  issued: 1,
  /** A point was out of order: made again from the raw lane before it is given out. */
  dirty: 2,
  /** In the list of those to give out. */
  due: 4,
  /** Takes no more points: freed once given out. */
  final: 8,
  /** Was given out before its end. */
  partial: 16,
  /** Its raw points may be gone: it cannot be made again. */
  cut: 32,
  /** Made without points that may have been in it. */
  lacking: 64,
  /** A point was out of order: the lane does not have them by time, nor each time once. */
  mixed: 128,
} as const

/** States of one window told apart, by so many characters; the rest is `other`. */
export const statesMax = 32
export const stateCharsMax = 64
/** Beside a row that holds texts, or whose window asks for states (numbers and bools are states by their text). */
export interface SlotTexts {
  first: string
  last: string
  /** State in force at the start, and from `forceTime` on; undefined for none. */
  carry: string | undefined
  force: string | undefined
  /** µs by state. */
  states: Map<string, number>
}

/** Never half of a character: no text of a database could hold it. */
const shortened = (state: string): string =>
  state.length <= stateCharsMax
    ? state
    : state.slice(0, stateCharsMax).replace(/[\ud800-\udbff]$/, '')

/** The state was in force for so long. */
export const addState = (states: Map<string, number>, state: string, spanUs: number): void => {
  if (spanUs <= 0) return
  const short = shortened(state)
  const name = states.has(short) || states.size < statesMax - 1 ? short : 'other'
  states.set(name, (states.get(name) ?? 0) + spanUs)
}

export interface Slots {
  /** Replaced when they grow. */
  readonly cells: () => Float64Array
  readonly words: () => Uint32Array
  readonly texts: Map<number, SlotTexts>
  readonly take: () => number
  readonly free: (at: number) => void
  readonly inUse: () => number
  readonly clear: () => void
}

export const createSlots = (): Slots => {
  let cells = new Float64Array(slotStride * 64)
  let words = new Uint32Array(cells.buffer)
  let top = 0
  let firstFree = -1
  let used = 0
  const texts = new Map<number, SlotTexts>()
  return {
    cells: () => cells,
    words: () => words,
    texts,
    take: () => {
      used++
      if (firstFree >= 0) {
        const at = firstFree
        firstFree = cells[at * slotStride + slot.older] as number
        return at
      }
      if ((top + 1) * slotStride > cells.length) {
        // By a quarter: this is most of what windows take, and half of it empty would be much.
        const larger = new Float64Array(Math.ceil(top * 1.25) * slotStride)
        larger.set(cells)
        cells = larger
        words = new Uint32Array(cells.buffer)
      }
      return top++
    },
    free: (at) => {
      used--
      cells[at * slotStride + slot.older] = firstFree
      firstFree = at
      texts.delete(at)
    },
    inUse: () => used,
    clear: () => {
      top = 0
      firstFree = -1
      used = 0
      texts.clear()
    },
  }
}

/** Forgets what the window's points made of it; span, owner, carry, standing and rev stay. */
export const resetSlot = (cells: Float64Array, words: Uint32Array, at: number): void => {
  const row = at * slotStride
  const carry = cells[row + slot.carryValue] as number
  cells.fill(0, row + slot.count, row + slot.meta)
  cells[row + slot.min] = Number.POSITIVE_INFINITY
  cells[row + slot.max] = Number.NEGATIVE_INFINITY
  cells[row + slot.forceTime] = cells[row + slot.start] as number
  cells[row + slot.force] = carry
  cells[row + slot.previous] = carry
  cells[row + slot.deltaFrom] = carry
  words[(row + slot.meta) * 2] = 0
}

/** A point ends what was in force, and nothing is from then on. */
export const endForce = (cells: Float64Array, row: number, timeUs: number): void => {
  const force = cells[row + slot.force] as number
  const span = timeUs - (cells[row + slot.forceTime] as number)
  cells[row + slot.forceTime] = timeUs
  if (Number.isNaN(force)) return
  cells[row + slot.area] = (cells[row + slot.area] as number) + force * span
  cells[row + slot.covered] = (cells[row + slot.covered] as number) + span
  cells[row + slot.force] = Number.NaN
}

/** What a counter gained from `previous` to `value`: on, over its modulus, or from 0 after it was set back. */
export const gain = (previous: number, value: number, modulus: number | null): number => {
  if (value >= previous) return value - previous
  if (modulus === null || previous > modulus) return value
  const wrapped = value + (modulus - previous)
  return wrapped <= modulus / 2 ? wrapped : value
}

/** A used point of a number (or bool) into the row. */
export const addNumber = (
  cells: Float64Array,
  row: number,
  timeUs: number,
  value: number,
  modulus: number | null | undefined,
): void => {
  endForce(cells, row, timeUs)
  cells[row + slot.force] = value
  const good = cells[row + slot.good] as number
  const previous = cells[row + slot.previous] as number
  if (good === 0) {
    cells[row + slot.base] = value
    if (Number.isNaN(previous)) cells[row + slot.deltaFrom] = value
  }
  cells[row + slot.good] = good + 1
  cells[row + slot.sum] = (cells[row + slot.sum] as number) + value
  const off = value - (cells[row + slot.base] as number)
  cells[row + slot.sum1] = (cells[row + slot.sum1] as number) + off
  cells[row + slot.sum2] = (cells[row + slot.sum2] as number) + off * off
  if (value < (cells[row + slot.min] as number)) {
    cells[row + slot.min] = value
    cells[row + slot.minAt] = timeUs
  }
  if (value > (cells[row + slot.max] as number)) {
    cells[row + slot.max] = value
    cells[row + slot.maxAt] = timeUs
  }
  if (value !== previous && !Number.isNaN(previous)) {
    cells[row + slot.changes] = (cells[row + slot.changes] as number) + 1
    if (modulus !== undefined) {
      cells[row + slot.gained] =
        (cells[row + slot.gained] as number) + gain(previous, value, modulus)
    }
  }
  cells[row + slot.previous] = value
}
