/** The contract's rig before a database or a regional node of somebody's own: those that keep a ledger. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { postgresDestination } from '../../src/destinations/postgres.ts'
import { relayDestination } from '../../src/destinations/relay.ts'
import { createSystemHost } from '../../src/host.ts'
import type { Destination } from '../../src/model.ts'
import { createDevelopmentCa } from '../../src/regional/development-ca.ts'
import type { DestinationRig, Fault, RigOptions } from '../contract/destination.ts'
import { createTestLog, type TestLog } from '../contract/destination-log.ts'
import { temporaryFolder } from '../support/temp.ts'
import { openMischief } from './mischief.ts'

export interface LedgerServer {
  readonly type: 'postgres' | 'relay'
  readonly url: string
  /** Keys of the destination; `ca`, `cert` and `key` are those of `tls`. */
  readonly settings: Readonly<Record<string, string>>
  /** relay: whom the certificate names. */
  readonly agent: string
  /** Points of a series. */
  readonly count: (series: string) => Promise<number>
}
const host = createSystemHost()
const otherCa = async (): Promise<string> => {
  const file = join(temporaryFolder('real'), 'ca.crt')
  writeFileSync(file, (await createDevelopmentCa('Nobody', { fromMs: Date.now(), days: 1 })).caPem)
  return file
}
const portOf = (url: URL) => Number(url.port || (url.protocol === 'https:' ? 443 : 5432))

export const ledgerFaults = ({ settings }: LedgerServer): readonly Fault[] => [
  'lost-answer',
  ...(settings.tls === 'off' ? [] : (['server-of-other-ca'] as const)),
  ...(settings.password === undefined ? [] : (['credentials'] as const)),
]

const fileKeys = ['ca', 'cert', 'key', 'server_name'] as const
const destinationOf = async (
  { type, url, settings }: LedgerServer,
  port: number,
  { fault }: RigOptions,
  log: TestLog,
  agent: string,
): Promise<Destination> => {
  const { tls: off, agent: _, ...rest } = settings
  const keys = Object.fromEntries(
    Object.entries(rest).filter(([key]) => !fileKeys.includes(key as never)),
  )
  const files = Object.fromEntries(fileKeys.flatMap((key) => (rest[key] ? [[key, rest[key]]] : [])))
  const ca = fault === 'server-of-other-ca' ? { ca: await otherCa() } : {}
  const deps = { host, name: type, agent, spool: log.spool, farTime: () => {} }
  if (type === 'relay') {
    const proxy = { proxy: `http://127.0.0.1:${port}` }
    const tls = { ...files, ...ca }
    return relayDestination.create(
      deps,
      relayDestination.config.parse({ type, url, ...keys, ...proxy, tls }),
    )
  }
  const there = new URL(url)
  const name = { server_name: there.hostname }
  there.hostname = '127.0.0.1'
  there.port = String(port)
  const password = fault === 'credentials' ? { password: 'of-somebody-else' } : {}
  const tls = off === 'off' ? 'off' : { ...name, ...files, ...ca }
  const config = { type, url: there.href, ...keys, ...password, tls }
  return postgresDestination.create(deps, postgresDestination.config.parse(config))
}

/** Series of one rig have one name of their own. */
const named = (log: TestLog, series: string): TestLog => ({
  ...log,
  add: (points) => log.add(points.map((one) => ({ ...one, name: series }))),
})

export const createLedgerRigs = (server: LedgerServer) => {
  const run = host.randomBytes(6)
  let rigs = 0
  /** A region knows one spool of an agent: each rig is a new opening of it. */
  let spool: TestLog | undefined
  return async (options: RigOptions = {}): Promise<DestinationRig> => {
    const nth = `${Buffer.from(run).toString('hex')}_${++rigs}`
    const agent = server.type === 'relay' ? server.agent : `holdfast-test-${nth}`
    spool = server.type === 'relay' && spool !== undefined ? spool.restart() : createTestLog(agent)
    const series = `holdfast_test_${nth}.value`
    const there = new URL(server.url)
    const mischief = await openMischief(
      server.type === 'relay' ? 'connect' : { host: there.hostname, port: portOf(there) },
    )
    const destination = await destinationOf(server, mischief.port, options, spool, agent)
    const arrived = () => server.count(series)
    return {
      destination,
      log: named(spool, series),
      arrived,
      answerNext: () => assert.fail('nothing between speaks its language'),
      loseNextAnswer: async () => {
        const before = await arrived()
        mischief.loseAnswer(async () => (await arrived()) > before)
      },
      holdNext: mischief.hold,
      remember: async () => assert.fail('a server of your own is not restored'),
      forget: async () => assert.fail('a server of your own is not restored'),
      [Symbol.asyncDispose]: async () => {
        await destination[Symbol.asyncDispose]()
        await mischief[Symbol.asyncDispose]()
      },
    }
  }
}
