/**
 * What a regional node needs to know: from a small file, from flags, or both (a flag stands before the file).
 * Invariants: as in `load.ts`: all problems at once, unknown keys refused, defaults here and nowhere else.
 */
import { createHash } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { isPrivateUrl, postgresTls, postgresUrls } from '../database/postgres-config.ts'
import { systemClock } from '../host.ts'
import { regionalBytesMax, regionalRequestsMax } from '../limits.ts'
import { size } from '../units.ts'
import { checkCertificates } from './certificates.ts'
import { checkFiles, isLoopback } from './checks.ts'
import { defaultStateDir, type LoadResult, openSource } from './load.ts'
import { absolutePaths } from './paths.ts'
import { listenSchema, logSchema, tokenLengthMin } from './schema.ts'
import { isSecretPath, type RereadOptions, resolveSecrets, secretAgain } from './secrets.ts'
import { parseSource, problemsOf, type SourceText, type Trouble } from './source-text.ts'
import { validate } from './validate.ts'

const databaseSchema = z.strictObject({
  url: postgresUrls,
  password: z.string().optional().describe('A reference to a secret'),
  tls: postgresTls,
  pool_max: z.int().min(1).max(100).default(8).describe('Connections at most'),
})
export const regionalSchema = z.strictObject({
  listen: listenSchema.default('0.0.0.0:8443').describe('Where agents come'),
  tls: z.strictObject({
    ca: z.string().describe('Signs the certificates of agents'),
    cert: z.string().describe('PEM file; its names are how agents call this node'),
    key: z.string().describe('PEM file of its key'),
  }),
  identity: z
    .enum(['certificate', 'signature'])
    .default('certificate')
    .describe("Behind a proxy that ends TLS: a signature by the agent's key over each request"),
  audiences: z
    .array(z.string().regex(/^[^/\s]+:\d+$/, 'must be HOST:PORT'))
    .default([])
    .describe('How agents name this region, HOST:PORT; what a signed request must be made for'),
  state_dir: z.string().min(1).optional().describe('Folder of the embedded database'),
  database: databaseSchema
    .optional()
    .describe('PostgreSQL or TimescaleDB; without it an embedded database'),
  metrics: z
    .strictObject({
      listen: listenSchema.describe('ADDRESS:PORT'),
      token: z
        .string()
        .min(tokenLengthMin)
        .optional()
        .describe('What a scraper must bring; needed beyond loopback'),
    })
    .optional()
    .describe('Serve /metrics and /healthz here too, without client certificates'),
  limits: z
    .strictObject({
      requests: z
        .int()
        .min(1)
        .max(10_000)
        .default(regionalRequestsMax)
        .describe('Worked on at once; beyond, agents are told to come again'),
      bytes: size()
        .prefault(`${regionalBytesMax / 1024 ** 2}MiB`)
        .describe('Of all request bodies held at once'),
    })
    .prefault({}),
  log: logSchema,
})
type Given = z.output<typeof regionalSchema>
export interface RegionalConfig extends Omit<Given, 'state_dir' | 'database'> {
  /** The file, or 'flags'. */
  readonly file: string
  readonly digest: string
  readonly state_dir: string
  readonly database:
    | (Omit<NonNullable<Given['database']>, 'url'> & {
        readonly urls: readonly string[]
        /** What the password refers to, read again; undefined where that cannot be read. */
        readonly renewed: () => string | undefined
      })
    | null
  /** What `metrics.token` refers to, read again; undefined where that cannot be read. */
  readonly renewedToken: () => string | undefined
  readonly secrets: readonly string[]
}
export interface RegionalFlags {
  readonly listen?: string
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly database?: string
  readonly stateDir?: string
}
export interface RegionalLoadOptions extends RereadOptions {
  readonly flags: RegionalFlags
  readonly surroundings?: boolean
}

type Raw = Record<string, unknown>
const isMap = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
/** Flags as the same tree the file would have, references not yet resolved; paths start at the working folder. */
const fromFlags = (flags: RegionalFlags): Raw => {
  const tls = Object.fromEntries(
    Object.entries({ ca: flags.tlsCa, cert: flags.tlsCert, key: flags.tlsKey }).flatMap(
      ([key, path]) => (path ? [[key, resolve(path)]] : []),
    ),
  )
  return {
    ...(flags.listen ? { listen: flags.listen } : {}),
    ...(Object.keys(tls).length > 0 ? { tls } : {}),
    ...(flags.database ? { database: { url: flags.database } } : {}),
    ...(flags.stateDir ? { state_dir: resolve(flags.stateDir) } : {}),
  }
}
const merge = (under: Raw, over: Raw): Raw => {
  const out = { ...under }
  for (const [key, value] of Object.entries(over)) {
    const below = out[key]
    out[key] = isMap(below) && isMap(value) ? merge(below, value) : value
  }
  return out
}

