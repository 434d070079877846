/**
 * Every key of the configuration, read from its JSON Schema: docs/operate/config-reference.md, and the body of
 * holdfast.yaml(5).
 * Invariant: a key that the schema has stands in both; each says what it is for (test/unit/manual.test.ts).
 */
import { catalog } from '../src/config/catalog.ts'
import { regionalJsonSchema } from '../src/config/regional.ts'
import { configJsonSchema, laterKeys } from '../src/config/schema.ts'

interface Schema {
  readonly [key: string]: unknown
  readonly type?: string | readonly string[]
  readonly title?: string
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly required?: readonly string[]
}
export interface Entry {
  /** `tls.ca`, `subscribe[].topic`, `fields.NAME.unit`. */
  readonly key: string
  readonly form: string
  /** '' where there is none. */
  readonly standard: string
  readonly required: boolean
  readonly about: string
}
export interface Section {
  readonly title: string
  readonly entries: readonly Entry[]
}

const alternativesOf = (schema: Schema): readonly Schema[] =>
  (schema.anyOf ?? schema.oneOf ?? [schema]).filter(({ type }) => type !== 'null')
const shown = (value: unknown): string =>
  typeof value === 'string' ? value : JSON.stringify(value).replaceAll('"', '')
const formOf = (schema: Schema): string => {
  const alternatives = alternativesOf(schema)
  const [only] = alternatives
  if (alternatives.length !== 1 || only !== schema)
    return [...new Set(alternatives.map(formOf))].join(' | ')
  if (schema.enum !== undefined) return schema.enum.map(shown).join(' | ')
  if (schema.const !== undefined) return shown(schema.const)
  if (schema.type === 'array') return `list of ${formOf(schema.items ?? {})}`
  return [schema.type ?? 'any']
    .flat()
    .map((type) => words[type] ?? type)
    .join(' | ')
}
const words: Readonly<Record<string, string>> = {
  integer: 'whole number',
  boolean: 'true | false',
  string: 'text',
  object: 'map',
}
/** Objects whose keys belong to this one, with what stands between. */
const innerOf = (schema: Schema): readonly (readonly [between: string, schema: Schema])[] =>
  alternativesOf(schema).flatMap((one): readonly (readonly [string, Schema])[] => {
    if (one.properties !== undefined) return [['', one]]
    if (one.items !== undefined)
      return innerOf(one.items).map(([between, inner]) => [`[]${between}`, inner])
    if (typeof one.additionalProperties === 'object')
      return innerOf(one.additionalProperties).map(([between, inner]) => [`.NAME${between}`, inner])
    return []
  })

const entriesOf = (schema: Schema, before = ''): readonly Entry[] => {
  const found = new Map<string, Entry>()
  const variants = innerOf(schema)
  for (const [between, one] of variants) {
    const dot = before === '' && between === '' ? '' : '.'
    for (const [name, property] of Object.entries(one.properties ?? {})) {
      const key = `${before}${between}${dot}${name}`
      const inner = entriesOf(property, key)
      const { description, default: standard } = property
      const same = found.get(key)
      // Variants of one thing differ in a constant: all of them may stand there.
      const form = same && property.const !== undefined ? `${same.form} | ${formOf(property)}` : ''
      if (inner.length === 0 || description !== undefined)
        found.set(key, {
          key,
          form: form || same?.form || formOf(property),
          standard: standard === undefined || inner.length > 0 ? '' : shown(standard),
          required:
            variants.every(([, each]) => each.required?.includes(name)) && standard === undefined,
          about: same?.about ?? description ?? '',
        })
      for (const entry of inner) if (!found.has(entry.key)) found.set(entry.key, entry)
    }
  }
  return [...found.values()]
}

/** What all types share is said once. */
const typedSections = (name: string, title: string, list: Schema): readonly Section[] => {
  const types = (alternativesOf(list)[0]?.items as Schema).anyOf ?? []
  const all = types.map((type) => entriesOf(type))
  const isShared = (key: string) =>
    key !== 'type' && all.every((one) => one.some((e) => e.key === key))
  const sharedKeys = new Set((all[0] ?? []).map(({ key }) => key).filter(isShared))
  // The common schema comes first in each; a key that only happens to be everywhere is told apart by its words.
  const isCommon = (entry: Entry) =>
    sharedKeys.has(entry.key) &&
    all.every((one) => one.some((e) => e.key === entry.key && e.about === entry.about))
  const type: Entry = {
    key: 'type',
    form: types.map((one) => one.title ?? '').join(' | '),
    standard: '',
    required: true,
    about: 'Which kind it is',
  }
  return [
    { title: `${name}: every ${title}`, entries: [type, ...(all[0] ?? []).filter(isCommon)] },
    ...types.map((one, at) => ({
      title: `${name}: type ${one.title}`,
      entries: (all[at] ?? []).filter((entry) => entry.key !== 'type' && !isCommon(entry)),
    })),
  ]
}

export const sections = (): readonly Section[] => {
  const { properties = {} } = configJsonSchema(catalog) as Schema
  const plain = (name: string, title = name): Section => ({
    title,
    entries: entriesOf({ properties: { [name]: properties[name] ?? {} } }),
  })
  const regional = regionalJsonSchema() as Schema
  return [
    plain('agent'),
    ...typedSections('sources', 'source', properties.sources ?? {}),
    plain('classes'),
    plain('lanes'),
    plain('spool'),
    ...typedSections('destinations', 'destination', properties.destinations ?? {}),
    { title: 'The regional node: regional.yaml', entries: entriesOf(regional) },
  ]
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
const code = (text: string): string => (text === '' ? '' : `\`${cell(text)}\``)
const row = ({ key, form, standard, required, about }: Entry): string =>
  `| ${code(key)} | ${cell(form)} | ${required ? 'needed' : code(standard)} | ${cell(about)} |`

export const referencePage = (): string =>
  `${[
    '# Every key of the configuration',
    'Made from the schema by `node build/generate.ts`; [config](config.md) tells how to use them. `[]` is an entry of a list, `NAME` a name\n' +
      'of yours; *needed* means: where what it belongs to is given. Durations are written `100ms`, `30s`, `5min`, `24h`, `7d`; sizes `64KiB`, `500MB`, `10GiB`; rates `2 Mbit/s`, `500 kB/s`.\n' +
      `\`${laterKeys.join('` and `')}\` belong to later versions and may only be empty. Keys that begin with \`x-\` are yours.`,
    ...sections().flatMap(({ title, entries }) => [
      `## ${title}`,
      ['| key | form | default | |', '|---|---|---|---|', ...entries.map(row)].join('\n'),
    ]),
  ].join('\n\n')}\n`
