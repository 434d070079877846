/**
 * A YAML file becomes a `Config`, or all of its problems at once, each with its place.
 *
 * Stages: syntax, references, schema, meaning, surroundings (files, disk). A stage runs as far as
 * the earlier ones let
 * it. Invariants: a Config that is returned has no error left; nothing is changed on disk.
 */
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { z } from 'zod'
import { deniedBy, textOf } from '../errors.ts'
import { closingOf, isOpen } from '../unit-user.ts'
import { checkMeaning, checkSurroundings } from './checks.ts'
import { reachTroubles } from './class-reach.ts'
import {
  classSchema,
  classTroubles,
  derivedLanes,
  type LaneClasses,
  laneClassesOf,
  lanesByDefault,
} from './classes.ts'
import { lanesOfClasses } from './lanes.ts'
import { absolutePaths } from './paths.ts'
import { type ConfigProblem, didYouMean } from './problems.ts'
import {
  type Catalog,
  type Config,
  type DestinationConfig,
  destinationCommonSchema,
  type LaneConfig,
  laneSchema,
  laterKeys,
  type SourceConfig,
  sourceCommonSchema,
  tokenLengthMin,
  topSchema,
} from './schema.ts'
import {
  type Environment,
  isSecretPath,
  type RereadOptions,
  resolveSecrets,
  secretAgain,
} from './secrets.ts'
import {
  configBytesMax,
  inFileOrder,
  type Path,
  parseSource,
  problemsOf,
  type SourceText,
  type Trouble,
} from './source-text.ts'
import { type Checked, validate } from './validate.ts'

export interface LoadOptions extends RereadOptions {
  readonly catalog: Catalog
  /** Also look at files, folders and the disk; on unless told otherwise. */
  readonly surroundings?: boolean
}
export type LoadResult<T> =
  | { readonly ok: true; readonly config: T; readonly warnings: readonly ConfigProblem[] }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] }

export interface Source {
  readonly text: SourceText
  readonly digest: string
  readonly root: unknown
  readonly secrets: readonly string[]
  readonly troubles: readonly Trouble[]
}
/** File to values with references resolved; shared with the regional configuration. */
export const openSource = (path: string, environment: Environment): Source | ConfigProblem[] => {
  const at = { severity: 'error', file: path, line: 0, column: 0, excerpt: [] } as const
  let bytes: Buffer
  try {
    if (statSync(path).size > configBytesMax)
      return [{ ...at, code: 'HF-C001', text: 'the file is larger than 1 MiB', hint: '' }]
    bytes = readFileSync(path)
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const text = missing ? 'no such file' : textOf(error)
    const hint = missing ? 'make one with: holdfast init' : 'the agent must be able to read it'
    const why = { ...(missing ? {} : { surroundings: true as const }), ...deniedBy(error) }
    return [{ ...at, code: 'HF-C001', text, hint, ...why }]
  }
  const text = parseSource(path, bytes.toString('utf8'))
  if (text.syntax.length > 0) return inFileOrder(text.syntax)
  const resolved = resolveSecrets(text.value ?? {}, environment)
  for (const one of resolved.literal) text.maskAt(one)
  const open = resolved.literal.length > 0 && isOpen(statSync(path))
  const troubles: Trouble[] = [...resolved.troubles]
  if (open)
    troubles.push({
      severity: 'warning',
      code: 'HF-C043',
      text: 'a secret stands in a file that others can read',
      hint: `${closingOf(path)}, or refer to it with \${file:/path}, \${env:NAME} or \${cred:NAME}`,
      path: resolved.literal[0] ?? [],
    })
  for (const one of resolved.inUrl)
    troubles.push({
      code: 'HF-C044',
      text: 'a password stands in the URL',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: this is what the user writes
      hint: 'write it under "password" beside it, as ${file:/path}, ${env:NAME} or ${cred:NAME}',
      path: one,
      on: 'value',
    })
  return {
    text,
    digest: createHash('sha256').update(bytes).digest('hex'),
    root: resolved.value,
    secrets: resolved.secrets,
    troubles,
  }
}
const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const split = (given: Record<string, unknown>, common: readonly string[]) => {
  const entries = Object.entries(given)
  return {
    common: Object.fromEntries(entries.filter(([key]) => common.includes(key))),
    own: Object.fromEntries(entries.filter(([key]) => !common.includes(key))),
  }
}
interface TypeEntry {
  readonly type: string
  readonly config: z.ZodType
}
/** One entry of `sources` or `destinations`: the common keys by our schema, the rest by its type's. */
const loadPart = <T extends TypeEntry, Common extends object>(
  given: unknown,
  path: Path,
  types: readonly T[],
  commonSchema: z.ZodObject & z.ZodType<Common>,
): Checked<Common & { readonly type: string; readonly of: T; readonly settings: unknown }> => {
  const names = types.map(({ type }) => type)
  if (!isMap(given)) {
    const text = `${String(path[0])}[${String(path[1])}] must be a map with name and type`
    return { ok: false, troubles: [{ code: 'HF-C005', text, path, on: 'value' }] }
  }
  const { common, own } = split(given, Object.keys(commonSchema.shape))
  const troubles: Trouble[] = []
  const shared = validate(commonSchema, common, path, isSecretPath)
  if (!shared.ok) troubles.push(...shared.troubles)
  const of = types.find(({ type }) => type === own.type)
  if (of === undefined) {
    const meant = typeof own.type === 'string' ? didYouMean(own.type, names) : undefined
    const text =
      own.type === undefined
        ? `missing key "type" in ${String(path[0])}[${String(path[1])}]`
        : `unknown type ${JSON.stringify(own.type)}`
    troubles.push({
      code: own.type === undefined ? 'HF-C004' : 'HF-C008',
      text,
      ...(meant ? { remark: `did you mean "${meant}"?` } : {}),
      hint: `types: ${names.join(', ')}`,
      path: [...path, 'type'],
      on: 'value',
    })
    return { ok: false, troubles }
  }
  const settings = validate(of.config, own, path, isSecretPath, Object.keys(commonSchema.shape))
  if (!settings.ok) troubles.push(...settings.troubles)
  if (!shared.ok || !settings.ok) return { ok: false, troubles }
  return {
    ok: true,
    value: { ...shared.value, type: of.type, of, settings: settings.value },
  }
}

