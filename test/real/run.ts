/**
 * `npm run test:real -- NAME --url URL [--set key=value]… [--count COMMAND]`: the contract of destinations against a
 * server of your own. Writes a few ten thousand points of series that begin with `holdfast_test_`; removes nothing.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { influxDestination } from '../../src/destinations/influx.ts'
import { prometheusDestination } from '../../src/destinations/prometheus.ts'
import { proofs } from '../../src/destinations/proven.ts'
import { type Fault, type RigOptions, runDestinationContract } from '../contract/destination.ts'
import { makeHttpRig } from '../contract/destination-http.ts'
import { createTestLog, type TestLog } from '../contract/destination-log.ts'
import { createLedgerRigs, ledgerFaults } from './ledger.ts'

const fail = (text: string): never => {
  process.stderr.write(`${text}\n`)
  process.exit(2)
}
const usage =
  'npm run test:real -- influx --url URL --set dialect=influxdb1 --set database=NAME [--set username=… --set password=…]\n' +
  'npm run test:real -- prometheus --url URL [--set out_of_order_window=30m]\n' +
  "npm run test:real -- postgres --url postgres://USER@HOST/DATABASE --set password='$PGPASSWORD' [--set ca=FILE]\n" +
  'npm run test:real -- relay --url URL --set ca=FILE --set cert=FILE --set key=FILE --set agent=NAME --database URL\n' +
  '--set gives any key of the destination’s configuration ($NAME as a value is read from the environment);\n' +
  '--count COMMAND says how many points of $HOLDFAST_MEASUREMENT stand there, for servers this cannot ask itself;\n' +
  '--database: where the regional node writes to (a password in $PGPASSWORD, its CA in --set database_ca=FILE).\n' +
  'relay: a certificate for an agent of its own; a second run within ten minutes is fenced as a copy of the first.'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string' },
    set: { type: 'string', multiple: true },
    count: { type: 'string' },
    database: { type: 'string' },
  },
})
const [name] = positionals
const url = values.url ?? fail(usage)
const names = ['influx', 'prometheus', 'postgres', 'relay'] as const
const type = names.find((one) => one === name) ?? fail(usage)
const settings = Object.fromEntries(
  (values.set ?? []).map((one) => {
    const [key = '', ...rest] = one.split('=')
    const value = rest.join('=')
    return [key, value.startsWith('$') ? (process.env[value.slice(1)] ?? '') : value]
  }),
)
const { dialect = '', username, password, token, database = '', org = '', bucket = '' } = settings
const authorization =
  username !== undefined
    ? { authorization: `Basic ${btoa(`${username}:${password}`)}` }
    : token !== undefined
      ? { authorization: `${dialect === 'influxdb2' ? 'Token' : 'Bearer'} ${token}` }
      : {}

const ask = async (path: string, body: string, contentType: string): Promise<string> => {
  const headers = { 'content-type': contentType, ...authorization }
  const answer = await fetch(`${url}${path}`, { method: 'POST', headers, body })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${path}: HTTP ${answer.status} ${text.slice(0, 300)}`)
  return text
}
const form = 'application/x-www-form-urlencoded'
type Count = (measurement: string) => Promise<number>
const counts: Readonly<Record<string, Count>> = {
  influxdb1: async (measurement) => {
    const query = new URLSearchParams({
      db: database,
      q: `SELECT count("value") FROM "${measurement}"`,
    })
    const { results } = JSON.parse(await ask('/query', `${query}`, form))
    return Number(results[0]?.series?.[0]?.values?.[0]?.[1] ?? 0)
  },
  influxdb2: async (measurement) => {
    const flux = `from(bucket: ${JSON.stringify(bucket)}) |> range(start: 0)
      |> filter(fn: (r) => r._measurement == ${JSON.stringify(measurement)} and r._field == "value") |> group() |> count()`
    const csv = await ask(
      `/api/v2/query?org=${encodeURIComponent(org)}`,
      flux,
      'application/vnd.flux',
    )
    return Number(csv.trim().split('\n').at(-1)?.split(',').at(-1)) || 0
  },
  victoriametrics: async (measurement) => {
    await fetch(`${url}/internal/force_flush`)
    const match = new URLSearchParams({ 'match[]': `{__name__="${measurement}_value"}` })
    const lines = (await ask('/api/v1/export', `${match}`, form)).split('\n').filter(Boolean)
    return lines.reduce((sum, line) => sum + JSON.parse(line).values.length, 0)
  },
  prometheus: async (measurement) => {
    const query = new URLSearchParams({
      query: `{__name__="${measurement}"}[2h]`,
      time: String(Date.now() / 1_000 + 60),
    })
    const { data } = JSON.parse(await ask('/api/v1/query', `${query}`, form))
    return data.result.reduce(
      (sum: number, one: { values: unknown[] }) => sum + one.values.length,
      0,
    )
  },
}
const byCommand: Count = async (measurement) =>
  Number(
    execFileSync('/bin/sh', ['-c', values.count as string], {
      encoding: 'utf8',
      env: { ...process.env, HOLDFAST_MEASUREMENT: measurement },
    }),
  )
/** In the ledger's tables, asked past the destination. */
const inTables =
  (address: string, ca: string | undefined, given: string | undefined): Count =>
  async (series) => {
    const there = new URL(address)
    const client = new pg.Client({
      host: there.hostname,
      port: Number(there.port || 5432),
      user: decodeURIComponent(there.username),
      password: given ?? process.env.PGPASSWORD ?? '',
      database: there.pathname.slice(1),
      ...(ca === undefined ? {} : { ssl: { ca: readFileSync(ca, 'utf8') } }),
    })
    await client.connect()
    try {
      const text =
        'select count(*)::int as points from points join series using (series_id) where name = $1'
      const { rows } = await client.query<{ points: number }>(text, [series])
      return rows[0]?.points ?? 0
    } finally {
      await client.end()
    }
  }
