/**
 * `npm run test:real -- NAME --url URL [--set key=value]… [--count COMMAND]`: the contract of destinations against a
 * server of your own. Writes a few ten thousand points of measurements that begin with `holdfast_test_`; removes nothing.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { influxDestination } from '../../src/destinations/influx.ts'
import { prometheusDestination } from '../../src/destinations/prometheus.ts'
import { proofs } from '../../src/destinations/proven.ts'
import { type Fault, type RigOptions, runDestinationContract } from '../contract/destination.ts'
import { makeHttpRig } from '../contract/destination-http.ts'
import { createTestLog, type TestLog } from '../contract/destination-log.ts'

const fail = (text: string): never => {
  process.stderr.write(`${text}\n`)
  process.exit(2)
}
const usage =
  'npm run test:real -- influx --url URL --set dialect=influxdb1 --set database=NAME [--set username=… --set password=…]\n' +
  'npm run test:real -- prometheus --url URL [--set out_of_order_window=30m]\n' +
  '--set gives any key of the destination’s configuration ($NAME as a value is read from the environment);\n' +
  '--count COMMAND says how many points of $HOLDFAST_MEASUREMENT stand there, for servers this cannot ask itself.'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string' },
    set: { type: 'string', multiple: true },
    count: { type: 'string' },
  },
})
const [name] = positionals
const url = values.url ?? fail(usage)
if (name !== 'influx' && name !== 'prometheus') fail(usage)
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
const own = counts[name === 'influx' ? dialect : 'prometheus']
const count =
  values.count !== undefined
    ? byCommand
    : (own ?? fail(`how to count points there is not known: give --count\n${usage}`))

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
  const bad = name === 'influx' && dialect !== 'victoriametrics' ? Number.NaN : 'offline'
  const wrong = options.fault === 'credentials' ? { password: 'of-somebody-else' } : {}
  const config = { ...settings, ...wrong }
  return name === 'influx'
    ? makeHttpRig(influxDestination, far, log, config, options, bad)
    : makeHttpRig(prometheusDestination, far, log, config, options, bad)
}
const faults: readonly Fault[] = [
  ...(['answers', 'bad-point', 'lost-answer'] as const),
  ...(['server-expired', 'server-of-other-ca', 'server-of-other-host'] as const),
  ...(password === undefined ? [] : (['credentials'] as const)),
]
runDestinationContract(`${name} at ${new URL(url).host}`, make, faults)

const proof = proofs.find((one) => one.type === name && (one.dialect ?? dialect) === dialect)
process.on('exit', (code) => {
  const system = proof?.system ?? `${name} ${dialect}`
  process.stdout.write(
    code === 0
      ? `${system}: the contract holds. ${proof?.version === null ? 'Its row in src/destinations/proven.ts may name this version and this run.' : ''}\n`
      : `${system}: RED; docs/operate/destinations.md says what must be set up there\n`,
  )
})