interface Parts {
  readonly sources: readonly SourceConfig[]
  readonly destinations: readonly DestinationConfig[]
  readonly lanes: readonly LaneConfig[]
  readonly troubles: readonly Trouble[]
}
const lanesOf = (root: Record<string, unknown>): readonly LaneConfig[] => {
  // Read on its own, so that a mistake elsewhere does not make every lane unknown.
  const given = isMap(root.lanes) ? root.lanes : { raw: {} }
  return Object.entries(given).map(([name, lane]) => {
    const result = laneSchema.safeParse(lane ?? {})
    return { name, ...(result.success ? result.data : laneSchema.parse({})) }
  })
}
/** Those that the schema takes: a mistake in one does not hide what is wrong with another. */
const classesOf = (root: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(isMap(root.classes) ? root.classes : {}).flatMap(([name, one]) => {
      const result = classSchema.safeParse(one)
      return result.success ? [[name, result.data] as const] : []
    }),
  )
const commonKeys = {
  sources: Object.keys(sourceCommonSchema.shape),
  destinations: Object.keys(destinationCommonSchema.shape),
}
type Place = readonly [list: keyof typeof commonKeys, index: number]
/** Settings again, from the text as it was read: only what they refer to may have changed. */
const renewing =
  (text: SourceText, [list, index]: Place, of: TypeEntry, folder: string, options: LoadOptions) =>
  () => {
    const all = (text.value as Readonly<Record<string, readonly unknown[]>>)[list] ?? []
    const { value, secrets, troubles } = resolveSecrets(all[index], options.environment)
    if (troubles.length > 0) return undefined
    for (const secret of secrets) options.onSecret?.(secret)
    const { own } = split(absolutePaths(value, folder) as Record<string, unknown>, commonKeys[list])
    return of.config.safeParse(own).data
  }
