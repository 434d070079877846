/** What the same stages give when nothing interrupts them, from a history of all that happened to their state. */
import { emptyBatch } from '../../src/batch.ts'
import { type Derived, kinds, type PointBatch, type SeriesEntry } from '../../src/model.ts'
import { agentName, derivedPrefix } from './agent.ts'
import type { Plan } from './plan.ts'
import { emptyArchive, recordedStages, type StageEvent } from './recorded.ts'

export type Told = ReadonlyMap<string, string>
export const keyOf = (name: string, tags: unknown, timeUs: number) =>
  `${JSON.stringify([name, tags])} ${timeUs}`

const textOf = (points: PointBatch, at: number): string => {
  const kind = points.kinds[at] as number
  const bits = points.bits[at] as bigint
  const value = kind === kinds.string ? points.texts[Number(bits)] : bits
  return `${kind}:${value}:${points.qualities[at]}`
}
const within = (points: PointBatch, fromUs: number, toUs: number): PointBatch => {
  const kept = [...points.timeUs.keys()].filter((at) => {
    const time = points.timeUs[at] as number
    return time >= fromUs && time < toUs
  })
  const part = <T extends { [at: number]: number | bigint }>(of: T) => kept.map((at) => of[at])
  return {
    count: kept.length,
    series: Uint32Array.from(part(points.series) as number[]),
    timeUs: Float64Array.from(part(points.timeUs) as number[]),
    kinds: Uint8Array.from(part(points.kinds) as number[]),
    qualities: Uint8Array.from(part(points.qualities) as number[]),
    bits: BigUint64Array.from(part(points.bits) as bigint[]),
    texts: points.texts,
  }
}
/** Numbers that mean the same in every life. */
const createNumbering = () => {
  const entries: SeriesEntry[] = []
  const numbers = new Map<string, number>()
  const numberOf = (entry: SeriesEntry): number => {
    const key = JSON.stringify([entry.name, entry.tags])
    const number = numbers.get(key) ?? entries.push(entry) - 1
    numbers.set(key, number)
    return number
  }
  return {
    entry: (series: number) => entries[series] as SeriesEntry,
    renumbered: (points: PointBatch, entry: (series: number) => SeriesEntry): PointBatch => ({
      ...points,
      series: points.series.map((series) => numberOf(entry(series))),
    }),
  }
}

/**
 * What one stage of this history gives: how many points, the last of each (series, time), and each window's revs; and
 * every one of those that it gave since an event.
 */
export const replay = (
  plan: Plan,
  which: number,
  history: readonly StageEvent[],
  from = history.length,
) => {
  const told = new Map<string, string>()
  const since = new Map<string, Set<string>>()
  const wrong: string[] = []
  const revs = new Map<string, number>()
  const { entry, renumbered } = createNumbering()
  const seen: PointBatch[] = []
  const make = (config: number) => {
    const configs = plan.classes
    const parts = { lane: 'raw', agent: agentName, prefix: derivedPrefix, configs }
    return recordedStages(parts, emptyArchive(), config)[which]?.stage as never as ReturnType<
      typeof recordedStages
    >[number]['stage']
  }
  let stage: ReturnType<typeof make> | undefined
  let count = 0
  const take = (given: readonly Derived[], isSince: boolean) => {
    for (const { points, entry: own } of given) {
      count += points.count
      for (let at = 0; at < points.count; at++) {
        const { name, tags } = own(points.series[at] as number)
        const key = keyOf(name, tags, points.timeUs[at] as number)
        const text = textOf(points, at)
        told.set(key, text)
        if (isSince) since.set(key, (since.get(key) ?? new Set()).add(text))
        if (!tags.some(([tag, value]) => tag === '@statistic' && value === 'rev')) continue
        const rev = Number(points.bits[at])
        if (rev !== (revs.get(key) ?? 0) + 1) wrong.push(`windows: rev ${rev} of ${key}`)
        revs.set(key, rev)
      }
    }
  }
  function* raw(fromUs: number, toUs: number) {
    for (const points of seen) {
      const part = within(points, fromUs, toUs)
      if (part.count > 0) yield part
    }
  }
  for (const [at, event] of history.entries()) {
    if (event.kind === 'open') {
      const state = stage?.save() ?? null
      stage = make(event.config)
      stage.load(state === null ? null : Buffer.from(state))
    } else if (stage === undefined) wrong.push('windows: a history without a beginning')
    else if (event.kind === 'step') {
      const points = event.points.count === 0 ? emptyBatch : renumbered(event.points, event.entry)
      seen.push(points)
      take(stage.step({ points, entry, seq: event.seq, raw }), at >= from)
    } else if (event.kind === 'tick') take(stage.tick(event.nowUs, raw), at >= from)
    else take(stage.letGo(event.beforeUs, raw), at >= from)
  }
  return { told, since, count, wrong, stage }
}
