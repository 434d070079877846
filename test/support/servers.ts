/**
 * Real PostgreSQL, PgBouncer and mosquitto on free loopback ports, in temporary folders, as an unprivileged user.
 * Each can be stopped, killed (SIGKILL) and started again on the same port with the same data.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, cpSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createCertificates, type TestCertificates } from './certificates.ts'
import { findTool, type Tool } from './debian.ts'
import { freePort, isRoot, nobody, type Running, start } from './processes.ts'
import { temporaryFolder } from './temp.ts'

export const ownFolder = (purpose: string): string => {
  const folder = temporaryFolder(purpose)
  chmodSync(folder, 0o755)
  if (isRoot) chownSync(folder, nobody, nobody)
  return folder
}
export const ownFile = (path: string, text: string, mode = 0o600): string => {
  writeFileSync(path, text, { mode })
  if (isRoot) chownSync(path, nobody, nobody)
  return path
}
const asNobody = isRoot ? { uid: nobody, gid: nobody } : {}

export interface Server {
  readonly port: number
  readonly folder: string
  readonly stop: () => Promise<void>
  /** SIGKILL, as a power cut of the process; data stays. */
  readonly kill: () => Promise<void>
  /** Starts again on the same port and data after `stop` or `kill`. */
  readonly restart: () => Promise<void>
  readonly output: () => string
}
export const serve = async (
  port: number,
  folder: string,
  launch: () => Running,
  ready: (running: Running) => Promise<void>,
  stopping: NodeJS.Signals = 'SIGTERM',
): Promise<Server> => {
  let running = launch()
  await ready(running)
  return {
    port,
    folder,
    stop: async () => {
      running.signal(stopping)
      await running.stop()
    },
    kill: () => running.kill(),
    restart: async () => {
      running = launch()
      await ready(running)
    },
    output: () => running.output(),
  }
}

export interface Postgres extends Server {
  readonly user: string
  readonly password: string
  readonly database: string
  /** TCP with TLS and SCRAM: the way an agent or a regional node comes in. */
  readonly url: string
  readonly ca: string
  /** Runs SQL as the superuser over the Unix socket; returns unaligned rows. */
  readonly sql: (text: string, database?: string) => string
  /** Copies the stopped server's data aside, or puts such a copy back: an earlier moment. */
  readonly saveData: () => string
  readonly restoreData: (saved: string) => void
}
export interface PostgresOptions {
  readonly certificates?: TestCertificates
  /** Lines of postgresql.conf. */
  readonly settings?: readonly string[]
}

export const postgresTool = (program: string): Tool =>
  findTool(program, 'postgresql-15', `/usr/lib/postgresql/15/bin/${program}`)

