import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { parse } from 'yaml'
import { catalog } from '../../../src/config/catalog.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { renderProblems } from '../../../src/config/problems.ts'
import { loadRegionalConfig, regionalJsonSchema } from '../../../src/config/regional.ts'
import { configJsonSchema } from '../../../src/config/schema.ts'
import { temporaryFolder } from '../../support/temp.ts'

const root = join(import.meta.dirname, '../../..')
const page = readFileSync(join(root, 'docs/operate/config.md'), 'utf8')
const folder = temporaryFolder('reference')
const credentials = join(folder, 'credentials')
mkdirSync(credentials)
writeFileSync(join(credentials, 'database-password'), 'x')
writeFileSync(join(folder, 'mqtt-password'), 'x')

test('every example on the page is valid', () => {
  const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text)
  assert.ok(examples.length >= 3)
  for (const text of examples) {
    const path = join(folder, 'example.yaml')
    writeFileSync(path, text.replaceAll('/etc/holdfast/', `${folder}/`))
    chmodSync(path, 0o600)
    const common = { environment: { CREDENTIALS_DIRECTORY: credentials }, surroundings: false }
    const result = text.startsWith('# regional')
      ? loadRegionalConfig(path, { ...common, flags: {} })
      : loadConfig(path, { ...common, catalog })
    assert.ok(result.ok, result.ok ? '' : renderProblems(result.problems))
    assert.equal(renderProblems(result.warnings), '')
  }
})

type Schema = { readonly [key: string]: unknown }
const isSchema = (value: unknown): value is Schema => typeof value === 'object' && value !== null
const keysIn = (schema: unknown, out = new Set<string>()): Set<string> => {
  if (Array.isArray(schema)) for (const one of schema) keysIn(one, out)
  else if (isSchema(schema))
    for (const [name, value] of Object.entries(schema)) {
      if (name === 'properties' && isSchema(value))
        for (const key of Object.keys(value)) out.add(key)
      keysIn(value, out)
    }
  return out
}

test('what the page calls a key is one; tables of keys are left to the reference', () => {
  const keys = keysIn([configJsonSchema(catalog), regionalJsonSchema()])
  const wrong = (text: string) =>
    [...text.matchAll(/`((?:[a-z_]+\.)+[a-z_]+)(?:: [^`]*)?`/g)]
      .map(([, name = '']) => name)
      .filter((name) => !/\.(?:md|yaml|pem)$/.test(name))
      .filter((name) => name.split('.').some((part) => !keys.has(part)))
  assert.deepEqual(wrong(page), [])
  assert.deepEqual(wrong('`reduce.method`, `reduce.methd: every`'), ['reduce.methd'])
  assert.doesNotMatch(page, /^\| key \|/m)
})

test('every type of the catalog is on the page, with its place in the reference', () => {
  for (const [kind, types] of Object.entries({
    sources: catalog.sources,
    destinations: catalog.destinations,
  }))
    for (const { type } of types)
      assert.ok(page.includes(`| [\`${type}\`](config-reference.md#${kind}-type-${type}) |`), type)
})

test('the JSON Schema names type and name of each part, forbids unknown keys and lets x- pass', () => {
  const schema = configJsonSchema(catalog) as { properties: Record<string, { anyOf: Schema[] }> }
  const list = schema.properties.sources?.anyOf[0] as { items: { anyOf: Schema[] } }
  assert.equal(list.items.anyOf.length, catalog.sources.length)
  for (const one of list.items.anyOf) {
    assert.deepEqual((one.required as string[]).slice(0, 2), ['name', 'type'])
    assert.equal(one.additionalProperties, false)
    assert.deepEqual(one.patternProperties, { '^x-': {} })
    const properties = one.properties as Record<string, { const?: string }>
    assert.equal(properties.type?.const, one.title)
    assert.ok(properties.lane)
  }
})

test('an editor that has the JSON Schema takes the package’s file and the examples, and marks mistakes', () => {
  const ajv = new Ajv2020({ strict: false })
  const takes = {
    agent: ajv.compile(configJsonSchema(catalog)),
    regional: ajv.compile(regionalJsonSchema()),
  }
  const shipped = readFileSync(join(root, 'platforms/linux/holdfast.yaml'), 'utf8')
  const uncommented = shipped
    .replaceAll(/^(sources|destinations): \[\]$/gm, '$1:')
    .replaceAll(/^# {2}/gm, '  ')
  const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text)
  for (const text of [shipped, uncommented, ...examples]) {
    const which = text.startsWith('# regional') ? 'regional' : 'agent'
    assert.ok(takes[which](parse(text)), `${ajv.errorsText(takes[which].errors)}\n${text}`)
  }
  assert.match(uncommented, /^ {2}- name: region /m)
  for (const wrong of [
    'agent: {name: gw, nmae: x}',
    'agent: {}',
    'agent: {name: gw}\nsources: [{name: a, type: mqtt}]',
    'agent: {name: gw}\nspool: {compression: gzip}',
  ])
    assert.ok(!takes.agent(parse(wrong)), wrong)
})

test('real types: each mistake is named where it stands', () => {
  const path = join(folder, 'mistakes.yaml')
  writeFileSync(
    path,
    `agent: {name: gw}
sources:
  - {name: a, type: simulate, rate: fast, seed: -1, points: 1.5}
  - name: b
    type: mqtt
    url: mqtt://x
    subscribe: [{topic: "a/#/b", qos: 2, tim: t, fields: {v: flot}}]
  - {name: c, type: http, listen: "0.0.0.0:1"}
destinations:
  - {name: r, type: relay, url: "ftp://x", tls: {ca: "", cert: x}, lanes: []}
`,
  )
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(!result.ok)
  const texts = result.problems.map(({ line, text }) => `${line} ${text}`)
  for (const want of [
    '3 rate must be a number or max (got "fast")',
    '3 seed must be at least 0 (got -1)',
    '3 points must be a whole number, not 1.5',
    '7 qos must be 0 or 1 (got 2)',
    '7 unknown key "tim" in sources[1].subscribe[0]',
    '10 missing key "key" in destinations[0].tls (text)',
    '10 ca must not be empty',
    '10 lanes must have at least 1 entry',
  ])
    assert.ok(texts.includes(want), `${want}\n${texts.join('\n')}`)
  assert.equal(texts.filter((one) => one.startsWith('8 ')).length, 1, 'an open door is said once')
  const printed = renderProblems(result.problems)
  for (const meant of ['time', 'float'])
    assert.match(printed, new RegExp(`did you mean "${meant}"`))
})

test('a field or tag of the plant that is called like a secret is none', () => {
  const path = join(folder, 'named.yaml')
  writeFileSync(
    path,
    `agent: {name: gw}
sources:
  - name: b
    type: mqtt
    url: mqtt://x
    password: hunter22
    subscribe: [{topic: a, fields: {token: float}, tags: {secret: "{topic}"}}]
`,
  )
  chmodSync(path, 0o600)
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(result.ok)
  assert.deepEqual(result.config.secrets, ['hunter22'])
})