const tables = type === 'postgres' ? url : values.database
const ownCount =
  type === 'postgres' || type === 'relay'
    ? tables &&
      inTables(
        tables,
        settings.database_ca ?? (type === 'postgres' ? settings.ca : undefined),
        type === 'postgres' ? password : undefined,
      )
    : counts[type === 'influx' ? dialect : 'prometheus']
const count =
  values.count !== undefined
    ? byCommand
    : ownCount || fail(`how to count points there is not known: give --count\n${usage}`)

/** Near now and in order, whole milliseconds: what each of them takes. */
const startMs = Date.now() - 900_000
const nearNow = (log: TestLog, measurement: string): TestLog => ({
  ...log,
  add: (points) =>
    log.add(
      points.map(({ timeUs, value }) => ({
        name: measurement,
        timeUs: (startMs + timeUs) * 1_000,
        value,
      })),
    ),
})
const make = async (options: RigOptions = {}) => {
  const measurement = `holdfast_test_${randomBytes(6).toString('hex')}`
  const far = { url, arrived: () => count(measurement) }
  const log = nearNow(createTestLog('holdfast-test'), measurement)
  const bad = type === 'influx' && dialect !== 'victoriametrics' ? Number.NaN : 'offline'
  const stranger = { [token === undefined ? 'password' : 'token']: 'of-somebody-else' }
  const wrong = options.fault === 'credentials' ? stranger : {}
  const config = { ...settings, ...wrong }
  return type === 'influx'
    ? makeHttpRig(influxDestination, far, log, config, options, bad)
    : makeHttpRig(prometheusDestination, far, log, config, options, bad)
}
const faults: readonly Fault[] = [
  ...(['answers', 'bad-point', 'lost-answer'] as const),
  ...(['server-expired', 'server-of-other-ca', 'server-of-other-host'] as const),
  ...((password ?? token) === undefined ? [] : (['credentials'] as const)),
]
const title = `${type} at ${new URL(url).host}`
if (type === 'postgres' || type === 'relay') {
  const { database_ca: _, ...own } = settings
  const agent = settings.agent ?? (type === 'relay' ? fail(`--set agent=…\n${usage}`) : '')
  const server = { type, url, settings: own, agent, count }
  runDestinationContract(title, createLedgerRigs(server), ledgerFaults(server))
} else runDestinationContract(title, make, faults)

const proof = proofs.find((one) => one.type === type && (one.dialect ?? dialect) === dialect)
process.on('exit', (code) => {
  const system = proof?.system ?? `${type} ${dialect}`
  process.stdout.write(
    code === 0
      ? `${system}: the contract holds. ${proof?.version === null ? 'Its row in src/destinations/proven.ts may name this version and this run.' : ''}\n`
      : `${system}: RED; docs/operate/destinations.md says what must be set up there\n`,
  )
})