export const startPostgres = async (options: PostgresOptions = {}): Promise<Postgres> => {
  const certificates = options.certificates ?? (await createCertificates())
  const server = postgresTool('postgres')
  const tools = dirname(server.path)
  const folder = ownFolder('pg')
  const data = join(folder, 'data')
  const env = { ...process.env, ...server.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' }
  const run = (program: string, args: string[], input = '') =>
    execFileSync(program, args, {
      env,
      input,
      encoding: 'utf8',
      cwd: folder,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...asNobody,
    })
  run(join(tools, 'initdb'), [
    '-D',
    data,
    '-U',
    'postgres',
    '-A',
    'trust',
    '--no-sync',
    '-E',
    'UTF8',
    '--locale=C.UTF-8',
  ])
  for (const file of ['cert', 'key'] as const) {
    const path = join(folder, `server.${file}`)
    copyFileSync(certificates.server[file], path)
    chmodSync(path, 0o600)
    if (isRoot) chownSync(path, nobody, nobody)
  }
  const port = await freePort()
  const settings = [
    "listen_addresses = '127.0.0.1'",
    `unix_socket_directories = '${folder}'`,
    'ssl = on',
    `ssl_cert_file = '${folder}/server.cert'`,
    `ssl_key_file = '${folder}/server.key'`,
    "ssl_min_protocol_version = 'TLSv1.3'",
    'password_encryption = scram-sha-256',
    'max_connections = 60',
    'max_wal_size = 2GB',
    'shared_buffers = 128MB',
    'fsync = on',
    'log_min_messages = warning',
    ...(options.settings ?? []),
  ]
  ownFile(join(data, 'postgresql.conf'), `${settings.join('\n')}\n`)
  ownFile(
    join(data, 'pg_hba.conf'),
    'local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n',
  )
  const launch = () =>
    start(server.path, ['-D', data, '-p', String(port)], {
      env: { ...server.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' },
      unprivileged: true,
      cwd: folder,
    })
  const psql = (text: string, database: string) =>
    run(
      join(tools, 'psql'),
      [
        '-XqAt',
        '-v',
        'ON_ERROR_STOP=1',
        '-h',
        folder,
        '-p',
        String(port),
        '-U',
        'postgres',
        '-d',
        database,
      ],
      text,
    ).trim()
  const ready = async (running: Running) => {
    for (let tries = 0; ; tries++) {
      try {
        run(join(tools, 'pg_isready'), ['-q', '-h', folder, '-p', String(port)])
        return
      } catch (error) {
        if (tries > 600 || running.pid < 0)
          throw new Error(`PostgreSQL did not start: ${running.output()}`, { cause: error })
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }
  // SIGINT is PostgreSQL's fast shutdown.
  const served = await serve(port, folder, launch, ready, 'SIGINT')
  const password = 'holdfast-test-password'
  psql(
    `CREATE ROLE holdfast LOGIN PASSWORD '${password}'; CREATE DATABASE holdfast OWNER holdfast;`,
    'postgres',
  )
  return {
    ...served,
    user: 'holdfast',
    password,
    database: 'holdfast',
    url: `postgresql://holdfast:${password}@localhost:${port}/holdfast`,
    ca: certificates.ca,
    sql: (text, database = 'holdfast') => psql(text, database),
    saveData: () => {
      const saved = join(folder, `saved-${process.hrtime.bigint()}`)
      cpSync(data, saved, { recursive: true, preserveTimestamps: true })
      return saved
    },
    restoreData: (saved) => {
      rmSync(data, { recursive: true, force: true })
      cpSync(saved, data, { recursive: true, preserveTimestamps: true })
      if (isRoot) execFileSync('chown', ['-R', `${nobody}:${nobody}`, data])
      chmodSync(data, 0o700)
    },
  }
}

export interface PgBouncer extends Server {
  readonly url: string
  readonly ca: string
}
/** PgBouncer in transaction mode before `postgres`, TLS on both sides, SCRAM passed on by its own user list. */
export const startPgBouncer = async (
  postgres: Postgres,
  certificates: TestCertificates,
): Promise<PgBouncer> => {
  const tool = findTool('pgbouncer', 'pgbouncer')
  const folder = ownFolder('pb')
  const port = await freePort()
  ownFile(join(folder, 'users'), `"${postgres.user}" "${postgres.password}"\n`)
  const config = ownFile(
    join(folder, 'pgbouncer.ini'),
    [
      '[databases]',
      `${postgres.database} = host=localhost port=${postgres.port} dbname=${postgres.database}`,
      `* = host=localhost port=${postgres.port}`,
      '[pgbouncer]',
      `listen_addr = 127.0.0.1`,
      `listen_port = ${port}`,
      'auth_type = scram-sha-256',
      `auth_file = ${folder}/users`,
      'pool_mode = transaction',
      'default_pool_size = 8',
      'client_tls_sslmode = require',
      `client_tls_cert_file = ${certificates.server.cert}`,
      `client_tls_key_file = ${certificates.server.key}`,
      'server_tls_sslmode = verify-full',
      `server_tls_ca_file = ${postgres.ca}`,
      'unix_socket_dir =',
      `logfile = ${folder}/log`,
      'server_round_robin = 1',
      '',
    ].join('\n'),
  )
  const launch = () =>
    start(tool.path, [config], { env: tool.env, unprivileged: true, cwd: folder })
  const served = await serve(port, folder, launch, (running) => running.says('process up'))
  return {
    ...served,
    url: postgres.url.replace(`:${postgres.port}/`, `:${port}/`),
    ca: certificates.ca,
  }
}

export interface Mosquitto extends Server {
  readonly url: string
}
export interface MosquittoOptions {
  /** For measuring: no line a packet in the log. */
  readonly quiet?: boolean
  /** TLS with these certificates; clients must bring one of the same CA. Plain on loopback without. */
  readonly certificates?: TestCertificates
  /** Sessions and messages survive a restart. */
  readonly persistence?: boolean
  readonly settings?: readonly string[]
}
export const startMosquitto = async (options: MosquittoOptions = {}): Promise<Mosquitto> => {
  const tool = findTool('mosquitto', 'mosquitto')
  const folder = ownFolder('mq')
  const port = await freePort()
  const { certificates } = options
  const config = ownFile(
    join(folder, 'mosquitto.conf'),
    [
      `listener ${port} 127.0.0.1`,
      'allow_anonymous true',
      'log_dest stderr',
      `log_type ${options.quiet ? 'information' : 'all'}`,
      ...(certificates
        ? [
            `cafile ${certificates.ca}`,
            `certfile ${certificates.server.cert}`,
            `keyfile ${certificates.server.key}`,
            'require_certificate true',
          ]
        : []),
      ...(options.persistence
        ? ['persistence true', `persistence_location ${folder}/`, 'autosave_interval 1']
        : []),
      ...(options.settings ?? ['max_queued_messages 0']),
      '',
    ].join('\n'),
  )
  const launch = () =>
    start(tool.path, ['-c', config], { env: tool.env, unprivileged: true, cwd: folder })
  const served = await serve(port, folder, launch, (running) =>
    running.says(/mosquitto version .* running/),
  )
  return { ...served, url: `${certificates ? 'mqtts' : 'mqtt'}://localhost:${port}` }
}
