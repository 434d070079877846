/**
 * A real Patroni cluster on loopback: three PostgreSQL nodes, etcd as their referee, TLS and SCRAM, synchronous
 * replication, an archive of WAL; its leader can be killed, and the whole of it restored to a named moment.
 *
 * Patroni and etcd are found on the PATH or unpacked from Debian's packages; all of it runs as an unprivileged user.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import pg from 'pg'
import { stringify } from 'yaml'
import type { TestCertificates } from './certificates.ts'
import { findTool } from './debian.ts'
import { freePort, isRoot, nobody, type Running, start } from './processes.ts'
import { ownFile, ownFolder, postgresTool } from './servers.ts'

interface Node {
  readonly name: string
  readonly port: number
  readonly restPort: number
  readonly data: string
}
export interface PatroniCluster {
  readonly folder: string
  readonly user: string
  readonly password: string
  readonly database: string
  /** Addresses of the three nodes, `postgres://USER@localhost:PORT/DATABASE`. */
  readonly urls: readonly string[]
  /** Of the leader that was seen last. */
  readonly port: number
  /** Waits for a leader that takes writes, and for so many replicas. */
  readonly ready: (replicas: number) => Promise<void>
  /** On the leader, as superuser. */
  readonly sql: (text: string, database?: string) => Promise<readonly Record<string, unknown>[]>
  /** SIGKILL to the leader's Patroni and PostgreSQL; resolves with the node's name. */
  readonly killLeader: () => Promise<string>
  readonly startNode: (name: string) => void
  /** A base backup of the leader. */
  readonly backup: () => void
  /** Stops every node, and begins anew from the backup and the archive, at the named restore point. */
  readonly restoreTo: (restorePoint: string) => Promise<void>
  readonly stop: () => Promise<void>
  readonly output: () => string
}

const password = 'of-the-cluster'
const asNobody = isRoot ? { uid: nobody, gid: nobody } : {}
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The file outlives a kill, and its number may be somebody else's by then: a postmaster works in its data folder. */
const killPostmaster = (data: string): void => {
  try {
    const pid = Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n', 1)[0])
    if (readlinkSync(`/proc/${pid}/cwd`) === data) process.kill(pid, 'SIGKILL')
  } catch {
    // Never started, or already gone.
  }
}

