/**
 * One zod schema over one part of a configuration, with messages for people: what is wrong, what is allowed, what was
 * meant. Invariant: every issue of the schema becomes at least one trouble; keys that begin with `x-` are the user's.
 */
import { z } from 'zod'
import { isSecretName } from '../observability/redact.ts'
import { didYouMean } from './problems.ts'
import { dotted, type Path, type Trouble } from './source-text.ts'

type JsonSchema = {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly items?: JsonSchema
  readonly additionalProperties?: JsonSchema | boolean
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
  readonly allOf?: readonly JsonSchema[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
}
export const jsonSchemaOf = (schema: z.ZodType): JsonSchema =>
  z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', reused: 'inline' }) as JsonSchema

/** Words that other agents use for the same thing. */
const aliases: Readonly<Record<string, string>> = {
  uplink: 'destinations',
  uplinks: 'destinations',
  target: 'destinations',
  targets: 'destinations',
  outputs: 'destinations',
  sinks: 'destinations',
  inputs: 'sources',
  buffer: 'spool',
  queue: 'spool',
  host: 'listen',
  address: 'listen',
  endpoint: 'url',
  max_size: 'size_max',
  avg: 'mean',
  average: 'mean',
  std: 'stddev',
  p50: 'median',
  retention: 'keep_sent',
}

const variants = (schema: JsonSchema): readonly JsonSchema[] => [
  schema,
  ...[...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])].flatMap(variants),
]
const step = (schemas: readonly JsonSchema[], key: string | number): readonly JsonSchema[] =>
  schemas
    .flatMap((one) => {
      if (typeof key === 'number') return one.items ? [one.items] : []
      const extra = typeof one.additionalProperties === 'object' ? [one.additionalProperties] : []
      const own = one.properties?.[key]
      return own ? [own] : extra
    })
    .flatMap(variants)
const schemasAt = (schema: JsonSchema, path: Path) =>
  path.reduce<readonly JsonSchema[]>(step, variants(schema))
const allowedKeys = (schema: JsonSchema, path: Path): string[] => [
  ...new Set(schemasAt(schema, path).flatMap((one) => Object.keys(one.properties ?? {}))),
]
const allowedValues = (schema: JsonSchema, path: Path): string[] => [
  ...new Set(
    schemasAt(schema, path).flatMap((one) =>
      one.enum ? one.enum.map(String) : one.const === undefined ? [] : [String(one.const)],
    ),
  ),
]

const valueAt = (root: unknown, path: Path): unknown => {
  let at = root
  for (const one of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, one)) return undefined
    at = (at as Record<string | number, unknown>)[one]
  }
  return at
}
const typeName = (value: unknown): string =>
  value === null
    ? 'nothing'
    : Array.isArray(value)
      ? 'a list'
      : typeof value === 'object'
        ? 'a map'
        : typeof value === 'string'
          ? 'text'
          : `a ${typeof value}`
const expectedName: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map',
  record: 'a map',
}
const nameOf = (path: Path) =>
  typeof path.at(-1) === 'number' ? dotted(path.slice(-2)) : String(path.at(-1) ?? 'it')
const brief = (value: unknown) =>
  typeof value === 'string' ? `"${value.slice(0, 60)}"` : String(value).slice(0, 60)

interface Context {
  readonly schema: JsonSchema
  readonly value: unknown
  readonly base: Path
  readonly isSecret: (path: Path) => boolean
  readonly alsoAllowed: readonly string[]
}
type Issue = z.core.$ZodIssue

const gotText = (given: unknown, path: Path, context: Context) =>
  typeof given === 'object' || context.isSecret(path) ? '' : ` (got ${brief(given)})`

