/**
 * A stand-in for GreptimeDB's InfluxDB API (`/v1/influxdb/api/v2/write`, `/v1/influxdb/write`), written from its source:
 * GreptimeTeam/greptimedb, branch release/v1.2 at cb52adcbf798d3d2f009874f46dc5d476073bd8c. Each rule names its file there.
 *
 * One line that cannot be read refuses the whole body. A column that fails against its table refuses that table's rows,
 * while rows of other tables in the body stay stored. Rows merge field by field (`last_non_null`).
 */
import { gunzipSync } from 'node:zlib'
import { createHeld, type ReadPoint, type Scalar, type StoredField } from './held.ts'
import { type Asked, json, openShell, type Shell, type Told, text } from './http-shell.ts'
import { type IoxLine, readIoxLines } from './line-iox.ts'

export interface GreptimedbOptions {
  readonly user?: string
  readonly password?: string
  /** Databases that exist beside `public`. */
  readonly databases?: readonly string[]
  /** src/servers/src/http.rs: DEFAULT_BODY_LIMIT (64 MB), of the unpacked body. */
  readonly bodyBytesMax?: number
  readonly nowNs?: () => bigint
}
export interface Greptimedb extends Shell {
  readonly stored: (database: string) => StoredField[]
}

/** GreptimeDB names the time of a row so; a tag or field cannot (src/servers/src/row_writer.rs check_schema). */
const timeColumn = 'greptime_timestamp'
type Type = Scalar['kind'] | 'time'
interface Column {
  readonly type: Type
  /** SemanticType: tag 0, field 1, timestamp 2. */
  readonly semantic: 0 | 1 | 2
}
/** ColumnDataType's numbers, as they stand in the text of a conflict. */
const numbers: Readonly<Record<Type, number>> = {
  bool: 0,
  int: 4,
  uint: 8,
  float: 10,
  string: 12,
  time: 18,
}
const described: Readonly<Record<Type, readonly [string, string]>> = {
  bool: ['Boolean(BooleanType)', 'BOOLEAN'],
  int: ['Int64(Int64Type)', 'INT64'],
  uint: ['UInt64(UInt64Type)', 'UINT64'],
  float: ['Float64(Float64Type)', 'FLOAT64'],
  string: ['String(StringType)', 'STRING'],
  time: ['Timestamp(Nanosecond(TimestampNanosecondType))', 'TIMESTAMP_NANOSECOND'],
}
/** src/common/grpc/src/precision.rs and src/servers/src/http/influxdb.rs: nanoseconds unless named. */
const scales: Readonly<Record<string, bigint>> = {
  n: 1n,
  ns: 1n,
  u: 1_000n,
  us: 1_000n,
  ms: 10n ** 6n,
  s: 10n ** 9n,
  m: 60n * 10n ** 9n,
  h: 3_600n * 10n ** 9n,
}
/** src/common/base/src/regex_pattern.rs: NAME_PATTERN, asked of a table when it is made (src/operator/src/statement/ddl.rs). */
const tableName = /^[a-zA-Z_:-][a-zA-Z0-9_:\-.@#]*$/

const refuse = (message: string): Told => json(400, { error: message })
/** src/servers/src/http/result/error_result.rs; codes of src/common/error/src/status_code.rs. */
const noEntry = (code: number, error: string): Told =>
  json(401, { code, error, execution_time_ms: 0 }, { 'x-greptime-err-code': String(code) })

/** src/servers/src/http/authorize.rs: `token user:password`, Basic, or u and p; no Bearer. */
const loginFault = (asked: Asked, user: string, password: string): Told | undefined => {
  const header = asked.headers.authorization
  let shown: string | undefined
  if (header === undefined) {
    const [u, p] = [asked.query.get('u'), asked.query.get('p')]
    if (!u && !p) return noEntry(7003, 'Not found influx http authorization info')
    if (!u || !p)
      return noEntry(
        1004,
        'Invalid parameter, reason: influxdb auth: username and password must be provided together',
      )
    shown = `${u}:${p}`
  } else {
    const [, scheme = '', rest = ''] = /^(\S*) (.*)$/.exec(header) ?? []
    const kind = scheme.toLowerCase()
    if (kind === 'token') shown = rest
    else if (kind === 'basic') shown = Buffer.from(rest, 'base64').toString()
    else if (scheme !== '') return noEntry(7004, `Unsupported http auth scheme, name: ${scheme}`)
    if (!shown?.includes(':')) return noEntry(7004, 'Invalid http authorization header')
  }
  const name = shown.slice(0, shown.indexOf(':'))
  if (name !== user) return noEntry(7000, `User not found, username: ${name}`)
  if (shown === `${user}:${password}`) return undefined
  return noEntry(7002, `Username and password does not match, username: ${name}`)
}

/** RequestDecompressionLayer (src/servers/src/http.rs), then axum's String: the limit counts unpacked bytes. */
const bodyOf = ({ headers, body }: Asked, most: number): { body: string } | { told: Told } => {
  let plain = body
  if (headers['content-encoding'] === 'gzip') {
    try {
      plain = gunzipSync(body)
    } catch {
      return { told: text(400, 'Failed to buffer the request body: invalid gzip header') }
    }
  }
  if (plain.length > most)
    return { told: text(413, 'Failed to buffer the request body: length limit exceeded') }
  try {
    return { body: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plain) }
  } catch {
    return { told: text(400, "Request body didn't contain valid UTF-8: invalid utf-8 sequence") }
  }
}

