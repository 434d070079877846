/**
 * Rules and windows in a life, and after its crashes: driven on to the end, their lanes must hold what the raw points
 * that stand make, by a recomputation that knows no state, no cursor and no crash.
 *
 * Segments that are gone had been read, so the notes say where each of them ended; what it held follows from its numbers.
 */
import { stagesOf } from '../../../src/agent-stages.ts'
import { openSegment } from '../../../src/codec/segment.ts'
import { type Log, silentLog } from '../../../src/host.ts'
import type { Quality, SeriesEntry, Value } from '../../../src/model.ts'
import {
  compileClasses,
  contractOf,
  type SeriesClass,
  type WindowSpec,
} from '../../../src/pipeline/classes.ts'
import { createRulesStage } from '../../../src/pipeline/rules.ts'
import type { Spool, StageReader } from '../../../src/spool/spool.ts'
import { drive, entryOf, type Sample, samplesOf } from '../../reduce/harness.ts'
import { beyondBound, notSent } from '../../reduce/naive-rules.ts'
import {
  allStatistics,
  type NaiveWindow,
  naiveWindows,
  windowDiffers,
} from '../../reduce/naive-windows.ts'
import { agent, readAll } from '../../unit/spool/support.ts'
import {
  isStaged,
  type LaneFacts,
  nameOf,
  qualityOf,
  stageLanes,
  timeOf,
  valueFor,
} from './life.ts'

const [thin, rollup] = stageLanes
const gapAfterUs = 60_000_000
const common = { lane: thin, gap: { afterUs: gapAfterUs } } as const
const cheap = allStatistics.filter((one) => one !== 'median' && one !== 'p95')
const window = (seconds: number, latenessUs: number, more: Partial<WindowSpec> = {}) => ({
  everyUs: seconds * 1_000_000,
  latenessUs,
  statistics: cheap,
  lane: rollup,
  ...more,
})
/** The lane's last series belongs to none of them. */
const classes: readonly SeriesClass[] = [
  {
    name: 'walks',
    match: { names: ['raw-0', 'raw-1'] },
    reduce: { method: 'deadband', ...common, deviation: 4, heartbeatUs: 3_000_000 },
    windows: [window(2, 2_000_000, { statistics: allStatistics })],
  },
  {
    name: 'ramps',
    match: { names: ['raw-2'] },
    reduce: { method: 'swinging_door', ...common, deviation: 2 },
    windows: [window(2, 0)],
  },
  {
    name: 'counts',
    match: { names: ['raw-3'] },
    reduce: { method: 'on_change', ...common },
    windows: [window(5, 500_000, { counter: { modulus: 1_000 } })],
  },
  {
    name: 'states',
    match: { names: ['raw-4', 'raw-5'] },
    reduce: { method: 'on_change', ...common },
    windows: [window(2, 1_000_000, { statistics: ['count', 'last', 'changes'] })],
  },
]
const compiled = compileClasses(classes)
const entries = [0, 1, 2, 3, 4, 5, 6].map((at) => entryOf(nameOf('raw', at)))

/** Windows hold the lane, and with it what rules may ask for: every third of these lives has rules alone. */
const rulesAlone = classes.map((one) => ({ ...one, windows: [] }))
export const lifeStages = (seed: number): readonly StageReader[] => {
  const own = {
    lane: 'raw',
    classes: seed % 9 === 4 ? rulesAlone : classes,
    timeZone: 'UTC',
    agent,
  }
  return isStaged(seed) ? stagesOf([own]) : []
}

/** Nothing a crash may leave makes a stage fail or begin anew. */
export const createWatch = () => {
  let text = ''
  const note = (event: string) => {
    if (event.startsWith('stage_')) text ||= event
  }
  const log: Log = { ...silentLog, warn: note, error: note, child: () => log }
  return { log, text: () => text }
}

// ── what should be ──────────────────────────────────────────────────────────────────────────────

