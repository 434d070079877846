/**
 * A whole site of real processes for end-to-end tests: the agent and the regional node through the command line, over
 * PostgreSQL or the embedded store, and the checker's verdict at the end.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after } from 'node:test'
import pg from 'pg'
import { stringify } from 'yaml'
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createControlClient } from '../../src/control/client.ts'
import type { AgentStatus } from '../../src/control/view.ts'
import { createEmbeddedStore } from '../../src/database/embedded.ts'
import {
  createEmbeddedReadBack,
  createPostgresReadBack,
  type ReadBack,
} from '../../src/database/read-back.ts'
import { createSystemHost } from '../../src/host.ts'
import { check, type JournalPoint, type Verdict } from '../../src/verify/checker.ts'
import { readEvidence } from '../../src/verify/evidence.ts'
import { createCertificates, type KeyFiles, type TestCertificates } from './certificates.ts'
import { freePort, killAll, type Running, type StartOptions, start } from './processes.ts'
import type { Postgres } from './servers.ts'
import { temporaryFolder } from './temp.ts'

after(killAll)

export const cliPath = join(import.meta.dirname, '../../src/cli/main.ts')

export interface SiteOptions {
  readonly agent?: string
  /** Without: the embedded store. `url` goes to the regional node (it may name PgBouncer), `postgres` to the checker. */
  readonly database?: {
    readonly url: string | readonly string[]
    readonly postgres: Pick<Postgres, 'folder' | 'port' | 'database'>
  }
  /** More keys of the HTTP door. */
  readonly door?: object
  /** Where the agent serves its metrics. */
  readonly metrics?: object
  /** Sources beside the HTTP door. */
  readonly sources?: readonly object[]
  readonly spool?: Readonly<Record<string, unknown>>
  readonly lanes?: Readonly<Record<string, unknown>>
  readonly classes?: Readonly<Record<string, unknown>>
  readonly destination?: Readonly<Record<string, unknown>>
  readonly certificates?: TestCertificates
  /** How the agent's process is made: inside a namespace, under a shim. */
  readonly run?: (command: string, args: readonly string[], options?: StartOptions) => Running
  /** Folder of the spool, when it must be on a disk of the test's own. */
  readonly stateDir?: string
  /** Port the agent believes the region to be on (a link's), and the one it is on. */
  readonly relayPort?: number
  readonly regionPort?: number
}
export interface Site {
  readonly folder: string
  readonly name: string
  readonly certificates: TestCertificates
  readonly agentKey: KeyFiles
  readonly door: string
  readonly regionPort: number
  readonly stateDir: string
  readonly config: string
  /** The agent's control socket. */
  readonly socket: string
  /** The embedded store's file. */
  readonly regionDatabase: string
  readonly startAgent: (options?: StartOptions) => Promise<Running>
  readonly startRegional: () => Promise<Running>
  readonly status: () => Promise<AgentStatus>
  /** Resolves when the status is so; rejects with the last one after `seconds` (60). */
  readonly when: (
    good: (seen: AgentStatus) => boolean,
    seconds?: number,
    everyMs?: number,
  ) => Promise<AgentStatus>
  /** Resolves when `accepted` points are in and none is pending; rejects with the last status after `seconds`. */
  readonly drained: (seconds?: number, accepted?: number) => Promise<AgentStatus>
  /** With the regional node stopped (embedded) or not (PostgreSQL). */
  readonly verdict: (
    journal: Iterable<JournalPoint>,
    options?: { readonly losses?: number; readonly pending?: number },
  ) => Promise<Verdict>
  /** An operator's word for every fenced epoch; with the regional node stopped (embedded store only). */
  readonly admitFenced: () => Promise<void>
  readonly withReadBack: <T>(work: (back: ReadBack, delivered: number) => Promise<T>) => Promise<T>
}

/** Points the agent has accepted since its spool began, as it says: to wait for, never to judge by. */
export const acceptedIn = (seen: AgentStatus): number =>
  seen.lanes.reduce((sum, lane) => sum + (lane.derived ? 0 : lane.accepted), 0)

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const openPostgres = async (
  postgres: Pick<Postgres, 'folder' | 'port' | 'database'>,
): Promise<pg.Client> => {
  const client = new pg.Client({
    host: postgres.folder,
    port: postgres.port,
    user: 'postgres',
    database: postgres.database,
  })
  await client.connect()
  return client
}

function* inParts<One>(all: Iterable<One>): Generator<One[]> {
  let part: One[] = []
  for (const one of all) {
    if (part.push(one) < 4096) continue
    yield part
    part = []
  }
  yield part
}

const writeConfigs = async (
  folder: string,
  options: SiteOptions,
  facts: {
    name: string
    doorPort: number
    regionPort: number
    stateDir: string
    tls: TestCertificates
    key: KeyFiles
  },
) => {
  const { name, doorPort, regionPort, stateDir, tls, key } = facts
  const config = join(folder, 'holdfast.yaml')
  const regional = join(folder, 'regional.yaml')
  writeFileSync(
    config,
    stringify({
      agent: {
        ...{ name, state_dir: stateDir },
        ...(options.metrics ? { metrics: options.metrics } : {}),
      },
      sources: [
        { name: 'door', type: 'http', listen: `127.0.0.1:${doorPort}`, ...options.door },
        ...(options.sources ?? []),
      ],
      ...(options.lanes ? { lanes: options.lanes } : {}),
      ...(options.classes ? { classes: options.classes } : {}),
      spool: options.spool ?? {},
      destinations: [
        {
          name: 'region',
          type: 'relay',
          url: `https://localhost:${options.relayPort ?? regionPort}`,
          tls: { ca: tls.ca, ...key },
          ...options.destination,
        },
      ],
    }),
  )
  writeFileSync(
    regional,
    stringify({
      listen: `127.0.0.1:${regionPort}`,
      state_dir: join(folder, 'region'),
      tls: { ca: tls.ca, ...tls.server },
      ...(options.database ? { database: databaseOf(folder, options.database, tls.ca) } : {}),
    }),
  )
  return { config, regional }
}

