/**
 * A real InfluxDB 2 on a free loopback port, in a temporary folder. No package holds one: HOLDFAST_TEST_INFLUXD2 names
 * the program `influxd`, and without it no test here meets it (docs/RELEASE-TESTS.md says when one last did).
 */
import { join } from 'node:path'
import { createHeld, type Held, type Scalar, type StoredField } from '../standins/held.ts'
import { answers } from './influx-servers.ts'
import { freePort, start } from './processes.ts'
import { type Server, serve } from './servers.ts'
import { temporaryFolder } from './temp.ts'

export const influxd2 = process.env.HOLDFAST_TEST_INFLUXD2

export interface Influx2 extends Server {
  readonly url: string
  readonly version: string
  readonly org: string
  readonly orgId: string
  /** It may do everything. */
  readonly token: string
  /** A new bucket of that name, empty; answers its id. 0 seconds keep for ever, else an hour at least. */
  readonly bucket: (name: string, retentionSeconds?: number) => Promise<string>
  /** A token that may do this alone to that bucket, and its id. */
  readonly tokenFor: (
    bucketId: string,
    action: 'read' | 'write',
  ) => Promise<{ readonly id: string; readonly token: string }>
  readonly api: (method: string, path: string, body?: unknown) => Promise<unknown>
  readonly rows: (bucket: string) => Promise<readonly StoredField[]>
}

const readCsv = (text: string): readonly (readonly string[])[] => {
  const rows: string[][] = []
  let row: string[] = []
  for (const [, quoted, bare = '', end] of text.matchAll(
    /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g,
  )) {
    // Its writer makes \r\n of every \n.
    row.push(quoted?.replaceAll('""', '"').replaceAll('\r\n', '\n') ?? bare)
    if (end === ',') continue
    rows.push(row)
    row = []
  }
  return rows
}
const timeNsOf = (text: string): bigint => {
  const [, whole = '', fraction = ''] = /^(.*?)(?:\.(\d+))?Z$/.exec(text) ?? []
  return BigInt(Date.parse(`${whole}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, '0'))
}
const scalarOf = (type: string, text: string): Scalar => {
  if (type === 'double') return { kind: 'float', value: Number(text) }
  if (type === 'long') return { kind: 'int', value: BigInt(text) }
  if (type === 'unsignedLong') return { kind: 'uint', value: BigInt(text) }
  if (type === 'boolean') return { kind: 'bool', value: text === 'true' }
  return { kind: 'string', value: text }
}
const ownColumns = /^(?:|result|table|_start|_stop|_time|_value|_field|_measurement)$/
/** Annotated CSV: a table is a row of types, a row of names, and its rows. */
const readTables = (text: string, held: Held): void => {
  let [types, names]: (readonly string[])[] = []
  for (const row of readCsv(text)) {
    if (row.length === 1) continue
    if (row[0] === '#datatype') {
      types = row
      names = undefined
    } else if (names === undefined) names = row
    else {
      const at = (name: string) => row[names?.indexOf(name) ?? -1] ?? ''
      if (names.includes('error')) throw new Error(at('error'))
      const value = scalarOf(types?.[names.indexOf('_value')] ?? '', at('_value'))
      const tags = names.flatMap((name, column): [string, string][] =>
        ownColumns.test(name) ? [] : [[name, row[column] as string]],
      )
      const timeNs = timeNsOf(at('_time'))
      held.put({ table: at('_measurement'), tags, timeNs, fields: [[at('_field'), value]] })
    }
  }
}

export const startInflux2 = async (): Promise<Influx2> => {
  if (influxd2 === undefined) throw new Error('HOLDFAST_TEST_INFLUXD2 names no program')
  const folder = temporaryFolder('influx2')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const flags = {
    'bolt-path': join(folder, 'influxd.bolt'),
    'sqlite-path': join(folder, 'influxd.sqlite'),
    'engine-path': join(folder, 'engine'),
    'http-bind-address': `127.0.0.1:${port}`,
    'log-level': 'warn',
  }
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  const launch = () =>
    start(influxd2, [...args, '--reporting-disabled'], { env: { HOME: folder }, cwd: folder })
  const served = await serve(port, folder, launch, answers(`${url}/health`))
  const [org, token] = ['plant', 'token-of-plant']
  const ask = async (method: string, path: string, body?: unknown) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { authorization: `Token ${token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: HTTP ${answer.status} ${text}`)
    return text
  }
  const api: Influx2['api'] = async (method, path, body) => {
    const text = await ask(method, path, body)
    return text === '' ? undefined : JSON.parse(text)
  }
  const login = { username: 'holdfast', password: 'holdfast-test-password' }
  const made = (await api('POST', '/api/v2/setup', { ...login, org, bucket: 'first', token })) as {
    org: { id: string }
  }
  const { version } = (await api('GET', '/health')) as { version: string }
  const orgID = made.org.id
  const query = { type: 'flux', dialect: { header: true, annotations: ['datatype'] } }
  return {
    ...served,
    ...{ url, version, org, orgId: orgID, token, api },
    bucket: async (name, retentionSeconds = 0) => {
      const { buckets } = (await api(
        'GET',
        `/api/v2/buckets?${new URLSearchParams({ name })}`,
      )) as {
        buckets: { id: string }[]
      }
      for (const { id } of buckets) await api('DELETE', `/api/v2/buckets/${id}`)
      const rule = { type: 'expire', everySeconds: retentionSeconds }
      const body = { orgID, name, retentionRules: [rule] }
      return ((await api('POST', '/api/v2/buckets', body)) as { id: string }).id
    },
    tokenFor: async (id, action) => {
      const permissions = [{ action, resource: { type: 'buckets', id, orgID } }]
      const body = { orgID, permissions }
      return (await api('POST', '/api/v2/authorizations', body)) as { id: string; token: string }
    },
    rows: async (bucket) => {
      const held = createHeld()
      // In two parts: of a series that changed its type it tells one.
      const [first, last] = ['1677-09-22T00:00:00Z', '2262-04-11T00:00:00Z']
      const weekAgo = new Date(Date.now() - 7 * 86_400_000).toISOString()
      for (const [start, stop] of [
        [first, weekAgo],
        [weekAgo, last],
      ]) {
        const range = `range(start: ${start}, stop: ${stop})`
        const flux = `from(bucket: ${JSON.stringify(bucket)}) |> ${range}`
        readTables(
          await ask('POST', `/api/v2/query?orgID=${orgID}`, { ...query, query: flux }),
          held,
        )
      }
      return held.rows()
    },
  }
}
