/**
 * Connections to a PostgreSQL cluster: several addresses, one of which is the primary; a bounded pool for each.
 *
 * Invariants: TLS verifies chain and host name unless it is switched off by name; a host that does not answer, lets
 * nobody in or turns out to be a standby is left for the next one; one operation asks each host at most once.
 */
import { Socket } from 'node:net'
import { type ConnectionOptions, checkServerIdentity, type PeerCertificate } from 'node:tls'
import type pg from 'pg'
import { textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { codeOf, isExpected, isServerAnswer, isStandby, troubleOf } from './postgres-trouble.ts'
import type { StoreTrouble } from './store.ts'

export interface PostgresTls {
  /** PEM. Without it, the system's roots. */
  readonly ca?: string
  /** Client certificate and key, PEM. */
  readonly cert?: string
  readonly key?: string
  /** Name in the server's certificate, where it differs from the address. */
  readonly serverName?: string
}
export interface PostgresHostsOptions {
  /** `postgresql://user@host:port/database`, tried in order. A password in it is used unless `password` is given. */
  readonly urls: readonly string[]
  /**
   * 'off' is for a Unix socket or a loopback address only; everything else is verified in full. A function is asked
   * at each new connection.
   */
  readonly tls: PostgresTls | 'off' | (() => PostgresTls)
  /** Asked for each new connection, so that a rotated secret is picked up. */
  readonly password?: () => string | Promise<string>
  readonly poolMax?: number
  readonly connectTimeoutMs?: number
  readonly statementTimeoutMs?: number
  /** Each socket to the server, before it is connected. */
  readonly onSocket?: (socket: Socket) => void
  readonly host: Pick<Host, 'log'>
}
export const statementTimeoutMsDefault = 30_000
const poolMaxDefault = 8
const connectTimeoutMsDefault = 5_000
const idleTimeoutMs = 60_000
/** A client gives up this much later than the server should have. */
const statementGraceMs = 5_000

export type Work<T> = (client: pg.PoolClient) => Promise<T>
export interface PostgresHosts {
  /** Runs `work` on the primary. Troubles of connecting are answered; what `work` throws is thrown. */
  readonly use: <T>(work: Work<T>, signal?: AbortSignal) => Promise<T | StoreTrouble>
  readonly close: () => Promise<void>
}

/** Thrown by `work` to say that this host is a standby. */
export const standbyError = (): Error =>
  Object.assign(new Error('this server is a standby (read-only)'), { code: '25006' })

/** Getters: pg reads them at each new connection, so that renewed files are taken. */
const secureOptions = (tls: PostgresTls | (() => PostgresTls), hostname: string) => {
  const now = typeof tls === 'function' ? tls : () => tls
  return {
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2' as const,
    // pg sets the name asked for by SNI itself; what is verified is this one.
    checkServerIdentity: (_: string, certificate: PeerCertificate) =>
      checkServerIdentity(now().serverName ?? hostname, certificate),
    get ca() {
      return now().ca
    },
    get cert() {
      return now().cert
    },
    get key() {
      return now().key
    },
  } as ConnectionOptions
}

const poolFor = (Pool: typeof pg.Pool, url: URL, options: PostgresHostsOptions): pg.Pool => {
  const { tls, password } = options
  const hostname = decodeURIComponent(url.hostname)
  const statementTimeoutMs = options.statementTimeoutMs ?? statementTimeoutMsDefault
  const pool = new Pool({
    // A Unix socket's folder comes as ?host=/run/postgresql.
    host: url.searchParams.get('host') ?? hostname,
    port: url.port === '' ? 5432 : Number(url.port),
    user: decodeURIComponent(url.username),
    password: password ?? decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)),
    ssl: tls === 'off' ? false : secureOptions(tls, hostname),
    max: options.poolMax ?? poolMaxDefault,
    connectionTimeoutMillis: options.connectTimeoutMs ?? connectTimeoutMsDefault,
    idleTimeoutMillis: idleTimeoutMs,
    // Only the client's own patience: a server-side setting at start-up is refused by PgBouncer.
    query_timeout: statementTimeoutMs + statementGraceMs,
    keepAlive: true,
    stream: () => {
      const socket = new Socket()
      options.onSocket?.(socket)
      return socket
    },
    application_name: 'holdfast',
  })
  pool.on('error', (error) => {
    options.host.log.debug('database connection lost while idle', { text: textOf(error) })
  })
  return pool
}