/** A password in an address is refused: it goes into a file beside. */
const databaseOf = (
  folder: string,
  { url }: { readonly url: string | readonly string[] },
  ca: string,
) => {
  const urls = [url].flat().map((one) => new URL(one))
  const password = urls.map((one) => decodeURIComponent(one.password)).find(Boolean)
  for (const one of urls) one.password = ''
  const where = { url: urls.map(({ href }) => href), tls: { ca } }
  if (password === undefined) return where
  const file = join(folder, 'database-password')
  writeFileSync(file, password, { mode: 0o600 })
  return { ...where, password: `\${file:${file}}` }
}

export const createSite = async (options: SiteOptions = {}): Promise<Site> => {
  const folder = temporaryFolder('site')
  const name = options.agent ?? 'gw-1'
  const certificates = options.certificates ?? (await createCertificates())
  const agentKey = await certificates.agent(name)
  const [doorPort, regionPort] = [await freePort(), options.regionPort ?? (await freePort())]
  const stateDir = options.stateDir ?? join(folder, 'agent')
  mkdirSync(join(folder, 'region'), { recursive: true })
  const files = await writeConfigs(folder, options, {
    name,
    doorPort,
    regionPort,
    stateDir,
    tls: certificates,
    key: agentKey,
  })
  // The socket stays outside a state folder that only a namespace can see.
  const runtimeDir = join(folder, 'run')
  mkdirSync(runtimeDir)
  const door = `http://127.0.0.1:${doorPort}`
  const database = join(folder, 'region', 'region.db')
  const socket = join(runtimeDir, 'control.sock')
  const client = createControlClient(socket, 2_000)
  const host = createSystemHost()
  const run = options.run ?? start

  const withReadBack: Site['withReadBack'] = async (work) => {
    if (options.database) {
      const pgClient = await openPostgres(options.database.postgres)
      try {
        const { rows } = await pgClient.query<{ points: string }>({
          text: 'select coalesce(sum(points), 0)::text as points from ledger where agent = $1',
          values: [name],
        })
        return await work(createPostgresReadBack(pgClient), Number(rows[0]?.points))
      } finally {
        await pgClient.end()
      }
    }
    await using store = createEmbeddedStore({ path: database, host, extendDictionaryHash })
    await store.prepare()
    const answer = await store.agents()
    const delivered =
      answer.kind === 'ok' ? (answer.agents.find((one) => one.agent === name)?.points ?? 0) : -1
    return await work(createEmbeddedReadBack(store.database), delivered)
  }
  let prepared = false
  const startRegional = async () => {
    if (!prepared && !options.database) await withReadBack((back) => back.installAudit())
    const running = start('node', [cliPath, 'regional', '-c', files.regional])
    await running.says('regional_listening')
    if (!prepared && options.database) await withReadBack((back) => back.installAudit())
    prepared = true
    return running
  }
  const status = () => client.get<AgentStatus>('/v1/status')
  const when: Site['when'] = async (good, seconds = 60, everyMs = 10) => {
    let last: unknown
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(everyMs)) {
      try {
        const seen = await status()
        last = seen.destinations
        if (good(seen)) return seen
      } catch (error) {
        last = error
      }
    }
    throw new Error(
      `not so in ${seconds} s: ${last instanceof Error ? last.message : JSON.stringify(last)}`,
    )
  }
  return {
    folder,
    name,
    certificates,
    agentKey,
    door,
    regionPort,
    stateDir,
    config: files.config,
    socket,
    regionDatabase: database,
    startAgent: async (startOptions) => {
      const running = run('node', [cliPath, 'run', '-c', files.config], {
        ...startOptions,
        env: { RUNTIME_DIRECTORY: runtimeDir, ...startOptions?.env },
      })
      await running.says('source_listening')
      return running
    },
    startRegional,
    status,
    when,
    drained: (seconds = 60, accepted = 0) =>
      when(
        (seen) =>
          acceptedIn(seen) >= accepted &&
          seen.lanes.length > 0 &&
          seen.lanes.every((lane) => lane.readers.every((one) => one.pending === 0)),
        seconds,
        200,
      ),
    withReadBack,
    admitFenced: async () => {
      await using store = createEmbeddedStore({ path: database, host, extendDictionaryHash })
      await store.prepare()
      const answer = await store.agents()
      if (answer.kind !== 'ok') throw new Error('no agents to admit')
      for (const row of answer.agents)
        for (const epoch of row.fenced) await store.admit(row.agent, epoch)
    },
    verdict: (journal, { losses = 0, pending = 0 } = {}) =>
      withReadBack(async (back, delivered) => {
        return await check({
          ...(await readEvidence(back, name)),
          journal: inParts(journal),
          losses: { acked: losses, unsure: 0 },
          delivered,
          reduced: 0,
          pending,
        })
      }),
  }
}

/** The command line, run to its end. */
export const cli = (
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): { code: number; out: string; err: string } => {
  const { status, stdout, stderr } = spawnSync('node', [cliPath, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return { code: status ?? -1, out: stdout, err: stderr }
}
export const textOfFile = (path: string) => readFileSync(path, 'utf8')
