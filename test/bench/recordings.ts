/**
 * Series to measure the codec on: real recordings from the folder in HOLDFAST_TEST_DATA, or made ones without it.
 * A set is a kind of plant; each of its series is a run of (time, value). Everything is deterministic.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Recording {
  readonly name: string
  readonly timesUs: Float64Array
  readonly values: Float64Array
}
export interface RecordingSet {
  readonly name: string
  readonly series: readonly Recording[]
}

const filesOf = (folder: string, ending: string): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith(ending))
    .sort()

const columns = (name: string, rows: readonly (readonly [number, number])[]): Recording => ({
  name,
  timesUs: Float64Array.from(rows, ([time]) => time),
  values: Float64Array.from(rows, ([, value]) => value),
})

/** `timestamp,value`. */
const readNab = (folder: string): Recording[] =>
  filesOf(folder, '.csv').map((file) => {
    const lines = readFileSync(join(folder, file), 'utf8').trim().split('\n').slice(1)
    const rows = lines.map((line) => {
      const [time = '', value = ''] = line.trim().split(',')
      return [Date.parse(`${time.replace(' ', 'T')}Z`) * 1000, Number(value)] as const
    })
    return columns(file.replace('.csv', ''), rows)
  })

/** One row a minute, 25 tags, tab-separated, decimal comma. */
const readSolar = (folder: string): Recording[] => {
  const rows = filesOf(folder, '.csv').flatMap((file) =>
    readFileSync(join(folder, file), 'latin1').trim().split('\n').slice(1),
  )
  const cells = rows.map((row) => row.trimEnd().split('\t'))
  const time = (text: string): number => {
    const [, day, month, year, clock] = /^(\d+)\.(\d+)\.(\d+) (\d+:\d+)/.exec(text) ?? []
    return Date.parse(`${year}-${month}-${day}T${clock}:00Z`) * 1000
  }
  const times = cells.map((row) => time(row[0] ?? ''))
  return Array.from({ length: 25 }, (_, tag) => {
    const good = cells.flatMap((row, at) => {
      const value = Number((row[tag + 1] ?? '').trim().replace(',', '.') || Number.NaN)
      return Number.isFinite(value) && Number.isFinite(times[at])
        ? [[times[at] as number, value] as const]
        : []
    })
    return columns(`tag${tag + 1}`, good)
  })
}

/** One value a line, no times: one second a step. */
const readAlp = (folder: string): Recording[] =>
  filesOf(folder, '.csv').map((file) => {
    const values = readFileSync(join(folder, file), 'utf8').trim().split('\n').map(Number)
    return columns(
      file.replace('.csv', ''),
      values.map((value, at) => [1_760_000_000_000_000 + at * 1_000_000, value] as const),
    )
  })

export const createRandom = (seed: number): (() => number) => {
  let state = seed | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

const made = (name: string, law: (at: number, random: () => number) => number): Recording => {
  const random = createRandom(name.length * 7919 + name.charCodeAt(0))
  return columns(
    name,
    Array.from({ length: 4096 }, (_, at) => [
      1_760_000_000_000_000 + at * 1_000_000,
      law(at, random),
    ]),
  )
}
const makeSets = (): RecordingSet[] => {
  let level = 20
  const walk = (_: number, random: () => number) => {
    level += Math.round(random() * 4 - 2) / 10
    return Math.round(level * 10) / 10
  }
  return [
    {
      name: 'made-walks',
      series: ['walk-a', 'walk-bb', 'walk-ccc'].map((each) => made(each, walk)),
    },
    {
      name: 'made-noise',
      series: [
        made('noise', (_, random) => Math.round(random() * 1e5) / 1e3),
        made('single', (at, random) => Math.fround(20 + Math.sin(at / 100) + random() / 50)),
        made('wave', (at) => Math.sin(at / 200)),
        made('counter', (at) => at * 60),
      ],
    },
  ]
}

/** Sets of series, longest first where it matters; made ones when no recordings are at hand. */
export const loadRecordings = (): { readonly made: boolean; readonly sets: RecordingSet[] } => {
  const folder = process.env.HOLDFAST_TEST_DATA ?? ''
  if (folder === '' || !existsSync(join(folder, 'nab'))) return { made: true, sets: makeSets() }
  const nab = ['realAWSCloudwatch', 'realKnownCause', 'realTraffic'].map((name) => ({
    name,
    series: readNab(join(folder, 'nab', name)),
  }))
  const solar = { name: 'solar', series: readSolar(join(folder, 'solar', '2017-06')) }
  const alp = { name: 'alp', series: readAlp(join(folder, 'alp', 'samples')) }
  return { made: false, sets: [...nab, solar, alp] }
}
