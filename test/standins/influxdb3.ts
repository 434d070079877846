/**
 * A stand-in for InfluxDB 3 Core (`/api/v3/write_lp`, and `/api/v2/write` as it answers it), written from its source:
 * influxdata/influxdb, branch 3.10 at c342445ac4b7a0cd2c0e0a7c8706b43e03b8d240. Each rule names its file there.
 *
 * A database is made by its first write. Good lines of a body are stored beside wrong ones (400 with their numbers);
 * `/api/v2/write` and `accept_partial=false` store all or nothing. What retention will remove is taken and answered 204.
 */
import { gunzipSync } from 'node:zlib'
import { createHeld, type ReadPoint, type Scalar, type StoredField } from './held.ts'
import { type Asked, json, openShell, type Shell, type Told, text } from './http-shell.ts'
import { type IoxLine, type IoxRead, readIoxLines } from './line-iox.ts'

export interface Influxdb3Options {
  readonly token?: string
  /** influxdb3/src/commands/serve.rs: --max-http-request-size, before and after unpacking. */
  readonly bodyBytesMax?: number
  /** influxdb3/src/commands/serve.rs: CORE_NUM_*_LIMIT; the tables of all databases count together. */
  readonly limits?: {
    readonly databases?: number
    readonly tables?: number
    readonly columns?: number
  }
  readonly nowNs?: () => bigint
}
export interface Influxdb3 extends Shell {
  readonly stored: (database: string) => StoredField[]
  /** Fields stored twice with unlike values: which one stands is left open by the vendor (docs: v3 line protocol). */
  readonly changed: (database: string) => number
}

type Column = Scalar['kind'] | 'tag' | 'timestamp'
/** core/schema/src/lib.rs: how the text of a mismatch names a column. */
const columnNames: Readonly<Record<Column, string>> = {
  tag: 'iox::column_type::tag',
  float: 'iox::column_type::field::float',
  int: 'iox::column_type::field::integer',
  uint: 'iox::column_type::field::uinteger',
  string: 'iox::column_type::field::string',
  bool: 'iox::column_type::field::boolean',
  timestamp: 'iox::column_type::timestamp',
}
/** influxdb3_catalog/src/catalog.rs: RESERVED_COLUMN_NAMES. */
const reserved = new Set(['time', '__chunk_order'])

/** influxdb3_types/src/write.rs: names of a precision; `auto`, the default, guesses by magnitude. */
const scales: Readonly<Record<string, bigint>> = {
  s: 10n ** 9n,
  second: 10n ** 9n,
  ms: 10n ** 6n,
  millisecond: 10n ** 6n,
  us: 1_000n,
  u: 1_000n,
  microsecond: 1_000n,
  ns: 1n,
  n: 1n,
  nanosecond: 1n,
}
const guess = (timestamp: bigint): bigint => {
  const magnitude = (timestamp < 0n ? -timestamp : timestamp) / 10n ** 9n
  if (magnitude < 5n) return 10n ** 9n
  return magnitude < 5_000n ? 10n ** 6n : magnitude < 5_000_000n ? 1_000n : 1n
}
/** How the time of a refused stamp names its precision in the message. */
const variants = new Map([
  [10n ** 9n, 'Second'],
  [10n ** 6n, 'Millisecond'],
  [1_000n, 'Microsecond'],
  [1n, 'Nanosecond'],
])

