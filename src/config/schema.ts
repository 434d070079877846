/**
 * What may stand in a Holdfast configuration: the top-level keys, and what a source and destination adds to its type.
 *
 * Invariants: an unknown key is an error; a feature this version lacks is refused, never accepted and ignored; each
 * default stands here and nowhere else.
 */
import { z } from 'zod'
import type { DestinationType } from '../destinations/destination.ts'
import {
  priorityDefault,
  priorityLast,
  requestsInFlightDefault,
  seriesMax,
  spoolBytesMin,
} from '../limits.ts'
import type { SourceType } from '../sources/source.ts'
import { duration, size } from '../units.ts'
import { classesSchema, type LaneClasses } from './classes.ts'

/** The types a configuration may name: `sourceTypes` and `destinationTypes`, or a test's own. */
export interface Catalog {
  readonly sources: readonly SourceType[]
  readonly destinations: readonly DestinationType[]
}

const nameSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    'must be 1 to 64 letters, digits, ".", "_" or "-", and begin with a letter or digit',
  )
/** `127.0.0.1:9090`, `[::1]:9090`, `localhost:9090`. */
export const listenSchema = z
  .string()
  .regex(
    /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+|\*)?:\d{1,5}$/,
    'must be ADDRESS:PORT such as "127.0.0.1:9090"',
  )

const percent = () =>
  z.union([z.string(), z.number()]).transform((given, context) => {
    const match = /^(\d{1,3}(?:\.\d+)?)\s*%$/.exec(String(given).trim())
    const share = typeof given === 'number' ? given : match ? Number(match[1]) / 100 : Number.NaN
    if (share >= 0 && share <= 1) return share
    context.addIssue({ code: 'custom', message: 'must be a share such as "60%" or 0.6' })
    return z.NEVER
  })
const rateFactor: Readonly<Record<string, number>> = { k: 1e3, M: 1e6, G: 1e9, '': 1 }
/** "2 Mbit/s", "500 kB/s" in; bytes per second out. */
const rate = () =>
  z.string().transform((text, context) => {
    const match = /^(\d{1,9}(?:\.\d{1,6})?)\s*([kMG]?)(bit|B)\/s$/.exec(text.trim())
    const value = Number(match?.[1]) * (rateFactor[match?.[2] ?? ''] ?? 0)
    const bytes = match?.[3] === 'bit' ? value / 8 : value
    if (match && bytes >= 100) return Math.round(bytes)
    context.addIssue({ code: 'custom', message: 'must be a rate such as "2 Mbit/s" or "500 kB/s"' })
    return z.NEVER
  })

const isTimeZone = (name: string): boolean => {
  // Asking costs 6 MB for the life of the process: all locales are looked at.
  if (name === 'UTC') return true
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}
export const logSchema = z
  .strictObject({
    level: z
      .enum(['debug', 'info', 'warn', 'error'])
      .default('info')
      .describe('Least that is said: warn recovers by itself, error needs a person'),
  })
  .prefault({})
/** Of a token that scrapers bring. */
export const tokenLengthMin = 16
export const agentSchema = z.strictObject({
  name: nameSchema.describe('Name of this gateway: part of every series, and of its certificate'),
  state_dir: z
    .string()
    .min(1)
    .optional()
    .describe('Folder of the spool and the control socket; $STATE_DIRECTORY or /var/lib/holdfast'),
  log: logSchema,
  metrics: z
    .strictObject({
      listen: listenSchema.describe('Serve /metrics and /healthz here'),
      token: z
        .string()
        .min(tokenLengthMin)
        .optional()
        .describe('What a scraper must bring; needed beyond loopback'),
    })
    .optional()
    .describe('Prometheus metrics over HTTP; the control socket serves them anyway'),
  time_zone: z
    .string()
    .default('UTC')
    .refine(isTimeZone, 'must be a time zone such as "Europe/Berlin"')
    .describe('Where days of windows begin and end'),
  max_ahead: duration()
    .prefault('1h')
    .describe(
      'In lanes that classes read: points further ahead of the trusted clock are marked, and no window counts them',
    ),
  series_max: z
    .int()
    .min(1)
    .max(seriesMax)
    .default(seriesMax)
    .describe('New series beyond are refused, with a gap record'),
})

export const laneSchema = z.strictObject({
  when_full: z
    .enum(['block', 'drop_oldest'])
    .default('block')
    .describe('At the quota: make sources wait, or give up the oldest and leave gap records'),
  max_delay: duration()
    .prefault('1s')
    .describe('A point waits at most this long in the open segment'),
  priority: z
    .int()
    .min(0)
    .max(priorityLast - 1)
    .default(priorityDefault)
    .describe('0 goes first: lanes behind it send nothing new while it has something to send'),
})
const lanesSchema = z
  .record(
    nameSchema,
    laneSchema.nullable().transform((lane) => lane ?? laneSchema.parse({})),
  )
  .refine((lanes) => Object.keys(lanes).length <= 64, 'may name at most 64 lanes')