const sampleOf = (number: number): Sample => ({
  series: number % entries.length,
  timeUs: timeOf(number),
  value: valueFor('raw', number),
  quality: qualityOf('raw', number) as Quality,
})
/** The number each of the lane's items ends with. */
const endsOf = (spool: Spool, { read }: LaneFacts): readonly number[] => {
  const floor = spool.lanes().find(({ lane }) => lane === 'raw')?.floor ?? 1
  const gone = [...read].filter(([seq]) => seq < floor).sort(([a], [b]) => a - b)
  const ends = gone.map(([, { points }]) => points)
  let end = ends.at(-1) ?? 0
  for (const item of readAll(spool, 'raw', floor - 1)) {
    if (item.type !== 'segment') continue
    end += item.pointCount
    ends.push(end)
  }
  return ends
}

interface Right {
  readonly windows: ReadonlyMap<string, NaiveWindow>
  /** Points of the rules by series, as an uninterrupted stage gives them. */
  readonly points: ReadonlyMap<string, readonly string[]>
  readonly lateUnmended: readonly number[]
  /** What is wrong with those, '' if nothing. */
  readonly text: string
}
const textOf = ({ timeUs, value, quality }: Omit<Sample, 'series'>): string =>
  `${timeUs} ${typeof value} ${String(value)} ${quality}`

const windowsOf = (steps: readonly (readonly Sample[])[]) => {
  const windows = new Map<string, NaiveWindow>()
  entries.forEach((entry, series) => {
    const own = steps.map((step) => step.filter((one) => one.series === series))
    for (const { everyUs, latenessUs, statistics, counter } of compiled.classes[
      compiled.classOf(entry)
    ]?.windows ?? []) {
      const spec = { everyUs, latenessUs, statistics }
      const naive = naiveWindows(own, counter === undefined ? spec : { ...spec, ...counter })
      for (const one of naive.windows) windows.set(`${entry.name} ${everyUs} ${one.startUs}`, one)
    }
  })
  return windows
}
const rulesOf = (steps: readonly (readonly Sample[])[]) => {
  const turns = steps.map((points) => ({ kind: 'step' as const, points }))
  const ran = drive(() => createRulesStage({ classes: compiled }), entries, turns)
  const points = new Map<string, string[]>()
  let text = ''
  for (const { name } of entries) {
    const given = ran.given.filter(({ entry }) => entry.name === name)
    if (given.length > 0) points.set(name, given.map(textOf))
    const one = compiled.classes[compiled.classOf(entryOf(name))]
    const contract = one === undefined ? undefined : contractOf(one)
    if (contract === undefined) continue
    const lastUs = Math.max(...given.map(({ timeUs }) => timeUs))
    const accepted = steps
      .flat()
      .filter((one) => entries[one.series]?.name === name && one.timeUs <= lastUs)
    text ||= beyondBound(accepted, given, contract) ?? notSent(accepted, given, gapAfterUs) ?? ''
  }
  return { points, text, lateUnmended: unmendedOf(ran.stage) }
}
const unmendedOf = (stage: StageReader['stage'] | undefined): readonly number[] =>
  (stage?.totals() ?? []).map(({ lateUnmended }) => lateUnmended)

/** The last answer: most moments differ in something else. */
let known: { readonly key: string; readonly right: Right } | null = null
const rightFor = (ends: readonly number[], windowed: boolean): Right => {
  const key = ends.join()
  if (known?.key === key) return known.right
  const steps = ends.map((end, at) => {
    const first = (ends[at - 1] ?? 0) + 1
    return Array.from({ length: end - first + 1 }, (_, more) => sampleOf(first + more))
  })
  const windows = windowed ? windowsOf(steps) : new Map<string, NaiveWindow>()
  const right = { windows, ...rulesOf(steps) }
  known = { key, right }
  return right
}

// ── what is ─────────────────────────────────────────────────────────────────────────────────────

