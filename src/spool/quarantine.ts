/** What could not be taken or delivered, kept for a person to look at. Bounded by rows and by bytes a sample. */
import { quarantineRowsMax, quarantineSampleBytesMax } from '../limits.ts'
import type { GapReason, LaneId, Loss, Seq } from '../model.ts'
import type { QuarantineRow } from '../spool-port.ts'
import { catchUp } from './derive.ts'
import { segmentsToGaps } from './gaps.ts'
import { nextQuarantineId, shedCopies } from './refused.ts'
import { discardRefused, listRefused } from './resend.ts'
import { blob } from './schema.ts'
import { checkpointBefore } from './stage-output.ts'
import { keyOf, type LaneState, type SpoolState } from './state.ts'
import { write } from './write.ts'

/** Whole segments kept for a person; older ones give way. */
const quarantineSegmentsMax = 16
const listedBytesMax = 64 * 1024

const add = (
  state: SpoolState,
  lane: LaneId,
  seq: Seq,
  row: { reason: GapReason; source: string; text: string; sample: Uint8Array },
) => {
  const text = row.text.slice(0, 1_000)
  const nowUs = Math.floor(state.host.clock.nowUs())
  state
    .sql('INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
    .run(
      ...[nextQuarantineId(state), lane, seq, row.reason, row.source, text],
      ...[nowUs, row.sample],
    )
  state
    .sql(
      `DELETE FROM quarantine WHERE id <=
       (SELECT id FROM quarantine ORDER BY id DESC LIMIT 1 OFFSET ?)`,
    )
    .run(quarantineRowsMax)
  if (row.sample.length <= quarantineSampleBytesMax) return
  // Of big samples only the latest few stay whole.
  state
    .sql(
      `UPDATE quarantine SET sample = substr(sample, 1, ?) WHERE length(sample) > ? AND id NOT IN
       (SELECT id FROM quarantine WHERE length(sample) > ? ORDER BY id DESC LIMIT ?)`,
    )
    .run(
      ...[quarantineSampleBytesMax, quarantineSampleBytesMax],
      ...[quarantineSampleBytesMax, quarantineSegmentsMax],
    )
}

/** Inside a transaction. */
export const keepSample = (state: SpoolState, lane: LaneState, loss: Loss<GapReason>): void => {
  const sample = (loss.sample ?? new Uint8Array(0)).subarray(0, quarantineSampleBytesMax)
  add(state, lane.id, lane.now.head, { ...loss, sample })
}

/**
 * Inside a transaction: the oldest samples give way to points, at least `bytes` of them if there are; what was wrong,
 * where and when stays. Returns the bytes let go.
 */
export const shedSamples = (state: SpoolState, bytes: number): number => {
  let freed = 0
  while (freed < bytes) {
    const rows = state
      .sql(
        'SELECT id, length(sample) AS size FROM quarantine WHERE length(sample) > 0 ORDER BY id LIMIT 16',
      )
      .all() as { readonly id: number; readonly size: number }[]
    if (rows.length === 0) break
    for (const { id, size } of rows) {
      state.sql("UPDATE quarantine SET sample = x'' WHERE id = ?").run(id)
      freed += size
    }
  }
  return freed + shedCopies(state, bytes - freed)
}

/**
 * The segment's place is taken by a tombstone; its bytes stay in the quarantine. A seq that is no segment is
 * left alone.
 */
export const quarantineSegment = (
  state: SpoolState,
  lane: LaneState,
  seq: Seq,
  reason: GapReason,
  text: string,
): void => {
  const bytes = state
    .sql(`SELECT ${blob('bytes')} FROM segments WHERE key = ?`)
    .pluck()
    .get(keyOf(lane.id, seq)) as Uint8Array | undefined
  if (bytes === undefined) return
  // What is damaged can be read no more.
  if (reason !== 'damaged') catchUp(state, lane, seq)
  write(state, 'write', () => {
    checkpointBefore(state, lane, seq)
    add(state, lane.id, seq, { reason, source: '', text, sample: bytes })
    segmentsToGaps(state, lane, seq, seq, reason)
  })
}

export const quarantined = (state: SpoolState, limit: number): readonly QuarantineRow[] => {
  const names = new Map([...state.lanes.values()].map((lane) => [lane.id, lane.name]))
  const rows = state
    .sql(
      `SELECT id, lane, seq, reason, source, text, at_us AS atUs, substr(sample, 1, ?) AS sample
       FROM quarantine ORDER BY id DESC LIMIT ?`,
    )
    .all(listedBytesMax, limit) as (Omit<
    QuarantineRow,
    'lane' | 'sample' | 'destination' | 'why' | 'points'
  > & {
    readonly lane: number
    readonly sample: Uint8Array | null
  })[]
  const samples = rows.map((row) => ({
    ...row,
    lane: names.get(row.lane) ?? '',
    // SQLite cuts an empty blob to NULL.
    sample: row.sample ?? new Uint8Array(0),
    ...({ destination: '', why: '', points: 0 } as const),
  }))
  return [...samples, ...listRefused(state, limit)]
    .sort((one, other) => other.id - one.id)
    .slice(0, limit)
}

/** A sample is forgotten, points are given up; false when there is no such row. */
export const discard = (state: SpoolState, id: number): boolean =>
  discardRefused(state, id) ||
  write(state, 'none', () => state.sql('DELETE FROM quarantine WHERE id = ?').run(id).changes > 0)
