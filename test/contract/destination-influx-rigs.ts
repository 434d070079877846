/** Rigs of the influx destination over real servers, each started when a test first asks for it, real TLS before them. */
import assert from 'node:assert/strict'
import { after } from 'node:test'
import { influxDestination } from '../../src/destinations/influx.ts'
import { influxPlan } from '../../src/destinations/influx-plan.ts'
import { createSystemHost, silentLog } from '../../src/host.ts'
import type { Outcome } from '../../src/model.ts'
import { influxUser, startInflux, startVictoria } from '../support/influx-servers.ts'
import { killAll } from '../support/processes.ts'
import { type Questdb, questdbMissing, startQuestdb, statementsOf } from '../support/questdb.ts'
import type { RigOptions } from './destination.ts'
import { type HttpRig, makeHttpRig } from './destination-http.ts'
import { createTestLog, type LogPoint, type TestLog } from './destination-log.ts'
import { hostilePoints } from './destination-names.ts'

after(killAll)
const once = <T>(begin: () => Promise<T>) => {
  let begun: Promise<T> | undefined
  return () => {
    begun ??= begin()
    return begun
  }
}
export const influx = once(() => startInflux())
export const victoria = once(() => startVictoria())
export const questdb = once(() =>
  questdbMissing === false ? startQuestdb() : new Promise<Questdb>(() => {}),
)
export const signal = new AbortController().signal
let databases = 0

export interface InfluxRig extends HttpRig {
  readonly database: string
}
export const makeRig = async (
  far: { readonly url: string; readonly arrived: (database: string) => Promise<number> },
  log: TestLog,
  database: string,
  config: object,
  options: RigOptions = {},
): Promise<InfluxRig> => {
  const there = { url: far.url, arrived: () => far.arrived(database) }
  const victorias = 'dialect' in config && config.dialect === 'victoriametrics'
  const unholdable = victorias ? 'offline' : Number.NaN
  const all = { database, ...config }
  const rig = await makeHttpRig(influxDestination, there, log, all, options, unholdable)
  return { ...rig, database }
}
export const makeInfluxRig = async (
  options: RigOptions = {},
  at = influx(),
): Promise<InfluxRig> => {
  const server = await at
  const database = `db${databases++}`
  await server.query(`CREATE DATABASE ${database}`)
  const password = options.fault === 'credentials' ? 'of-somebody-else' : influxUser.password
  return makeRig(
    { url: server.url, arrived: server.count },
    createTestLog('gw-7'),
    database,
    { dialect: 'influxdb1', username: influxUser.username, password },
    options,
  )
}
export const pointsOf = async (database: string) =>
  (await (await victoria()).samples(database)).filter(([name]) => !name.startsWith('holdfast_gaps'))
/** VictoriaMetrics holds whole milliseconds. */
export const inMilliseconds = (log: TestLog): TestLog => ({
  ...log,
  add: (points) =>
    log.add(
      points.map((point) => ({ ...point, timeUs: 1_700_000_000_000_000 + point.timeUs * 1_000 })),
    ),
})
export const makeVictoriaRig = async (options: RigOptions = {}): Promise<InfluxRig> => {
  const server = await victoria()
  const arrived = async (database: string) => (await pointsOf(database)).length
  const log = inMilliseconds(createTestLog('gw-7'))
  const config = { dialect: 'victoriametrics' }
  return makeRig({ url: server.url, arrived }, log, `db${databases++}`, config, options)
}

export const makeQuestdbRig = async (options: RigOptions = {}): Promise<InfluxRig> => {
  const server = await questdb()
  // One plan, many tests: an empty table for each.
  for (const statement of statementsOf(influxPlan('questdb', {}))) await server.query(statement)
  for (const table of ['points', 'holdfast_gaps']) await server.query(`TRUNCATE TABLE ${table}`)
  const { username, password } = server.user
  const given = options.fault === 'credentials' ? 'of-somebody-else' : password
  const config = { dialect: 'questdb', database: undefined, username, password: given }
  const far = { url: server.url, arrived: server.points }
  return makeRig(far, createTestLog('gw-7'), '', config, options)
}

export const stored = { kind: 'stored', rejected: [] }
export const losing = (outcome: Outcome) =>
  outcome.kind !== 'stored' || outcome.rejected.length > 0
    ? outcome
    : outcome.lost?.map(({ seq, count, source, reason }) => [seq, count, source, reason])
export const timeUs = 1_700_000_000_000_000

/** Of each hostile point: whether it is read back under its name, tag and time; `read` answers with all of them. */
export const hostile = async (
  rig: InfluxRig,
  fromUs: number,
  read: (point: LogPoint) => Promise<boolean>,
  more: readonly LogPoint[] = [],
): Promise<number> => {
  const points = [...hostilePoints, ...more].map((point) => ({
    ...point,
    timeUs: fromUs + point.timeUs,
  }))
  const { destination, log, leftOut } = rig
  const outcome = await destination.send(log.batch([log.add(points)]), signal)
  assert.ok(outcome.kind === 'stored', JSON.stringify(outcome))
  let held = 0
  for (const point of points) if (await read(point)) held++
  const lost = outcome.lost?.reduce((sum, { count }) => sum + count, 0) ?? 0
  assert.equal(held + lost, points.length)
  assert.deepEqual(Object.keys(leftOut), ['name'])
  return held
}
export const firstTag = ({ tags = [['plant', 'north']] }: LogPoint) => tags[0] ?? ['', '']

/** A destination of an agent of that name, on its own spool, straight to the server. */
export const direct = (agent: string, config: object, log = createTestLog(agent)) => {
  const settings = influxDestination.config.parse({ type: 'influx', ...config })
  const deps = { host: createSystemHost({ log: silentLog }), name: 'h', agent, spool: log.spool }
  const destination = influxDestination.create({ ...deps, farTime: () => {} }, settings)
  const send = async (points: readonly LogPoint[]) => {
    const standing = await destination.standing(log.standing(0), signal)
    assert.deepEqual(standing, { kind: 'unknown' })
    return losing(await destination.send(log.batch([log.add(points)]), signal))
  }
  const close = () => destination[Symbol.asyncDispose]()
  return { destination, log, send, [Symbol.asyncDispose]: close }
}
