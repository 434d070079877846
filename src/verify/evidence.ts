/**
 * What a region's database has to say to the checker: rows, writes and gap records of one agent,
 * read back in full.
 */
import type { ReadBack } from '../database/read-back.ts'
import { windowTags } from '../model.ts'
import type { Evidence, ExactPoint } from './checker.ts'

const batchMax = 4_096

async function* inBatches<From, To>(
  from: AsyncIterable<From>,
  turn: (one: From) => To | undefined,
): AsyncGenerator<To[]> {
  let batch: To[] = []
  for await (const one of from) {
    const turned = turn(one)
    if (turned === undefined || batch.push(turned) < batchMax) continue
    yield batch
    batch = []
  }
  yield batch
}

/**
 * The checker reads rows before writes, so every series of a write has been met by then. Statistics of windows are no
 * points that anybody published: `reduction.ts` judges them.
 */
export const readEvidence = async (
  back: ReadBack,
  agent: string,
): Promise<Pick<Evidence, 'rows' | 'writes' | 'gaps'>> => {
  const nameById = new Map<bigint, string>()
  return {
    rows: inBatches(back.readBack(agent), (row): ExactPoint | undefined => {
      if (row.tags[windowTags.statistic] !== undefined) return undefined
      nameById.set(row.seriesId, row.name)
      return {
        series: row.name,
        timeUs: row.timeUs,
        kind: row.kind,
        bits: typeof row.bits === 'bigint' ? row.bits : 0n,
        text: typeof row.bits === 'string' ? row.bits : null,
        quality: row.quality,
      }
    }),
    writes: inBatches(back.auditOf(agent), (one) => ({
      series: nameById.get(one.seriesId) ?? String(one.seriesId),
      timeUs: one.timeUs,
    })),
    gaps: await back.gapsOf(agent),
  }
}