export const spoolSchema = z.strictObject({
  size_max: size()
    .refine((bytes) => bytes >= spoolBytesMin, 'must be at least 4MiB')
    .prefault('1GiB')
    .describe('Quota of the spool on disk; at least 4MiB'),
  disk_free_min: size().prefault('64MiB').describe('Intake waits while the disk has less free'),
  commit_window: duration().prefault('100ms').describe('Points are flushed at least this often'),
  keep_sent: duration()
    .prefault('24h')
    .describe('How long sent points stay, so that they can be sent again'),
  compression: z.enum(['zstd', 'lz4']).default('zstd').describe('Of sealed segments'),
})

export const sourceCommonSchema = z.strictObject({
  name: nameSchema.describe('How status, log and metrics call it'),
  lane: nameSchema.default('raw').describe('Lane its points go to'),
})
export const destinationCommonSchema = z.strictObject({
  name: nameSchema.describe('Its identity: a new endpoint keeps its place, a new name starts anew'),
  lanes: z.array(nameSchema).min(1).optional().describe('Lanes it takes; all unless given'),
  from: z.enum(['now', 'oldest']).default('now').describe('Where a new destination starts'),
  live_share: percent()
    .prefault('50%')
    .describe('Share of the link for new points while a backlog drains'),
  order: z
    .enum(['newest_first', 'oldest_first'])
    .default('newest_first')
    .describe('After an outage: new points beside the backlog, or strictly in order'),
  requests_in_flight: z.int().min(1).max(64).default(requestsInFlightDefault).describe('At once'),
  bandwidth: rate()
    .optional()
    .describe(
      'At most this much on the wire, for example "2 Mbit/s": requests with their headers; file: what is written',
    ),
})

/** Named in the design, not in this version: may be absent or empty. */
const notYet = z.unknown().optional()
export const laterKeys = ['remote', 'console'] as const
export const topSchema = z.strictObject({
  agent: agentSchema,
  sources: z.array(z.unknown()).max(1_000).nullable().default([]),
  classes: classesSchema.nullable().default(null),
  lanes: lanesSchema.nullable().default(null),
  spool: spoolSchema.prefault({}),
  destinations: z.array(z.unknown()).max(32).nullable().default([]),
  remote: notYet,
  console: notYet,
})

export interface LaneConfig extends z.output<typeof laneSchema> {
  readonly name: string
}
export interface SourceConfig extends z.output<typeof sourceCommonSchema> {
  readonly type: string
  readonly of: SourceType
  /** Output of the type's own schema: what `of.create` takes. */
  readonly settings: unknown
  /** `settings` with what they refer to read again; undefined where that cannot be read, or is not valid. */
  readonly renewed: () => unknown
}
export interface DestinationConfig
  extends Omit<z.output<typeof destinationCommonSchema>, 'lanes' | 'bandwidth'> {
  readonly type: string
  readonly of: DestinationType
  readonly settings: unknown
  readonly lanes: readonly string[]
  /** Bytes per second, null for no bound. */
  readonly bandwidth: number | null
  /** `settings` with what they refer to read again; undefined where that cannot be read, or is not valid. */
  readonly renewed: () => unknown
}
export interface Config {
  readonly file: string
  /** SHA-256 of the file's bytes, hex. */
  readonly digest: string
  readonly agent: Omit<z.output<typeof agentSchema>, 'state_dir'> & { readonly state_dir: string }
  /** The token of `agent.metrics` read again; undefined where that cannot be read. */
  readonly renewedToken: () => string | undefined
  readonly lanes: readonly LaneConfig[]
  readonly classes: readonly LaneClasses[]
  readonly spool: z.output<typeof spoolSchema>
  readonly sources: readonly SourceConfig[]
  readonly destinations: readonly DestinationConfig[]
  /** What must never be printed. */
  readonly secrets: readonly string[]
}

type JsonObject = Record<string, unknown>
const typeSchemas = (
  types: readonly { readonly type: string; readonly config: z.ZodType }[],
  common: z.ZodType,
): JsonObject[] => {
  const shared = schemaOf(common)
  return types.map(({ type, config }) => {
    const own = schemaOf(config)
    return {
      ...own,
      title: type,
      properties: { ...(shared.properties as JsonObject), ...(own.properties as JsonObject) },
      required: ['name', ...new Set(['type', ...((own.required as string[]) ?? [])])],
    }
  })
}
const schemaOf = (schema: z.ZodType): JsonObject => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return rest as JsonObject
}
/** JSON Schema (2020-12) of the file, for editors; `x-` keys pass everywhere. */
export const configJsonSchema = (catalog: Catalog): JsonObject => {
  const top = schemaOf(topSchema)
  const list = (schemas: JsonObject[]) => ({
    anyOf: [{ type: 'array', items: { anyOf: schemas } }, { type: 'null' }],
  })
  const properties: JsonObject = {
    ...(top.properties as JsonObject),
    sources: list(typeSchemas(catalog.sources, sourceCommonSchema)),
    destinations: list(typeSchemas(catalog.destinations, destinationCommonSchema)),
  }
  for (const key of laterKeys) properties[key] = { maxProperties: 0, maxItems: 0 }
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Holdfast configuration',
    ...(withOwnKeys({ ...top, properties }) as JsonObject),
  }
}
const withOwnKeys = (schema: unknown): unknown => {
  if (Array.isArray(schema)) return schema.map(withOwnKeys)
  if (typeof schema !== 'object' || schema === null) return schema
  const out = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, withOwnKeys(value)]),
  )
  return out.additionalProperties === false ? { ...out, patternProperties: { '^x-': {} } } : out
}