const unknownKeys = (
  issue: Issue & { code: 'unrecognized_keys' },
  path: Path,
  context: Context,
) => {
  const allowed = [
    ...(path.length === 0 ? context.alsoAllowed : []),
    ...allowedKeys(context.schema, path),
  ]
  const place = dotted([...context.base, ...path])
  return issue.keys.map((key): Trouble => {
    const meant = didYouMean(key, allowed, aliases)
    return {
      code: 'HF-C003',
      text: `unknown key "${key}"${place ? ` in ${place}` : ''}`,
      ...(meant ? { remark: `did you mean "${meant}"?` } : {}),
      secret: isSecretName(meant ?? key),
      hint: `allowed: ${allowed.join(', ')}`,
      path: [...path, key],
    }
  })
}
const wrongValue = (issue: Issue, path: Path, context: Context): Trouble => {
  const given = valueAt(context.value, path)
  const allowed =
    issue.code === 'invalid_value' ? issue.values.map(String) : allowedValues(context.schema, path)
  const meant = typeof given === 'string' ? didYouMean(given, allowed, aliases) : undefined
  return {
    code: 'HF-C006',
    text: `${nameOf(path)} must be ${allowed.length === 1 ? '' : 'one of '}${allowed.join(', ')} (got ${brief(given)})`,
    ...(meant ? { remark: `did you mean "${meant}"?` } : {}),
    path,
    on: 'value',
  }
}
const wrongType = (
  issue: Issue & { code: 'invalid_type' },
  path: Path,
  context: Context,
): Trouble => {
  const given = valueAt(context.value, path)
  const expected = expectedName[issue.expected] ?? issue.expected
  if (given === undefined && path.length > 0) {
    const place = dotted([...context.base, ...path.slice(0, -1)])
    const text = `missing key "${nameOf(path)}"${place ? ` in ${place}` : ''} (${expected})`
    const allowed = allowedValues(context.schema, path)
    const hint = allowed.length > 1 ? { hint: `one of ${allowed.join(', ')}` } : {}
    return { code: 'HF-C004', text, ...hint, path }
  }
  const what = context.base.length + path.length === 0 ? 'the file' : nameOf(path)
  const got =
    typeof given === 'number' && issue.expected === 'int' ? String(given) : typeName(given)
  return { code: 'HF-C005', text: `${what} must be ${expected}, not ${got}`, path, on: 'value' }
}
const boundText = (issue: Issue): string => {
  if (issue.code !== 'too_small' && issue.code !== 'too_big') return issue.message.toLowerCase()
  const bound = issue.code === 'too_small' ? issue.minimum : issue.maximum
  const least = issue.code === 'too_small' ? 'at least' : 'at most'
  if (issue.origin === 'array')
    return `must have ${least} ${bound} ${bound === 1 ? 'entry' : 'entries'}`
  if (issue.origin !== 'string') return `must be ${least} ${bound}`
  return bound === 1 ? 'must not be empty' : `must be ${least} ${bound} characters long`
}
const other = (issue: Issue, path: Path, context: Context): Trouble => {
  const given = valueAt(context.value, path)
  // Messages of our own schemas are written to follow the key's name, and say what they got where that helps.
  const own = issue.code === 'custom' || /^(must|may|needs|is|cannot|has) /.test(issue.message)
  const tells =
    context.isSecret(path) && given !== undefined && issue.message.includes(String(given))
  const text = tells
    ? 'has a value that is not allowed'
    : own
      ? issue.message
      : `${boundText(issue)}${given === '' ? '' : gotText(given, path, context)}`
  return { code: 'HF-C006', text: `${nameOf(path)} ${text}`, path, on: 'value' }
}