/** Patroni gives its PostgreSQL a session of its own: this ends them when the test's process is gone, however it went. */
const reapWithParent = (nodes: readonly Node[]): (() => void) => {
  const script = `cat; for d in "$@"; do p=$(head -n 1 $d/postmaster.pid)
    [ "$(readlink /proc/$p/cwd)" = $d ] && kill -9 $p; done`
  const reaper = spawn('sh', ['-c', script, 'reaper', ...nodes.map(({ data }) => data)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  reaper.unref()
  return () => reaper.stdin.end()
}

const toolsOf = () => {
  const etcd = findTool('etcd', 'etcd-server', '/usr/bin/etcd')
  const place = '/usr/bin/patroni'
  const patroni = findTool('patroni', 'patroni', place)
  const postgres = postgresTool('postgres')
  const root = patroni.path.slice(0, -place.length)
  const libraries = [patroni.env.LD_LIBRARY_PATH, postgres.env.LD_LIBRARY_PATH].filter(Boolean)
  const unpacked = patroni.origin === 'unpacked'
  const env = {
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    PYTHONDONTWRITEBYTECODE: '1',
    ...(libraries.length > 0 ? { LD_LIBRARY_PATH: libraries.join(':') } : {}),
    ...(unpacked ? { PYTHONPATH: `${root}/usr/lib/python3/dist-packages` } : {}),
  }
  // Debian's own Python: the modules are made for it.
  const command = unpacked ? ['/usr/bin/python3', patroni.path] : [patroni.path]
  return { etcd, command: command as [string, ...string[]], env, bin: dirname(postgres.path) }
}

interface Layout {
  readonly folder: string
  readonly etcdPort: number
  readonly bin: string
  readonly ca: string
}
const tlsParameters = ({ folder, ca }: Layout) => ({
  ssl: 'on',
  ssl_cert_file: `${folder}/server.cert`,
  ssl_key_file: `${folder}/server.key`,
  ssl_ca_file: ca,
})
/** `restorePoint`: begin from the backup instead of an empty database. */
const configOf = (layout: Layout, node: Node, scope: string, restorePoint?: string): string => {
  const { folder, etcdPort, bin, ca } = layout
  const login = (username: string) => ({
    username,
    password,
    sslmode: 'verify-ca',
    sslrootcert: ca,
  })
  const pitr = {
    method: 'pitr',
    pitr: {
      command: `${folder}/restore.sh ${node.data}`,
      no_params: true,
      recovery_conf: {
        restore_command: `cp ${folder}/archive/%f %p`,
        recovery_target_name: restorePoint,
        recovery_target_action: 'promote',
      },
    },
  }
  return stringify({
    scope,
    name: node.name,
    namespace: '/holdfast/',
    restapi: {
      listen: `127.0.0.1:${node.restPort}`,
      connect_address: `127.0.0.1:${node.restPort}`,
    },
    etcd3: { hosts: `127.0.0.1:${etcdPort}` },
    bootstrap: {
      ...(restorePoint === undefined ? {} : pitr),
      dcs: {
        ttl: 10,
        loop_wait: 2,
        retry_timeout: 3,
        maximum_lag_on_failover: 1_048_576,
        synchronous_mode: true,
        postgresql: {
          use_pg_rewind: true,
          use_slots: true,
          parameters: {
            ...tlsParameters(layout),
            wal_level: 'replica',
            hot_standby: 'on',
            wal_log_hints: 'on',
            max_connections: 60,
            password_encryption: 'scram-sha-256',
            shared_buffers: '64MB',
            archive_mode: 'on',
            archive_command: `cp %p ${folder}/archive/%f`,
          },
        },
      },
      initdb: [{ encoding: 'UTF8' }, { locale: 'C.UTF-8' }, 'data-checksums'],
      pg_hba: [
        'local all all trust',
        'hostssl replication replicator 127.0.0.1/32 scram-sha-256',
        'hostssl all all 127.0.0.1/32 scram-sha-256',
      ],
    },
    postgresql: {
      listen: `127.0.0.1:${node.port}`,
      connect_address: `127.0.0.1:${node.port}`,
      data_dir: node.data,
      bin_dir: bin,
      pgpass: `${folder}/pgpass-${node.name}`,
      use_unix_socket: true,
      authentication: {
        superuser: login('postgres'),
        replication: login('replicator'),
        rewind: login('rewinder'),
      },
      parameters: { unix_socket_directories: folder, fsync: 'on' },
      basebackup: [{ checkpoint: 'fast' }],
    },
    watchdog: { mode: 'off' },
  })
}

const answers = async (node: Node, path: string): Promise<boolean> => {
  try {
    const url = `http://127.0.0.1:${node.restPort}/${path}`
    return (await fetch(url, { signal: AbortSignal.timeout(2_000) })).status === 200
  } catch {
    return false
  }
}

export const startPatroni = async (certificates: TestCertificates): Promise<PatroniCluster> => {
  const { etcd, command, env, bin } = toolsOf()
  const folder = ownFolder('ha')
  for (const file of ['cert', 'key'] as const)
    ownFile(join(folder, `server.${file}`), readFileSync(certificates.server[file], 'utf8'))
  for (const name of ['archive', 'etcd']) {
    mkdirSync(join(folder, name))
    if (isRoot) execFileSync('chown', [`${nobody}:${nobody}`, join(folder, name)])
  }
  ownFile(join(folder, 'restore.sh'), `#!/bin/sh\nexec cp -a ${folder}/backup "$1"\n`, 0o700)
  const layout: Layout = { folder, etcdPort: await freePort(), bin, ca: certificates.ca }
  const peer = `http://127.0.0.1:${await freePort()}`
  const client = `http://127.0.0.1:${layout.etcdPort}`
  const referee = start(
    etcd.path,
    [
      ...['--name', 'e1', '--data-dir', join(folder, 'etcd', 'data')],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `e1=${peer}`],
    ],
    { env: etcd.env, unprivileged: true, cwd: folder },
  )
  await referee.says('ready to serve client requests')
  const nodes: Node[] = []
  for (const name of ['pg1', 'pg2', 'pg3'])
    nodes.push({
      name,
      port: await freePort(),
      restPort: await freePort(),
      data: join(folder, name),
    })
  const reap = reapWithParent(nodes)
  const running = new Map<string, Running>()
  let leader = nodes[0] as Node
  let scope = 'first'
  const startNode = (node: Node, restorePoint?: string) => {
    const file = join(folder, `${node.name}.yml`)
    ownFile(file, configOf(layout, node, scope, restorePoint))
    const [program, ...args] = command
    running.set(
      node.name,
      start(program, [...args, file], {
        env: { ...env, HOME: folder },
        unprivileged: true,
        cwd: folder,
      }),
    )
  }
  const output = () =>
    [...running].map(([name, one]) => `── ${name}\n${one.output().slice(-3_000)}`).join('\n')
  const sql = async (text: string, database = 'postgres') => {
    const one = new pg.Client({ host: folder, port: leader.port, user: 'postgres', database })
    one.on('error', () => {})
    await one.connect()
    try {
      const result = (await one.query(text)) as { rows?: Record<string, unknown>[] }
      return result.rows ?? []
    } finally {
      await one.end()
    }
  }
  /** A node is called primary from the moment it holds the lock, before its promotion is through. */
  const takesWrites = () =>
    sql('select pg_is_in_recovery() as standby').then(
      ([row]) => row?.standby === false,
      () => false,
    )
  const ready = async (replicas: number) => {
    for (let tries = 0; tries < 450; tries++, await pause(200)) {
      const led = await Promise.all(nodes.map((node) => answers(node, 'primary')))
      const at = led.indexOf(true)
      if (at < 0) continue
      leader = nodes[at] as Node
      const others = nodes.filter((node) => node !== leader)
      const following = await Promise.all(others.map((node) => answers(node, 'replica')))
      if (following.filter(Boolean).length >= replicas && (await takesWrites())) return
    }
    throw new Error(`no leader with ${replicas} replicas:\n${output()}`)
  }
  const stopNodes = async () => {
    await Promise.all([...running.values()].map((one) => one.stop(20_000)))
    for (const node of nodes) killPostmaster(node.data)
  }
  for (const node of nodes) startNode(node)
  await ready(2)
  await sql(`create role holdfast login password '${password}'`)
  await sql('create database holdfast owner holdfast')
  return {
    folder,
    user: 'holdfast',
    password,
    database: 'holdfast',
    urls: nodes.map((node) => `postgres://holdfast@localhost:${node.port}/holdfast`),
    get port() {
      return leader.port
    },
    ready,
    sql,
    killLeader: async () => {
      await ready(1)
      const { name, data } = leader
      running.get(name)?.signal('SIGKILL')
      // It holds Patroni's output open: only with it gone is Patroni gone for whoever waits.
      killPostmaster(data)
      await running.get(name)?.kill()
      return name
    },
    startNode: (name) => startNode(nodes.find((node) => node.name === name) as Node),
    backup: () => {
      const args = [
        '-h',
        folder,
        '-p',
        String(leader.port),
        '-U',
        'postgres',
        '-D',
        join(folder, 'backup'),
      ]
      execFileSync(join(bin, 'pg_basebackup'), [...args, '-c', 'fast', '-X', 'stream'], {
        env: { ...process.env, ...env },
        cwd: folder,
        stdio: 'pipe',
        ...asNobody,
      })
    },
    restoreTo: async (restorePoint) => {
      await stopNodes()
      for (const { data } of nodes) rmSync(data, { recursive: true, force: true })
      scope = 'restored'
      for (const node of nodes) startNode(node, restorePoint)
      await ready(2)
    },
    stop: async () => {
      await stopNodes()
      await referee.stop()
      reap()
    },
    output,
  }
}