const loadParts = (
  root: Record<string, unknown>,
  catalog: Catalog,
  classes: readonly LaneClasses[],
  renew: (place: Place, of: TypeEntry) => () => unknown,
): Parts => {
  const lanes = lanesOf(root)
  const troubles: Trouble[] = []
  const gather = <T>(given: unknown, load: (one: unknown, index: number) => Checked<T>): T[] =>
    (Array.isArray(given) ? given : []).flatMap((one, index) => {
      const result = load(one, index)
      if (result.ok) return [result.value]
      troubles.push(...result.troubles)
      return []
    })
  const sources = gather(root.sources, (one, index) => {
    const place = ['sources', index] as const
    const result = loadPart(one, place, catalog.sources, sourceCommonSchema)
    if (!result.ok) return result
    return { ok: true, value: { ...result.value, renewed: renew(place, result.value.of) } }
  })
  const destinations = gather(root.destinations, (one, index) => {
    const place = ['destinations', index] as const
    const { destinations: types } = catalog
    const result = loadPart(one, place, types, destinationCommonSchema)
    if (!result.ok) return result
    return { ok: true, value: { ...result.value, renewed: renew(place, result.value.of) } }
  }).map((one) => ({
    ...one,
    lanes: one.lanes ?? lanesByDefault(lanes, classes),
    bandwidth: one.bandwidth ?? null,
  }))
  return { sources, destinations, lanes, troubles }
}
const isEmpty = (value: unknown) =>
  value === undefined ||
  value === null ||
  (typeof value === 'object' && Object.keys(value).length === 0)

const isReference = ({ code }: Trouble) => code === 'HF-C012' || code === 'HF-C013'
const at = (path: Path | undefined) => path?.join('\0')
/**
 * One thing is said once: a reference without a value leaves nothing for the schema to complain
 * about, and a door's own
 * schema knows better than we do what it needs.
 */
const saidOnce = (troubles: readonly Trouble[]): Trouble[] => {
  const unresolved = new Set(troubles.filter(isReference).map(({ path }) => at(path)))
  const doors = new Set(
    troubles
      .filter(({ path }) => /^(token|listen)$/.test(String(path?.at(-1))))
      .filter(({ code }) => code !== 'HF-C014')
      .map(({ path }) => at(path?.slice(0, -1))),
  )
  return troubles.filter((one) => {
    if (one.code === 'HF-C014') return !doors.has(at(one.path?.slice(0, -1)))
    return isReference(one) || !unresolved.has(at(one.path))
  })
}

/** As the unit of that name gives it. */
export const defaultStateDir = (environment: Environment, unit = 'holdfast'): string =>
  environment.STATE_DIRECTORY?.split(':')[0] || `/var/lib/${unit}`

export const loadConfig = (path: string, options: LoadOptions): LoadResult<Config> => {
  const { environment, catalog } = options
  const opened = openSource(path, environment)
  if (Array.isArray(opened)) return { ok: false, problems: opened }
  const folder = dirname(resolve(path))
  const root = absolutePaths(opened.root, folder)
  const troubles: Trouble[] = [...opened.troubles]
  const top = validate(topSchema, root, [], isSecretPath)
  if (!top.ok) troubles.push(...top.troubles)
  const map = isMap(root) ? root : {}
  const given = classesOf(map)
  const classes = laneClassesOf(given)
  const parts = loadParts(map, catalog, classes, (place, of) =>
    renewing(opened.text, place, of, folder, options),
  )
  troubles.push(...parts.troubles)
  for (const key of laterKeys)
    if (!isEmpty(map[key]))
      troubles.push({
        code: 'HF-C011',
        text: `"${key}" is not part of this version of Holdfast`,
        hint: 'remove it; nothing of it would have any effect',
        path: [key],
      })
  const ofClasses = new Set([
    ...classes.map(({ lane }) => lane),
    ...derivedLanes(classes),
    ...(top.ok ? [] : lanesOfClasses(map.classes)),
  ])
  troubles.push(...checkMeaning(map, { ...parts, ofClasses }))
  const lanes = parts.lanes.map(({ name }) => name)
  troubles.push(...classTroubles(given, { ...parts, lanes }))
  const isWrong = ({ severity = 'error' }: Trouble) => severity === 'error'
  if (!troubles.some(isWrong)) troubles.push(...reachTroubles(classes, parts))
  const config: Config | undefined = top.ok
    ? {
        file: path,
        digest: opened.digest,
        agent: {
          ...top.value.agent,
          state_dir: top.value.agent.state_dir ?? defaultStateDir(environment),
        },
        renewedToken: secretAgain(
          opened.text.value,
          ['agent', 'metrics', 'token'],
          options,
          tokenLengthMin,
        ),
        lanes: parts.lanes,
        classes,
        spool: top.value.spool,
        sources: parts.sources,
        destinations: parts.destinations,
        secrets: opened.secrets,
      }
    : undefined
  if (config && options.surroundings !== false) troubles.push(...checkSurroundings(map, config))
  const problems = problemsOf(opened.text, saidOnce(troubles))
  if (config === undefined || problems.some((one) => one.severity === 'error'))
    return { ok: false, problems }
  return { ok: true, config, warnings: problems }
}
