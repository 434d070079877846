/**
 * `type: postgres`: writes into PostgreSQL or TimescaleDB without a regional node between. Only the config and the
 * wiring stand here: `src/database` writes, `ledger-client.ts` keeps the ledger's rules, `postgres-side.ts` joins them.
 *
 * Invariants: the password stands apart from the address; TLS is verified in full, and off only on this machine.
 */
import { z } from 'zod'
import { extendDictionaryHash } from '../codec/series-id.ts'
import { createPostgresStore } from '../database/postgres.ts'
import { isPrivateUrl, postgresTls, postgresUrls } from '../database/postgres-config.ts'
import { loadPostgres } from '../database/postgres-hosts.ts'
import { planSql } from '../database/schema-postgres.ts'
import { deniedBy, isFailure } from '../errors.ts'
import type { Host } from '../host.ts'
import { relayBodyBytesDefault } from '../limits.ts'
import type { Destination } from '../model.ts'
import { openTlsFiles } from '../tls.ts'
import { duration } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { createLedgerClient } from './ledger-client.ts'
import { type LinkStep, type LinkTarget, timed, unwell, well } from './link.ts'
import { createPostgresSide } from './postgres-side.ts'
import { createWireCount, type WireCount } from './wire-count.ts'

const postgresConfig = z
  .strictObject({
    type: z.literal('postgres'),
    url: postgresUrls.transform((given) => [given].flat()),
    password: z.string().min(1).optional().describe('A reference to a secret'),
    tls: postgresTls,
    connections: z
      .int()
      .min(1)
      .max(64)
      .default(2)
      .describe('At most; two take in as much as a server of two cores writes'),
    statement_timeout: duration()
      .prefault('30s')
      .describe('A transaction that takes longer is given up and tried again'),
  })
  .superRefine(({ url: given, tls }, context) => {
    // What is no address comes here as it was given.
    const url = [given].flat()
    const wrong = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message })
    if (url.some((one) => !URL.canParse(one))) wrong('url', 'is no address')
    else if (url.some((one) => new URL(one).password !== ''))
      wrong('url', 'must hold no password: it belongs under "password", as a reference')
    else if (url.some((one) => new URL(one).username === ''))
      wrong('url', 'must name a user: postgres://USER@HOST:PORT/DATABASE')
    if (tls === 'off' && !url.every(isPrivateUrl))
      wrong('tls', 'cannot be off: the server is not on this machine')
  })
type PostgresConfig = z.output<typeof postgresConfig>

/** Rows of COPY beside the segments they come from, about. */
const rowBytesPerByte = 50
/** Asked at each new connection: a password whose file has changed is taken. */
const passwordOf = (config: PostgresConfig, renewed?: () => unknown) => {
  let { password } = config
  return () => {
    password = (renewed?.() as PostgresConfig | undefined)?.password ?? password
    return password ?? ''
  }
}
const openStore = (
  config: PostgresConfig,
  host: Host,
  wire: WireCount,
  renewed?: () => unknown,
) => {
  const { url: urls, tls: paths, connections } = config
  const tls = paths === 'off' ? null : openTlsFiles(paths, host, { watch: true })
  const serverName = paths === 'off' ? undefined : paths.server_name
  const named = serverName === undefined ? {} : { serverName }
  const store = createPostgresStore({
    urls,
    tls: tls === null ? 'off' : () => ({ ...tls.current(), ...named }),
    ...(config.password === undefined ? {} : { password: passwordOf(config, renewed) }),
    poolMax: connections,
    statementTimeoutMs: config.statement_timeout,
    onSocket: wire.track,
    host,
    extendDictionaryHash,
  })
  return { store, tls }
}
const create = (deps: DestinationDeps, config: PostgresConfig): Destination => {
  const { connections } = config
  const wire = createWireCount()
  const { store, tls } = openStore(config, deps.host, wire, deps.renewed)
  const onBlocked = () => {
    // Not every filesystem tells of changes: look for mended files where certificates may be it.
    tls?.reload()
  }
  return createLedgerClient(deps, {
    side: createPostgresSide(deps, { store, connections, onBlocked }),
    type: 'postgres',
    bodyBytesMax: relayBodyBytesDefault,
    bytesSent: wire.total,
    wireBytesPerByte: rowBytesPerByte,
    close: async () => {
      await store[Symbol.asyncDispose]()
      tls?.[Symbol.dispose]()
    },
  })
}

/** Of every host: one that lets in is enough. A Unix socket has no way to look at. */
const link = ({ url: urls }: PostgresConfig): readonly LinkTarget[] =>
  urls.flatMap((text) => {
    const { hostname, port, searchParams } = new URL(text)
    if (hostname === '' || searchParams.has('host')) return []
    return [{ url: new URL(`tcp://${hostname}:${port || 5432}`), tls: {} }]
  })
/** Connects, proves who it is, and looks at schema and rights; changes nothing. */
const tryOut = async (config: PostgresConfig, host: Host): Promise<readonly LinkStep[]> => {
  const login = await timed(host, 'login', async () => {
    let opened: ReturnType<typeof openStore>
    try {
      opened = openStore(config, host, createWireCount())
    } catch (error) {
      if (!isFailure(error)) throw error
      return { ...unwell(error.code, error.message, error.hint), ...deniedBy(error.cause) }
    }
    try {
      const answer = await opened.store.prepare({ check: true })
      if (answer.kind === 'ok') return well('TLS, login, schema and rights are good')
      if (answer.kind === 'blocked') return unwell(answer.code, answer.text, answer.hint)
      const text = 'text' in answer ? answer.text : answer.kind
      return unwell('HF-N020', text, 'It is tried again by itself; look at the server.')
    } finally {
      await opened.store[Symbol.asyncDispose]()
      opened.tls?.[Symbol.dispose]()
    }
  })
  return [login]
}

export const postgresDestination = defineDestination({
  type: 'postgres',
  config: postgresConfig,
  load: loadPostgres,
  create,
  link,
  tryOut,
  plan: ({ url }, { role, ...options }) =>
    planSql({ role: role ?? decodeURIComponent(new URL(url[0] as string).username), ...options }),
})