interface Table {
  readonly columns: Map<string, Column>
  readonly rows: ReadPoint[]
}
/** src/servers/src/row_writer.rs: within one body a column has one type and one meaning. A field named twice: the later stands. */
const addRow = (table: Table, line: IoxLine, timeNs: bigint): string | undefined => {
  const wanted: [string, Column][] = [
    ...line.tags.map(([name]): [string, Column] => [name, { type: 'string', semantic: 0 }]),
    ...line.fields.map(([name, { kind }]): [string, Column] => [name, { type: kind, semantic: 1 }]),
    [timeColumn, { type: 'time', semantic: 2 }],
  ]
  for (const [name, column] of wanted) {
    const known = table.columns.get(name)
    const say = (what: string, expected: number, actual: number) =>
      `Column: ${name}, ${what} incompatible, expected: ${expected}, actual: ${actual}`
    if (known === undefined) table.columns.set(name, column)
    else if (known.type !== column.type)
      return say('datatype', numbers[known.type], numbers[column.type])
    else if (known.semantic !== column.semantic)
      return say('semantic_type', known.semantic, column.semantic)
  }
  table.rows.push({ ...line, timeNs })
  return undefined
}
const readTables = (
  body: string,
  scale: bigint,
  nowNs: bigint,
): { tables: Map<string, Table> } | { wrong: string } => {
  const tables = new Map<string, Table>()
  const lines: IoxLine[] = []
  // src/servers/src/influxdb.rs: every line is read before any is looked at; the first that cannot be read ends it.
  for (const line of readIoxLines(body)) {
    if ('wrong' in line) return { wrong: `Failed to parse InfluxDB line protocol: ${line.wrong}` }
    lines.push(line)
  }
  for (const line of lines) {
    const timeNs = line.timestamp === undefined ? (nowNs / scale) * scale : line.timestamp * scale
    if (timeNs !== BigInt.asIntN(64, timeNs))
      return { wrong: `Timestamp overflow: timestamp ${line.timestamp} overflow with precision` }
    const table = tables.get(line.table) ?? { columns: new Map<string, Column>(), rows: [] }
    tables.set(line.table, table)
    const wrong = addRow(table, line, timeNs)
    if (wrong !== undefined) return { wrong }
  }
  return { tables }
}
/** src/mito2/src/request.rs check_schema: a column of the request against the column of its table. */
const conflictOf = (wanted: Table['columns'], existing: Table['columns']): string | undefined => {
  for (const [name, { type, semantic }] of wanted) {
    const known = existing.get(name)
    if (known === undefined) continue
    const say = (reason: string) =>
      `Invalid request to region 4398046511104(1024, 0), reason: ${reason}`
    if (known.type !== type)
      return say(
        `column ${name} expect type ${described[known.type][0]}, given: ${described[type][1]}(${numbers[type]})`,
      )
    if (known.semantic !== semantic)
      return say(`column ${name} has semantic type ${known.semantic}, given: ${semantic}`)
  }
  return undefined
}

export const openGreptimedb = async (options: GreptimedbOptions = {}): Promise<Greptimedb> => {
  const { user = 'plant', password = 'secret', bodyBytesMax = 64 * 1024 * 1024 } = options
  const nowNs = options.nowNs ?? (() => BigInt(Date.now()) * 1_000_000n)
  const databases = new Map(
    ['public', ...(options.databases ?? [])].map((name) => [
      name,
      { held: createHeld(), columns: new Map<string, Table['columns']>() },
    ]),
  )
  const write = (asked: Asked, name: string): Told => {
    const precision = asked.query.get('precision') ?? 'ns'
    const scale = scales[precision]
    if (scale === undefined) return refuse(`Failed to convert time precision, name: ${precision}`)
    const read = bodyOf(asked, bodyBytesMax)
    if ('told' in read) return read.told
    const told = readTables(read.body, scale, nowNs())
    if ('wrong' in told) return refuse(told.wrong)
    const database = databases.get(name)
    // src/operator/src/statement/ddl.rs: a table needs a database that exists; none is made.
    if (database === undefined && told.tables.size > 0)
      return refuse(`Failed to find schema, schema info: greptime.${name}`)
    if (database === undefined) return { status: 204 }
    for (const table of told.tables.keys())
      if (!database.columns.has(table) && !tableName.test(table))
        return refuse(`Invalid table name: ${table}`)
    let fault: string | undefined
    for (const [table, { columns, rows }] of told.tables) {
      const existing = database.columns.get(table) ?? new Map<string, Column>()
      const conflict = conflictOf(columns, existing)
      // New columns are added before the rows are looked at (src/operator/src/insert.rs), and stay.
      for (const [column, type] of columns) if (!existing.has(column)) existing.set(column, type)
      database.columns.set(table, existing)
      if (conflict === undefined) for (const row of rows) database.held.put(row)
      fault ??= conflict
    }
    return fault === undefined ? { status: 204 } : refuse(fault)
  }
  const answer = (asked: Asked): Told => {
    if (asked.path === '/health') return json(200, {})
    const v2 = asked.path === '/v1/influxdb/api/v2/write'
    if (!v2 && asked.path !== '/v1/influxdb/write') return { status: 404 }
    if (asked.method !== 'POST') return { status: 405 }
    const fault = loginFault(asked, user, password)
    if (fault !== undefined) return fault
    // src/servers/src/http/authorize.rs extract_catalog_and_schema: the header first, then db, then (v2 only) bucket.
    const header = asked.headers['x-greptime-db-name']
    const { query } = asked
    const named =
      (typeof header === 'string' && header) || query.get('db') || (v2 && query.get('bucket'))
    return write(asked, named || 'public')
  }
  // src/servers/src/http/memory_limit.rs: no Retry-After.
  const busy = text(429, 'Request body memory limit exceeded: no permits available')
  const shell = await openShell(answer, busy)
  return { ...shell, stored: (name) => databases.get(name)?.held.rows() ?? [] }
}
