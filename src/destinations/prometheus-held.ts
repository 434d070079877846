/**
 * What a server holds of samples it refused: a refusal says neither which sample is meant nor which are there already.
 *
 * Invariants: a sample is there only when its own series (the same labels, no others) has its value at its millisecond;
 * a query asks for no more than the span of its samples, so that an answer stays about as large as the request was.
 */
import { type Labels, type Sample, selectorOf } from '../protocol/remote-write.ts'
import type { HeldSeries, PrometheusSetback } from './prometheus-outcome.ts'

/** A range of some series; the times are included. */
export interface HeldQuery {
  readonly selector: string
  readonly fromMs: number
  readonly toMs: number
}
export type AskHeld = (
  query: HeldQuery,
  signal: AbortSignal,
) => Promise<readonly HeldSeries[] | PrometheusSetback>

const seriesOfQueryMax = 200
/** Series whose spans are alike are asked for together; below this all are. */
const spanMsLeast = 1_000

/** Samples of one series, as they follow each other in a request. */
interface Run<S extends Sample> {
  readonly labels: Labels
  readonly samples: S[]
  readonly fromMs: number
  readonly toMs: number
}
const runsOf = <S extends Sample>(samples: readonly S[]): Run<S>[] => {
  const bySeries = new Map<Labels, S[]>()
  for (const sample of samples) {
    const run = bySeries.get(sample.labels)
    if (run === undefined) bySeries.set(sample.labels, [sample])
    else run.push(sample)
  }
  return [...bySeries].map(([labels, of]) => {
    const times = of.map(({ ms }) => ms)
    return { labels, samples: of, fromMs: Math.min(...times), toMs: Math.max(...times) }
  })
}
const allowance = ({ fromMs, toMs }: { readonly fromMs: number; readonly toMs: number }) =>
  Math.max(spanMsLeast, 2 * (toMs - fromMs))
/** Runs that one query may ask for: for none of them much more is read than was sent. */
const groupsOf = <S extends Sample>(runs: readonly Run<S>[]): Run<S>[][] => {
  const groups: Run<S>[][] = []
  let [fromMs, toMs, most] = [0, 0, 0]
  for (const run of [...runs].sort((a, b) => a.fromMs - b.fromMs)) {
    const last = groups.at(-1)
    const to = Math.max(toMs, run.toMs)
    const least = Math.min(most, allowance(run))
    if (last !== undefined && last.length < seriesOfQueryMax && to - fromMs <= least) {
      last.push(run)
      toMs = to
      most = least
      continue
    }
    groups.push([run])
    fromMs = run.fromMs
    toMs = run.toMs
    most = allowance(run)
  }
  return groups
}

const literal = (text: string) => text.replace(/[\\^$.|?*+()[\]{}]/g, '\\$&')
const anyOf = (runs: readonly { readonly labels: Labels }[], label: string): string => {
  const values = new Set(
    runs.map(({ labels }) => labels.find(([name]) => name === label)?.[1] ?? ''),
  )
  return `${label}=~${JSON.stringify([...values].map(literal).join('|'))}`
}
const queryOf = <S extends Sample>(group: readonly Run<S>[]): HeldQuery => {
  const [first] = group
  const selector =
    group.length === 1 && first !== undefined
      ? selectorOf(first.labels)
      : `{${anyOf(group, 'holdfast_series')},${anyOf(group, 'agent')}}`
  return {
    selector,
    fromMs: Math.min(...group.map((run) => run.fromMs)),
    toMs: Math.max(...group.map((run) => run.toMs)),
  }
}
/** A label without a value is none. */
const keyOf = (labels: Iterable<readonly [string, string]>): string =>
  JSON.stringify(
    [...labels].filter(([, value]) => value !== '').sort(([a], [b]) => (a < b ? -1 : 1)),
  )

/** Those of the samples that are not there with their value, in their order. */
export const missingOf = async <S extends Sample>(
  samples: readonly S[],
  ask: AskHeld,
  signal: AbortSignal,
): Promise<S[] | PrometheusSetback> => {
  const there = new Set<S>()
  for (const group of groupsOf(runsOf(samples))) {
    const answer = await ask(queryOf(group), signal)
    if ('kind' in answer) return answer
    const held = new Map(
      answer.map(({ labels, values }) => [keyOf(Object.entries(labels)), values]),
    )
    for (const run of group) {
      const values = held.get(keyOf(run.labels))
      for (const sample of run.samples)
        if (values?.has(sample.ms) && Object.is(values.get(sample.ms), sample.value))
          there.add(sample)
    }
  }
  return samples.filter((sample) => !there.has(sample))
}