type EntriesOf = (epoch: string, length: number, hash: string) => readonly SeriesEntry[]
interface Told extends Omit<Sample, 'series'> {
  readonly entry: SeriesEntry
}
function* toldIn(spool: Spool, lane: string, entriesOf: EntriesOf): Generator<Told> {
  for (const item of readAll(spool, lane)) {
    if (item.type === 'tombstone') continue
    const { header, points } = openSegment(item.bytes)
    const own = entriesOf(item.epoch, header.dictionaryLength, header.dictionaryHash)
    for (const { series, ...point } of samplesOf(points))
      yield { ...point, entry: own[series] as SeriesEntry }
  }
}

const windowsWrong = (spool: Spool, entriesOf: EntriesOf, { windows }: Right): string => {
  const found = new Map<string, Map<string, Value>>()
  const places = new Map<SeriesEntry, readonly [window: string, statistic: string]>()
  const placeOf = (entry: SeriesEntry) => {
    const { '@every': every, '@statistic': statistic = '' } = Object.fromEntries(entry.tags)
    const place = [`${entry.name} ${every}`, statistic] as const
    places.set(entry, place)
    return place
  }
  for (const { entry, timeUs, value } of toldIn(spool, rollup, entriesOf)) {
    const [window, statistic] = places.get(entry) ?? placeOf(entry)
    const key = `${window} ${timeUs}`
    const row = found.get(key) ?? new Map<string, Value>()
    found.set(key, row)
    const next = BigInt(row.get('rev')?.toString() ?? 0) + 1n
    if (statistic === 'rev' && value !== next) return `${key}: rev ${value}, not ${next}`
    row.set(statistic, value)
  }
  for (const [key, window] of windows) {
    const row = found.get(key)
    found.delete(key)
    if (row === undefined && window.due) return `${key} is missing`
    if (row === undefined) continue
    if (!window.due) return `${key} is there before its end`
    // Opened by a late point, when what was before it may have been let go of.
    if (row.has('partial') && !window.late) return `${key} is called partial`
    const differs = windowDiffers(row, window)
    if (differs !== null) return `${key}: ${differs}`
  }
  const [extra] = found.keys()
  return extra === undefined ? '' : `${extra} is one too many`
}

const rulesWrong = (
  spool: Spool,
  entriesOf: EntriesOf,
  right: Right,
  unmended: readonly number[],
): string => {
  if (right.text !== '') return right.text
  const found = new Map<string, string[]>()
  for (const { entry, ...point } of toldIn(spool, thin, entriesOf)) {
    const list = found.get(entry.name) ?? []
    found.set(entry.name, list)
    list.push(textOf(point))
  }
  for (const { name } of entries) {
    const at = compiled.classOf(entryOf(name))
    // A late point whose surroundings had been trimmed went alone, and says so.
    if (unmended[at] !== right.lateUnmended[at]) continue
    const [wanted, had] = [right.points.get(name) ?? [], found.get(name) ?? []]
    const differs = wanted.findIndex((point, place) => had[place] !== point)
    if (differs >= 0) return `${name}: point ${differs} is ${had[differs]}, not ${wanted[differs]}`
    if (had.length > wanted.length) return `${name}: ${had[wanted.length]} is one too many`
  }
  return ''
}

const turnsMax = 1_000
/** What is wrong, '' for nothing. All of the raw lane is sealed. */
export const examineStages = (
  spool: Spool,
  stages: readonly StageReader[],
  facts: LaneFacts,
  entriesOf: EntriesOf,
): string => {
  for (let turn = 0; spool.derive() === 'more'; turn++)
    if (turn === turnsMax) return 'windows: there is no end of deriving'
  if (spool.heads().some(({ underived }) => underived)) return 'windows: not all is derived'
  spool.seal(stageLanes)
  const right = rightFor(endsOf(spool, facts), stages.length > 1)
  const windows = windowsWrong(spool, entriesOf, right)
  if (windows !== '') return `windows: ${windows}`
  const rules = rulesWrong(spool, entriesOf, right, unmendedOf(stages[0]?.stage))
  return rules === '' ? '' : `rules: ${rules}`
}