const checkDatabase = (config: RegionalConfig): Trouble[] => {
  if (config.database === null || config.database.tls !== 'off') return []
  return config.database.urls.every(isPrivateUrl)
    ? []
    : [
        {
          code: 'HF-C018',
          text: 'database.tls is off, and the server is not on this machine',
          hint: 'remove "tls: off" (the system\'s roots verify the server), or give tls.ca',
          path: ['database', 'tls'],
          on: 'value',
        },
      ]
}
const checkIdentity = (config: RegionalConfig): Trouble[] =>
  config.identity === 'certificate' || config.audiences.length > 0
    ? []
    : [
        {
          code: 'HF-C019',
          text: 'identity: signature needs "audiences", how agents name this region',
          hint: "for example: audiences: [region.example:443], the host and port of url in the agents' destinations",
          path: ['identity'],
          on: 'value',
        },
      ]
const checkMetrics = ({ metrics }: RegionalConfig): Trouble[] =>
  metrics === undefined || metrics.token !== undefined || isLoopback(metrics.listen)
    ? []
    : [
        {
          code: 'HF-C014',
          text: `${metrics.listen} can be reached from outside this machine, and no token is set`,
          hint: 'set metrics.token, or listen on 127.0.0.1',
          path: ['metrics', 'listen'],
          on: 'value',
        },
      ]

/** `path` null: flags alone. */
export const loadRegionalConfig = (
  path: string | null,
  options: RegionalLoadOptions,
): LoadResult<RegionalConfig> => {
  const { environment, flags } = options
  const opened = path === null ? noFile() : openSource(path, environment)
  if (Array.isArray(opened)) return { ok: false, problems: opened }
  const folder = path === null ? '.' : dirname(resolve(path))
  const file = absolutePaths(opened.root, folder)
  const given = resolveSecrets(fromFlags(flags), environment)
  const root = isMap(file) ? merge(file, given.value as Raw) : file
  const troubles: Trouble[] = [...opened.troubles, ...given.troubles]
  const result = validate(regionalSchema, root, [], isSecretPath)
  if (!result.ok) {
    return { ok: false, problems: problemsOf(opened.text, [...troubles, ...result.troubles]) }
  }
  const { database, state_dir, ...rest } = result.value
  const config: RegionalConfig = {
    ...rest,
    file: opened.text.file,
    digest: createHash('sha256').update(JSON.stringify(root)).digest('hex'),
    state_dir: state_dir ?? defaultStateDir(environment, 'holdfast-regional'),
    database: database
      ? {
          ...database,
          urls: Array.isArray(database.url) ? database.url : [database.url],
          renewed: secretAgain(opened.text.value, ['database', 'password'], options),
        }
      : null,
    renewedToken: secretAgain(opened.text.value, ['metrics', 'token'], options, tokenLengthMin),
    secrets: [...opened.secrets, ...given.secrets, ...passwordsIn(database?.url)],
  }
  troubles.push(...checkDatabase(config), ...checkIdentity(config), ...checkMetrics(config))
  if (options.surroundings !== false) {
    const nowUs = systemClock.nowUs()
    troubles.push(...checkFiles(root), ...checkCertificates(root, { nowUs, agent: undefined }))
  }
  const problems = problemsOf(opened.text, troubles)
  return problems.some(({ severity }) => severity === 'error')
    ? { ok: false, problems }
    : { ok: true, config, warnings: problems }
}
const noFile = () => ({
  text: parseSource('flags', '') satisfies SourceText,
  root: {},
  secrets: [] as string[],
  troubles: [] as Trouble[],
})
const passwordsIn = (urls: string | readonly string[] | undefined): string[] =>
  [urls ?? []].flat().flatMap((url) => {
    const password = /^[a-z]+:\/\/[^/@:]*:([^@]*)@/.exec(url)?.[1]
    return password ? [password] : []
  })

export const regionalJsonSchema = (): Record<string, unknown> =>
  z.toJSONSchema(regionalSchema, { io: 'input', unrepresentable: 'any' })