/** Alternatives that differ in type or value alone are named together; else the one that got furthest is meant. */
const union = (
  issue: Issue & { code: 'invalid_union' },
  path: Path,
  context: Context,
): readonly Trouble[] => {
  const given = valueAt(context.value, path)
  if (given === undefined && path.length > 0)
    return [wrongType({ ...issue, code: 'invalid_type', expected: 'text' } as never, path, context)]
  if (issue.errors.length === 0) return [wrongValue(issue, path, context)]
  const plain = issue.errors.every(
    ([first, second]) =>
      second === undefined &&
      first?.path.length === 0 &&
      (first.code === 'invalid_type' || first.code === 'invalid_value'),
  )
  if (plain) {
    const words = issue.errors.flatMap(([first]) =>
      first?.code === 'invalid_type'
        ? [expectedName[first.expected] ?? first.expected]
        : first?.code === 'invalid_value'
          ? first.values.map(String)
          : [],
    )
    const text = `${nameOf(path)} must be ${[...new Set(words)].join(' or ')}${gotText(given, path, context)}`
    const meant = typeof given === 'string' ? didYouMean(given, words) : undefined
    const remark = meant ? { remark: `did you mean "${meant}"?` } : {}
    return [{ code: 'HF-C006', text, ...remark, path, on: 'value' }]
  }
  const depth = (issues: readonly Issue[]) =>
    Math.max(...issues.map((one) => one.path.length)) * 1_000 - issues.length
  const best = issue.errors.toSorted((a, b) => depth(b) - depth(a))[0] ?? []
  return best.flatMap((one) =>
    translate({ ...one, path: [...path, ...one.path] } as Issue, context),
  )
}

const translate = (issue: Issue, context: Context): readonly Trouble[] => {
  const path = issue.path.filter((one) => typeof one !== 'symbol')
  if (issue.code === 'unrecognized_keys') return unknownKeys(issue, path, context)
  if (issue.code === 'invalid_type') return [wrongType(issue, path, context)]
  if (issue.code === 'invalid_value') return [wrongValue(issue, path, context)]
  if (issue.code === 'invalid_key')
    return issue.issues.map((one) => ({
      code: 'HF-C006',
      text: `name ${brief(path.at(-1))} ${one.message}`,
      path,
    }))
  if (issue.code === 'invalid_union') return union(issue, path, context)
  return [other(issue, path, context)]
}

const isOwnKey = (key: string) => key.startsWith('x-')
const dropOwnKeys = (root: unknown, issues: readonly Issue[]): boolean => {
  let dropped = false
  for (const issue of issues) {
    if (issue.code === 'invalid_union')
      for (const one of issue.errors)
        dropped =
          dropOwnKeys(
            valueAt(
              root,
              issue.path.filter((step) => typeof step !== 'symbol'),
            ),
            one,
          ) || dropped
    if (issue.code !== 'unrecognized_keys') continue
    const at = valueAt(
      root,
      issue.path.filter((one) => typeof one !== 'symbol'),
    )
    for (const key of issue.keys.filter(isOwnKey))
      dropped =
        (typeof at === 'object' && at !== null && delete (at as Record<string, unknown>)[key]) ||
        dropped
  }
  return dropped
}

export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly troubles: readonly Trouble[] }

/** Troubles carry paths from the file's root: `base` is where `value` stands. */
export const validate = <Schema extends z.ZodType>(
  schema: Schema,
  given: unknown,
  base: Path = [],
  isSecret: (path: Path) => boolean = () => false,
  /** Keys that belong here too and were taken out before. */
  alsoAllowed: readonly string[] = [],
): Checked<z.output<Schema>> => {
  const value = structuredClone(given)
  let result = schema.safeParse(value)
  for (let round = 0; round < 8 && !result.success; round++) {
    if (!dropOwnKeys(value, result.error.issues)) break
    result = schema.safeParse(value)
  }
  if (result.success) return { ok: true, value: result.data }
  const context: Context = {
    schema: jsonSchemaOf(schema),
    value,
    base,
    isSecret: (path) => isSecret([...base, ...path]),
    alsoAllowed,
  }
  const troubles = result.error.issues
    .flatMap((issue) => translate(issue, context))
    .map((one) => ({ ...one, path: [...base, ...(one.path ?? [])] }))
  return { ok: false, troubles }
}