/** Who has given up does not wait for a host that is silent; the connection goes to the pool when it comes. */
const connected = async (pool: pg.Pool, signal?: AbortSignal): Promise<pg.PoolClient> => {
  const connecting = pool.connect()
  if (signal === undefined) return connecting
  let givenUp = signal.aborted
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => {
    givenUp = true
    aborted.reject(new Error('given up by the caller'))
  }
  if (givenUp) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  connecting.then(
    (client) => {
      if (givenUp) client.release()
    },
    () => {},
  )
  try {
    return await Promise.race([aborted.promise, connecting])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

const broken = new Set(['57P01', '57P02', '57P03', '25006'])

/** pg is memory that an agent without a database does not need. */
export const loadPostgres = async () => {
  const { Pool } = await import('pg')
  return { Pool }
}

export const createPostgresHosts = (options: PostgresHostsOptions): PostgresHosts => {
  const { host } = options
  const urls = options.urls.map((text) => new URL(text))
  /** Made with the first connection. */
  let made: Promise<readonly pg.Pool[]> | undefined
  const makePools = async () => {
    const { Pool } = await loadPostgres()
    return urls.map((url) => poolFor(Pool, url, options))
  }
  let current = 0

  const useOn = async <T>(pool: pg.Pool, work: Work<T>, signal?: AbortSignal): Promise<T> => {
    const client = await connected(pool, signal)
    let released = false
    const release = (destroy: boolean) => {
      if (released) return
      released = true
      client.release(destroy)
      if (!destroy) client.off('error', onError)
    }
    // The query that is waiting hears of it too; unheard, the event would end the process.
    const onError = () => {}
    client.on('error', onError)
    // An abandoned transaction must not keep its locks: the connection goes with it.
    const onAbort = () => {
      release(true)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const result = await work(client)
      release(false)
      return result
    } catch (error) {
      release(!isServerAnswer(error) || broken.has(codeOf(error)))
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  return {
    use: async (work, signal) => {
      let refused: StoreTrouble | undefined
      let silent: StoreTrouble | undefined
      made ??= makePools()
      const pools = await made
      let standby: StoreTrouble = { kind: 'later', text: 'no database address is configured' }
      for (let tries = 0; tries < pools.length && !signal?.aborted; tries++) {
        const at = current
        let letIn = false
        const begin = (client: pg.PoolClient) => {
          letIn = true
          return work(client)
        }
        try {
          return await useOn(pools[at] as pg.Pool, begin, signal)
        } catch (error) {
          if (!isExpected(error)) throw error
          // Says nothing about the host.
          if (signal?.aborted) break
          const said = troubleOf(error)
          // A standby that lags behind may not know the role or the database yet: who lets nobody in is left too.
          const elsewhere = !letIn || isStandby(error) || (said.kind === 'later' && !reached(error))
          if (!elsewhere) throw error
          if (said.kind === 'blocked') refused ??= said
          else if (isStandby(error)) standby = said
          else silent = said
          host.log.debug('database host left', { at, text: textOf(error) })
          if (current === at) current = (at + 1) % pools.length
        }
      }
      if (signal?.aborted) return { kind: 'later', text: 'given up by the caller' }
      // Refused by one while another is silent: a cluster in motion, as in a failover or a restore.
      if (refused?.kind === 'blocked' && silent?.kind === 'later')
        return { kind: 'later', text: `${refused.text}; ${silent.text}` }
      return refused ?? silent ?? standby
    },
    close: async () => {
      await Promise.all(((await made) ?? []).map((pool) => pool.end()))
    },
  }
}

/** Did a primary answer, with trouble that another host would answer as well? */
const reached = (error: unknown): boolean =>
  isServerAnswer(error) && !/^(08|57P0|53300)/.test(codeOf(error))
