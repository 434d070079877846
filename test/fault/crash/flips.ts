/**
 * What a spool answers after one bit of its files was flipped: everything its reader had still to get arrives exactly as
 * it was, or is declared lost, or the spool refuses with a code.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSegment } from '../../../src/codec/segment.ts'
import { isFailure } from '../../../src/errors.ts'
import type { LaneItem } from '../../../src/model.ts'
import type { Spool } from '../../../src/spool/spool.ts'
import { type Chance, createChance } from '../../sim/random.ts'
import { newSeries, readAll } from '../../unit/spool/support.ts'
import { createDictionaries, openAfter, reachedOf } from './examine.ts'
import { type LaneName, lanes, numbersOf, pointsFrom, readers } from './life.ts'

const reader = readers[0]
export type Flipped = 'whole' | 'declared' | 'refused'
/** What the reader has still to get. */
export interface Due {
  readonly points: Set<number>
  readonly declared: number
}
export interface Base {
  readonly seed: number
  readonly files: ReadonlyMap<string, Buffer>
  readonly due: ReadonlyMap<LaneName, Due>
}

const filesIn = (folder: string): Map<string, Buffer> =>
  new Map(
    readdirSync(folder)
      .filter((name) => name !== 'notes')
      .map((name) => [name, readFileSync(join(folder, name))]),
  )
export const place = (folder: string, files: ReadonlyMap<string, Buffer>): void => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true })
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes)
}

/** Throws when a point is not what was given in, or comes twice. */
const dueOf = (spool: Spool, lane: LaneName): Due => {
  const cursor = spool.openReader(lane, reader, 'oldest')
  const items: readonly LaneItem[] = readAll(spool, lane, cursor.backlog)
  const dictionaries = createDictionaries(spool)
  const points = new Set<number>()
  let declared = 0
  for (const item of items) {
    if (item.type === 'tombstone') {
      declared += item.gap.count
      continue
    }
    const { header, points: batch } = openSegment(item.bytes)
    const entries = dictionaries(item.epoch, header.dictionaryLength, header.dictionaryHash)
    for (const number of numbersOf(lane, batch, entries)) {
      if (points.has(number)) throw new Error(`twice: ${lane} point ${number}`)
      points.add(number)
    }
  }
  return { points, declared }
}
const turnsMax = 1_000
const allDue = (spool: Spool): Map<LaneName, Due> => {
  spool.seal([...lanes])
  // Whatever fell over in a stage's state, it holds up nobody.
  for (let turn = 0; spool.derive() === 'more'; turn++)
    if (turn === turnsMax) throw new Error('stuck: there is no end of deriving')
  return new Map(lanes.map((lane) => [lane, dueOf(spool, lane)]))
}

/**
 * From the files a life left: one spool stopped in the middle (write-ahead log and journal full), one closed. Most of
 * what they hold is still to be sent.
 */
export const prepareBases = (life: string, seed: number, scratch: string): readonly Base[] => {
  const chance = createChance(seed, 'flips')
  const folder = join(scratch, `base-${seed}`)
  const look = join(scratch, `look-${seed}`)
  for (const one of [folder, look]) mkdirSync(one, { recursive: true })
  place(folder, filesIn(life))
  // Closed in between: a rewind that a flip makes undone is asked for again by the region, which is not here.
  const rewound = openAfter(folder, seed, chance, newSeries())
  for (const { lane, floor, derived } of rewound.lanes())
    if (!derived) rewound.rewind(lane, reader, floor - 1)
  rewound.close()
  const series = newSeries()
  const spool = openAfter(folder, seed, chance, series)
  for (const lane of lanes) {
    const first = reachedOf(spool, lane).points + 1
    for (let more = 0; more < 8; more++) {
      const points = pointsFrom((name) => series.ref(name, []), lane, first + more * 20, 20)
      spool.commit([{ lane, intakes: [{ points }], seal: more % 3 === 2 }])
    }
  }
  const stopped = filesIn(folder)
  spool.close()
  const closed = filesIn(folder)
  return [stopped, closed].map((files) => {
    place(look, files)
    const undamaged = openAfter(look, seed, chance, newSeries())
    const due = allDue(undamaged)
    undamaged.close()
    return { seed, files, due }
  })
}

const verdictOf = (
  base: Base,
  found: ReadonlyMap<LaneName, Due>,
): { kind: Flipped; text: string } => {
  let declared = 0
  let missing = 0
  for (const [lane, due] of base.due) {
    const now = found.get(lane) as Due
    for (const number of due.points) if (!now.points.has(number)) missing++
    declared += now.declared - due.declared
  }
  if (missing > Math.max(0, declared)) {
    return { kind: 'whole', text: `missing: ${missing} points, ${declared} declared` }
  }
  return { kind: declared > 0 ? 'declared' : 'whole', text: '' }
}

/** As a supervisor does: what ends with damage is started again. */
const answer = (folder: string, base: Base, chance: Chance): { kind: Flipped; text: string } => {
  for (let opening = 0; ; opening++) {
    let spool: Spool | null = null
    try {
      spool = openAfter(folder, base.seed, chance, newSeries())
      return verdictOf(base, allDue(spool))
    } catch (error) {
      if (!isFailure(error) || error.code.startsWith('HF-K')) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
        return { kind: 'whole', text }
      }
      const again = ['HF-S005', 'HF-S074'].includes(error.code)
      if (!again) return { kind: 'refused', text: '' }
      if (opening === 3) return { kind: 'whole', text: `stuck: ${error.code} ${error.message}` }
    } finally {
      try {
        spool?.close()
      } catch {
        // What was wrong has been said.
      }
    }
  }
}

export interface Flip {
  readonly kind: Flipped
  /** '' when it is as promised. */
  readonly text: string
  readonly where: string
}
/** Flip number `flip` of a seeded row of them, in `folder`. */
export const flipOne = (base: Base, flip: number, folder: string): Flip => {
  const chance = createChance(base.seed * 1_000_003 + flip, 'flip')
  const names = [...base.files.keys()].sort()
  const name = chance.pick([...names, ...names.filter((one) => !one.endsWith('-anchor'))])
  const bytes = Buffer.from(base.files.get(name) as Buffer)
  const at = chance.int(0, bytes.length - 1)
  const bit = chance.int(0, 7)
  bytes[at] = (bytes[at] as number) ^ (1 << bit)
  place(folder, new Map([...base.files, [name, bytes]]))
  return { ...answer(folder, base, chance), where: `${name} byte ${at} bit ${bit}` }
}
