/** The house rules that a machine can check: floors, sizes, names, and the one door to clock and chance. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../..')
const sources = globSync('src/**/*.ts', { cwd: root }).sort()
const textOf = (file: string) => readFileSync(join(root, file), 'utf8')

const floors: Readonly<Record<string, number>> = {
  model: 0,
  'spool-port': 0,
  'stage-facts': 0,
  release: 0,
  errors: 0,
  limits: 0,
  'learned-limit': 0,
  renewed: 0,
  batch: 0,
  units: 0,
  schemaless: 0,
  host: 1,
  tls: 1,
  'service-manager': 1,
  'unit-user': 1,
  codec: 1,
  protocol: 1,
  database: 1,
  sources: 2,
  pipeline: 2,
  spool: 2,
  forward: 2,
  destinations: 2,
  observability: 2,
  regional: 3,
  config: 3,
  control: 3,
  agent: 4,
  'agent-sources': 4,
  'agent-import': 4,
  'agent-view': 4,
  'agent-stages': 4,
  'agent-spool': 4,
  explain: 4,
  'spool-worker': 4,
  supervise: 4,
  verify: 3,
  console: 5,
  cli: 5,
}
/** `src/spool/seal.ts` → `spool`; `src/model.ts` → `model`. */
const roomOf = (file: string): string => {
  const [, first = ''] = file.split('/')
  return basename(first, '.ts')
}
/** Rooms of one floor that are one vocabulary: everybody on floors 1 and up may read the host's types. */
const sharedOnFloor = new Set([
  'model',
  'errors',
  'limits',
  'spool-port',
  'stage-facts',
  'host',
  'tls',
  'pipeline',
  'supervise',
  'agent-sources',
  'agent-import',
  'agent-view',
  'agent-stages',
  'agent-spool',
  'explain',
])

test('imports go down, or stay in the room', () => {
  const wrong: string[] = []
  for (const file of sources) {
    const room = roomOf(file)
    assert.ok(room in floors, `${file} stands in no known room`)
    for (const [, path = ''] of textOf(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const to = roomOf(normalize(join(dirname(file), path)))
      const [mine, theirs] = [floors[room] as number, floors[to] as number]
      if (to === room || theirs < mine || (theirs === mine && sharedOnFloor.has(to))) continue
      wrong.push(`${file} (${room}, floor ${mine}) imports ${path} (${to}, floor ${theirs})`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('files are at most 400 lines, lines at most 120 columns', () => {
  const wrong: string[] = []
  for (const file of sources) {
    const lines = textOf(file).trimEnd().split('\n')
    if (lines.length > 400) wrong.push(`${file}: ${lines.length} lines`)
    lines.forEach((line, at) => {
      if (line.length > 120) wrong.push(`${file}:${at + 1}: ${line.length} columns`)
    })
  }
  assert.deepEqual(wrong, [])
})

test('clock, chance, timers and environment come in by host.ts alone', () => {
  const doors =
    /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bset(?:Timeout|Interval|Immediate)\(|\bperformance\.now\b|\bprocess\.hrtime\b/
  const allowed = (file: string) => file === 'src/host.ts'
  const wrong: string[] = []
  for (const file of sources.filter((one) => !allowed(one))) {
    textOf(file)
      .split('\n')
      .forEach((line, at) => {
        const code = line.replace(/^\s*(?:\/\/|\*|\/\*).*$/, '').replace(/\/\/.*$/, '')
        if (doors.test(code)) wrong.push(`${file}:${at + 1}: ${line.trim()}`)
      })
  }
  assert.deepEqual(wrong, [])
})

test('style: kebab-case names, a first comment on what the file owns, no enums, defaults, barrels or unfinished marks', () => {
  const wrong: string[] = []
  for (const file of sources) {
    const text = textOf(file)
    if (!/^[a-z0-9]+(?:-[a-z0-9]+)*\.ts$/.test(basename(file))) wrong.push(`${file}: name`)
    if (!/^(?:#!.*\n)?\/\*\*/.test(text)) wrong.push(`${file}: no first comment`)
    if (/^export default/m.test(text)) wrong.push(`${file}: default export`)
    if (/^\s*(?:export )?(?:const )?enum /m.test(text)) wrong.push(`${file}: enum`)
    if (/^export \*/m.test(text)) wrong.push(`${file}: barrel`)
    if (/\b(?:TODO|FIXME|XXX)\b/.test(text)) wrong.push(`${file}: unfinished mark`)
    if (/rejectUnauthorized:\s*false/.test(text)) wrong.push(`${file}: TLS verification off`)
  }
  assert.deepEqual(wrong, [])
})

/** Exported, and then nobody's: not even its own file's. */
const deadIn = (texts: ReadonlyMap<string, string>): string[] => {
  const seen = new Map<string, number>()
  for (const text of texts.values())
    for (const [word] of text.matchAll(/[A-Za-z_]\w*/g)) seen.set(word, (seen.get(word) ?? 0) + 1)
  return [...texts].flatMap(([file, text]) =>
    [...text.matchAll(/^export (?:async )?(?:const|function|interface|type) (\w+)/gm)]
      .filter(([, name = '']) => file.startsWith('src/') && seen.get(name) === 1)
      .map(([, name]) => `${file}: ${name}`),
  )
}
test('what is exported is used', () => {
  const files = globSync('{src,build,test,platforms}/**/*.ts', { cwd: root })
  assert.deepEqual(deadIn(new Map(files.map((file) => [file, textOf(file)]))), [])
  const planted = new Map([
    ['src/a.ts', 'export const used = 1\nexport const dead = used'],
    ['test/b.ts', 'export const alone = 1'],
  ])
  assert.deepEqual(deadIn(planted), ['src/a.ts: dead'])
})

test('every dependency is pinned exactly', () => {
  const pack = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >
  for (const list of ['dependencies', 'devDependencies']) {
    for (const [name, version] of Object.entries(pack[list] ?? {}))
      assert.match(version, /^\d+\.\d+\.\d+$/, name)
  }
})