interface LineError {
  readonly original_line: string
  readonly line_number: number
  readonly error_message: string
}
/** influxdb3_types/src/write.rs: of the line, twenty bytes at most are told, cut at a character. */
const shorten = (line: string) => {
  const bytes = Buffer.from(line)
  let end = Math.min(20, bytes.length)
  while (end < bytes.length && ((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.subarray(0, end).toString()
}

type Tables = Map<string, Map<string, Column>>
interface Limits {
  readonly databases: number
  readonly tables: number
  readonly columns: number
}
/** influxdb3_catalog/src/catalog/versions/v3/transaction.rs column_or_create: a column has one type for ever. */
const pinColumn = (
  columns: Map<string, Column>,
  name: string,
  type: Column,
  most: number,
): string | undefined => {
  const known = columns.get(name)
  if (known === type) return undefined
  if (known !== undefined)
    return `invalid column type for column '${name}', expected ${columnNames[known]}, got ${columnNames[type]}`
  if (type !== 'timestamp' && reserved.has(name)) return `'${name}' is a reserved column`
  const counted = columns.size - (columns.has('time') ? 1 : 0)
  if (type !== 'timestamp' && counted >= most)
    return `Update to schema would exceed number of columns per table limit of ${most} columns`
  columns.set(name, type)
  return undefined
}
/** influxdb3_write/src/write_buffer/validator.rs: what a refused line has added to the schema before its fault stays added. */
const pinLine = (
  tables: Tables,
  line: IoxLine,
  limits: Limits,
  otherTables: number,
): string | undefined => {
  let columns = tables.get(line.table)
  if (columns === undefined) {
    const current = tables.size + otherTables
    if (current >= limits.tables)
      return `Update to schema would exceed number of tables limit: attempted to create table but already have ${current} table(s) (limit: ${limits.tables})`
    columns = new Map()
    tables.set(line.table, columns)
  }
  const seen = new Set<string>()
  const wanted: [string, Column][] = [
    ...line.tags.map(([name]): [string, Column] => [name, 'tag']),
    ...line.fields.map(([name, { kind }]): [string, Column] => [name, kind]),
    ['time', 'timestamp'],
  ]
  for (const [name, type] of wanted) {
    const wrong = pinColumn(columns, name, type, limits.columns)
    if (wrong !== undefined) return wrong
    if (type === 'tag') continue
    if (seen.has(name)) return `invalid line protocol - multiple instances of '${name}' field found`
    seen.add(name)
  }
  return undefined
}

interface Written {
  readonly points: readonly ReadPoint[]
  readonly errors: readonly LineError[]
}
const readBody = (
  body: string,
  precision: string,
  nowNs: bigint,
  pin: (line: IoxLine) => string | undefined,
): Written => {
  const points: ReadPoint[] = []
  const errors: LineError[] = []
  // Numbers count lines with something on them, and the text is taken from the body's lines in step with them: blank
  // lines, comments and newlines within values make the two disagree (validator.rs v1_parse_lines_and_catalog_updates).
  const physical = body.split('\n').map((line) => line.replace(/\r$/, ''))
  const refuse = (index: number, line: string, message: string) =>
    errors.push({ original_line: shorten(line), line_number: index + 1, error_message: message })
  for (const [index, read] of readIoxLines(body, 1_048_576).entries()) {
    const take = (line: IoxRead): ReadPoint | undefined => {
      if ('wrong' in line) {
        refuse(index, physical[index] ?? '', line.wrong)
        return undefined
      }
      const wrong = pin(line)
      if (wrong !== undefined) {
        refuse(index, line.raw, wrong)
        return undefined
      }
      const scale = scales[precision] ?? guess(line.timestamp ?? 0n)
      const timeNs = line.timestamp === undefined ? nowNs : line.timestamp * scale
      if (timeNs !== BigInt.asIntN(64, timeNs)) {
        const name = precision === 'auto' ? 'Auto' : variants.get(scale)
        const message = `timestamp, ${line.timestamp}, out of range for precision: ${name}`
        refuse(index, line.raw, message)
        return undefined
      }
      return { ...line, timeNs }
    }
    const point = take(read)
    if (point !== undefined) points.push(point)
  }
  return { points, errors }
}

/** influxdb3_server/src/http.rs validate_auth_header, authenticate_request. */
const loginFault = (asked: Asked, token: string): Told | undefined => {
  const header = asked.headers.authorization
  // `p` of the v1 paths only; here none is served.
  const [scheme = '', given, ...more] = header?.split(' ') ?? []
  const malformed = !['Bearer', 'Token', 'Basic'].includes(scheme) || given === undefined
  const say = (status: number, message: string) => text(status, `{"error": "${message}"}`)
  if (header !== undefined && (malformed || more.length > 0))
    return say(
      400,
      "Authorization header was malformed, the request was not in the form of 'Authorization: <auth-scheme> <token>', supported auth-schemes are Bearer, Token and Basic",
    )
  const basic = () =>
    Buffer.from(given ?? '', 'base64')
      .toString()
      .split(':')
      .at(-1)
  const shown = scheme === 'Basic' ? basic() : given
  return shown === token ? undefined : say(401, 'the request was not authenticated')
}

/** influxdb3_server/src/http.rs validate_db_name. */
const nameFault = (name: string): string | undefined => {
  if (name === '') return 'db name cannot be empty'
  if (name.length > 511) return 'db name too long: max 511'
  if (!/^[A-Za-z0-9]/.test(name)) return 'db name did not start with a number or letter'
  if (!/^[A-Za-z0-9_/-]*$/.test(name))
    return 'invalid character in database or rp name: must be ASCII, containing only letters, numbers, underscores, or hyphens'
  if (name.split('/').length > 2 || name.endsWith('/'))
    return "db name with invalid retention policy, if providing a retention policy name, must be of form '<db_name>/<rp_name>'"
  return undefined
}

/** influxdb3_server/src/http.rs read_body: the limit holds for what came and for what it unpacks to; gzip may have several members. */
type Body = { readonly body: string } | { readonly fault: string; readonly status: number }
const bodyOf = ({ headers, body }: Asked, most: number): Body => {
  const encoding = headers['content-encoding']
  const tooBig = { status: 413, fault: `max request size (${most} bytes) exceeded` }
  if (encoding !== undefined && encoding !== 'identity' && encoding !== 'gzip')
    return { status: 400, fault: `unacceptable content-encoding: ${encoding}` }
  if (body.length > most) return tooBig
  let plain = body
  if (encoding === 'gzip') {
    try {
      plain = gunzipSync(body)
    } catch {
      return { status: 400, fault: 'error decoding gzip stream: invalid gzip header' }
    }
  }
  if (plain.length > most) return tooBig
  try {
    return { body: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plain) }
  } catch {
    return { status: 400, fault: 'body content is not valid utf8: invalid utf-8 sequence' }
  }
}

/** The two faces of one write: what each makes of a fault. */
interface Face {
  readonly plain: (status: number, message: string) => Told
  readonly lines: (errors: readonly LineError[], partial: boolean) => Told
}
const limitHit = (message: string) =>
  message.startsWith('Update to schema would exceed number of') ||
  message.startsWith('Adding a new database would exceed limit of')
const faceV3: Face = {
  plain: text,
  lines: (errors, partial) => {
    if (!partial) return json(400, { error: 'line protocol parsing error', data: errors[0] })
    const status = errors.some((one) => limitHit(one.error_message)) ? 422 : 400
    return json(status, { error: 'partial write of line protocol occurred', data: errors })
  },
}
/** influxdb3_server/src/http.rs V2WriteApiError: nearly everything, overload too, is "invalid". */
const faceV2: Face = {
  plain: (status, message) => {
    const [code, as] = status === 413 ? ['request too large', 413] : ['invalid', 400]
    return json(as as number, { code, message })
  },
  lines: (errors) => {
    const message = `write buffer error: line protocol parse failed: ${errors[0]?.error_message}`
    return json(400, { code: 'invalid', message })
  },
}

export const openInfluxdb3 = async (options: Influxdb3Options = {}): Promise<Influxdb3> => {
  const { token = 'apiv3_plant', bodyBytesMax = 10_485_760 } = options
  const limits: Limits = { databases: 5, tables: 2_000, columns: 500, ...options.limits }
  const nowNs = options.nowNs ?? (() => BigInt(Date.now()) * 1_000_000n)
  const databases = new Map<string, { held: ReturnType<typeof createHeld>; tables: Tables }>()

  const write = (asked: Asked, name: string, precision: string, partial: boolean, face: Face) => {
    const wrong = nameFault(name)
    if (wrong !== undefined)
      return face === faceV3 ? json(400, { error: wrong }) : face.plain(400, wrong)
    const read = bodyOf(asked, bodyBytesMax)
    if ('fault' in read) return face.plain(read.status, read.fault)
    const known = databases.get(name)
    if (known === undefined && databases.size >= limits.databases) {
      const message = `Adding a new database would exceed limit of ${limits.databases} databases`
      return face === faceV3 ? json(422, { error: message }) : face.plain(400, message)
    }
    const database = known ?? { held: createHeld(), tables: new Map() }
    // A copy, so that nothing of a refused whole is kept.
    const tables: Tables = new Map([...database.tables].map(([key, of]) => [key, new Map(of)]))
    let others = 0
    for (const [key, of] of databases) if (key !== name) others += of.tables.size
    const { points, errors } = readBody(read.body, precision, nowNs(), (line) =>
      pinLine(tables, line, limits, others),
    )
    if (errors.length > 0 && !partial) return face.lines(errors, partial)
    databases.set(name, { ...database, tables })
    for (const point of points) database.held.put(point)
    if (errors.length > 0) return face.lines(errors, partial)
    if (points.length === 0) return face.plain(400, 'incoming write was empty')
    return { status: 204 }
  }
  const answer = (asked: Asked): Told => {
    if (asked.path === '/health') return text(200, 'OK')
    const v3 = asked.path === '/api/v3/write_lp'
    if (!v3 && asked.path !== '/api/v2/write') return text(404, 'Not found')
    if (asked.method !== 'POST') return text(405, 'Method not allowed')
    const fault = loginFault(asked, token)
    if (fault !== undefined) return fault
    const { query } = asked
    if (!v3) {
      const bucket = query.get('bucket') ?? ''
      if (bucket === '') return faceV2.plain(400, 'missing bucket value')
      return write(asked, bucket, query.get('precision') ?? 'ns', false, faceV2)
    }
    const precision = query.get('precision') ?? 'auto'
    if (precision !== 'auto' && scales[precision] === undefined)
      return text(400, `serde error: unknown variant \`${precision}\``)
    const name = query.get('db')
    if (name === null) return text(400, 'serde error: missing field `db`')
    return write(asked, name, precision, query.get('accept_partial') !== 'false', faceV3)
  }
  // http.rs RequestLimit: no Retry-After.
  const shell = await openShell(
    answer,
    text(429, 'this service is overloaded, please try again later'),
  )
  return {
    ...shell,
    stored: (name) => databases.get(name)?.held.rows() ?? [],
    changed: (name) => databases.get(name)?.held.changed() ?? 0,
  }
}
