/**
 * The one checker (`src/verify`), and what end-to-end tests need around it: a publisher's journal, and the evidence read
 * back from a region's database, whichever it is.
 */
import assert from 'node:assert/strict'
import type { ReadBack } from '../../src/database/read-back.ts'
import { kinds, type Value } from '../../src/model.ts'
import {
  check,
  type ExactPoint,
  type JournalPoint,
  type Verdict,
} from '../../src/verify/checker.ts'

export type { JournalPoint, Verdict }
export { check }

type Tags = Readonly<Record<string, string>>
/** How journal and rows name a series alike. */
export const seriesText = (name: string, tags: Tags = {}): string =>
  JSON.stringify([name, Object.entries(tags).sort(([a], [b]) => (a < b ? -1 : 1))])

const words = new DataView(new ArrayBuffer(8))
/** A value as exact bits; a NaN keeps the payload that JavaScript gives it. */
export const exact = (series: string, timeUs: number, value: Value, quality = 0): ExactPoint => {
  const point = { series, timeUs, quality, bits: 0n, text: null }
  if (typeof value === 'string') return { ...point, kind: kinds.string, text: value }
  if (typeof value === 'boolean') return { ...point, kind: kinds.bool, bits: value ? 1n : 0n }
  if (typeof value === 'bigint')
    return { ...point, kind: kinds.int, bits: BigInt.asUintN(64, value) }
  words.setFloat64(0, value)
  return { ...point, kind: kinds.float, bits: words.getBigUint64(0) }
}

/** A publisher's own journal: what it attempted, in order, and which attempts were answered. */
export const createJournal = () => {
  const entries: (Omit<JournalPoint, 'acked'> & { acked: boolean })[] = []
  return {
    /** Call before sending; call what it returns once the ack has come. */
    attempt: (points: readonly ExactPoint[]): (() => void) => {
      const mine = points.map((point) => ({ ...point, acked: false }))
      entries.push(...mine)
      return () => {
        for (const one of mine) one.acked = true
      }
    },
    points: (): readonly JournalPoint[] => entries,
    acked: () => entries.reduce((sum, one) => sum + (one.acked ? 1 : 0), 0),
  }
}
export type Journal = ReturnType<typeof createJournal>

const batchMax = 10_000
async function* inBatches<From, To>(
  from: AsyncIterable<From>,
  turn: (one: From) => To | null,
): AsyncGenerator<readonly To[]> {
  let batch: To[] = []
  for await (const one of from) {
    const turned = turn(one)
    if (turned !== null) batch.push(turned)
    if (batch.length < batchMax) continue
    yield batch
    batch = []
  }
  yield batch
}

export interface RegionEvidence {
  readonly back: ReadBack
  readonly agent: string
  readonly journal: Iterable<readonly JournalPoint[]> | AsyncIterable<readonly JournalPoint[]>
  /** The region's ledger for this agent (`store.agents()`). */
  readonly delivered: number
  /** From the spool's file after the agent has stopped; 0 once it has drained. */
  readonly pending?: number
  readonly reduced?: number
  readonly losses?: { readonly acked: number; readonly unsure: number }
}

/** The verdict on a run, all of it read back from the region's database. */
export const verdictOf = async (from: RegionEvidence): Promise<Verdict> => {
  const { back, agent } = from
  const names = new Map<bigint, string>()
  const rows = inBatches(
    back.readBack(agent),
    ({ seriesId, name, tags, bits, ...row }): ExactPoint => {
      const known = names.get(seriesId) ?? seriesText(name, tags)
      names.set(seriesId, known)
      const { timeUs, kind, quality } = row
      return typeof bits === 'string'
        ? { series: known, timeUs, kind, quality, bits: 0n, text: bits }
        : { series: known, timeUs, kind, quality, bits, text: null }
    },
  )
  const writes = inBatches(back.auditOf(agent), ({ seriesId, timeUs, op }) =>
    op === 'delete' ? null : { series: names.get(seriesId) ?? '', timeUs },
  )
  return await check({
    journal: from.journal,
    rows,
    writes,
    gaps: await back.gapsOf(agent),
    delivered: from.delivered,
    reduced: from.reduced ?? 0,
    pending: from.pending ?? 0,
    ...(from.losses === undefined ? {} : { losses: from.losses }),
  })
}

/** Fails with the verdict's own reasons. */
export const assertKept = (verdict: Verdict): void => {
  assert.ok(verdict.ok, `${verdict.reasons.join('\n')}\n${JSON.stringify(verdict)}`)
}
