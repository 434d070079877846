/**
 * A stand-in for TDengine behind taosAdapter (`/influxdb/v1/write`), written from their source: taosdata/taosadapter at
 * bdd94010c5e246b3b67efd6ff6732d43ad22ad75 (plugin/influxdb/plugin.go, system/main.go) and taosdata/TDengine
 * (source/client/src/clientSml.c at 51c962443865dce63b4e93edd797bdf4409926f5).
 *
 * Every fault behind the adapter is a 500 with `[0x…]` before its text: a wrong password, a missing database and a bad
 * point alike. A body is refused whole by its lines and types, but by vgroup where a time is out of range.
 */
import { createHash } from 'node:crypto'
import { gunzipSync } from 'node:zlib'
import { createHeld, type StoredField } from './held.ts'
import { type Asked, json, openShell, type Shell, type Told } from './http-shell.ts'
import {
  codes,
  readTaosLines,
  type TaosColumn,
  TaosFault,
  type TaosLine,
  type TaosType,
} from './line-taos.ts'

type Precision = 'ms' | 'us' | 'ns'
export interface TaosDatabase {
  /** A database made by hand counts milliseconds unless told otherwise: finer times fall on one row. */
  readonly precision?: Precision
  readonly keepDays?: number
}
export interface TaosadapterOptions {
  readonly user?: string
  readonly password?: string
  /** An Enterprise token, shown as `Bearer`. */
  readonly token?: string
  readonly databases?: Readonly<Record<string, TaosDatabase>>
  /** config/config.go: smlAutoCreateDB, off by default; a database so made counts nanoseconds (db/tool/createdb.go). */
  readonly createDatabases?: boolean
  readonly nowNs?: () => bigint
  /** What turns requests away: memory above its threshold here, or the pool (`get connection timeout`). */
  readonly busy?: Told
}
export interface Taosadapter extends Shell {
  readonly stored: (database: string) => StoredField[]
  readonly changed: (database: string) => number
}

const scales: Readonly<Record<Precision, bigint>> = { ms: 10n ** 6n, us: 1_000n, ns: 1n }
/** driver/wrapper/schemaless.go exchange: `u`, never `us`; an unknown name is none, and none is nanoseconds (clientSmlLine.c). */
const requestScales: Readonly<Record<string, bigint>> = {
  h: 3_600n * 10n ** 9n,
  m: 60n * 10n ** 9n,
  s: 10n ** 9n,
  ms: 10n ** 6n,
  u: 1_000n,
  μ: 1_000n,
}
/** include/util/tdef.h: TSDB_MAX_TAGS, TSDB_MAX_COLUMNS, TSDB_MAX_TAGS_LEN, TSDB_MAX_BYTES_PER_ROW. */
const [tagsMax, columnsMax, tagBytesMax, rowBytesMax] = [128, 4_096, 16_384, 65_531]
const vgroups = 2

interface Column {
  readonly type: TaosType
  bytes: number
}
interface Supertable {
  readonly tags: Map<string, Column>
  readonly columns: Map<string, Column>
}
type Schema = Map<string, Supertable>

/** clientSml.c smlFindNearestPowerOf2: what a string of that length reserves in its column. */
const room = (type: TaosType, length: number): number => {
  let units = 1
  if (length >= 1_024) units = length
  else while (units <= length) units *= 2
  if (type === 'nchar') return Math.min(units, 16_379) * 4 + 2
  return type === 'binary' ? Math.min(units, 65_517) + 2 : length
}
const total = (columns: Map<string, Column>) =>
  [...columns.values()].reduce((sum, { bytes }) => sum + bytes, 0)

/** clientSml.c smlPushCols: a name twice in one line, `_ts` among them. */
const checkLine = ({ tags, columns }: TaosLine): void => {
  if (tags.length > tagsMax) throw new TaosFault(codes.tooManyTags, 'too many tags than 128')
  if (columns.length + 1 + tags.length > columnsMax)
    throw new TaosFault(codes.tooManyColumns, 'too many columns than 4096')
  for (const names of [tags.map((tag) => tag.name), ['_ts', ...columns.map((one) => one.name)]])
    if (new Set(names).size < names.length) throw new TaosFault(codes.duplicateKey, 'Duplicate key')
}
const widen = (
  known: Map<string, Column>,
  { name, type, bytes }: TaosColumn,
  conflict: TaosFault,
) => {
  const column = known.get(name)
  if (column === undefined) known.set(name, { type, bytes: room(type, bytes) })
  else if (column.type !== type) throw conflict
  else column.bytes = Math.max(column.bytes, room(type, bytes))
}
/** clientSml.c smlUpdateMeta: the lines of one request agree on types among themselves, or none is written. */
const schemaOf = (lines: readonly TaosLine[]): Schema => {
  const wanted: Schema = new Map()
  for (const line of lines) {
    checkLine(line)
    const table = wanted.get(line.table) ?? { tags: new Map(), columns: new Map() }
    wanted.set(line.table, table)
    for (const tag of line.tags) widen(table.tags, tag, new TaosFault(codes.notSameType, ''))
    for (const column of line.columns) {
      const text = `the type is not the same like before:${column.name}`
      widen(table.columns, column, new TaosFault(codes.notSameType, text))
    }
  }
  return wanted
}
/** clientSml.c smlModifyDBSchemas: table by table; what an earlier table gained stays when a later one fails. */
const alter = (schema: Schema, wanted: Schema): void => {
  const conflict = new TaosFault(codes.invalidData, 'Invalid data format')
  for (const [name, { tags, columns }] of wanted) {
    const known = schema.get(name)
    const next: Supertable = {
      tags: new Map([...(known?.tags ?? [])].map(([key, of]) => [key, { ...of }])),
      columns: new Map([...(known?.columns ?? [])].map(([key, of]) => [key, { ...of }])),
    }
    const grow = (to: Map<string, Column>, from: Map<string, Column>) => {
      for (const [key, { type, bytes }] of from) {
        const column = to.get(key)
        if (column !== undefined && column.type !== type) throw conflict
        to.set(key, { type, bytes: Math.max(bytes, column?.bytes ?? 0) })
      }
    }
    grow(next.tags, tags)
    if (total(next.tags) > tagBytesMax)
      throw new TaosFault(codes.tagsLength, 'Tags length exceeds max length')
    grow(next.columns, columns)
    if (total(next.columns) + 8 > rowBytesMax)
      throw new TaosFault(codes.rowLength, 'Row length exceeds max length')
    if (next.tags.size > tagsMax)
      throw new TaosFault(codes.tooManyTags, 'Invalid number of tag columns')
    if (next.tags.size + next.columns.size + 1 > columnsMax)
      throw new TaosFault(codes.tooManyColumns, 'Too many columns')
    schema.set(name, next)
  }
}

const createDatabase = (
  { precision = 'ms', keepDays = 3_650 }: TaosDatabase,
  nowNs: () => bigint,
) => {
  const held = createHeld()
  const schema: Schema = new Map()
  const step = scales[precision]
  /** docs 07-develop/04-schemaless.md: the subtable is the MD5 of table and sorted tags; by its name it falls into a vgroup. */
  const vgroupOf = ({ table, tags }: TaosLine): number => {
    const sorted = tags.map(({ name, value }) => `${name}=${value.value}`).sort()
    const name = `t_${createHash('md5')
      .update([table, ...sorted].join(','))
      .digest('hex')}`
    return Number.parseInt(name.slice(-2), 16) % vgroups
  }
  /** vnodeSvr.c vnodePreProcessSubmitTbData: one row out of keep refuses what its vgroup was sent. */
  const write = (lines: readonly TaosLine[], scale: bigint): void => {
    alter(schema, schemaOf(lines))
    const now = nowNs()
    const oldest = now - BigInt(keepDays) * 86_400n * 10n ** 9n
    const groups = new Map<number, { line: TaosLine; timeNs: bigint }[]>()
    for (const line of lines) {
      const timeNs = (((line.time ?? now / scale) * scale) / step) * step
      const group = groups.get(vgroupOf(line)) ?? []
      group.push({ line, timeNs })
      groups.set(vgroupOf(line), group)
    }
    let late = false
    for (const group of groups.values()) {
      if (group.some(({ timeNs }) => timeNs < oldest || timeNs >= 2n ** 63n)) {
        late = true
        continue
      }
      for (const { line, timeNs } of group)
        held.put({
          table: line.table,
          tags: line.tags.map(({ name, value }): [string, string] => [name, String(value.value)]),
          fields: line.columns.map(({ name, value }) => [name, value] as const),
          timeNs,
        })
    }
    if (late) throw new TaosFault(codes.outOfRange, 'Timestamp data out of range')
  }
  return { write, held, precision }
}

const internal = (message: string): Told => json(500, { code: 'internal error', message })
const faultOf = ({ code, message }: TaosFault): Told =>
  internal(`[0x${code.toString(16)}] ${message === '' ? 'Invalid data format' : message}`)
/** plugin.go badRequest. */
const badRequest = (code: string, message: string, op: string, err = message): Told =>
  json(400, { code, message, op, err, line: 0 })

interface Login {
  user: string
  password: string
  token: string
}
/** plugin.go getAuth: what the query says stands over the header. */
const loginOf = ({ headers, query }: Asked): Login => {
  const header = (headers.authorization ?? '').trim()
  const login: Login = { user: '', password: '', token: '' }
  if (header.startsWith('Basic ')) {
    const [user = '', ...rest] = Buffer.from(header.slice(6), 'base64').toString().split(':')
    login.user = user
    login.password = rest.join(':')
  } else if (header.startsWith('Bearer ') && !query.has('token'))
    login.token = header.slice(7).trim()
  login.user = query.get('u') || login.user
  login.password = query.get('p') || login.password
  return login
}
type Body = { readonly body: Buffer } | { readonly told: Told }
/** system/main.go: every route unpacks gzip (gin-contrib/gzip), before anything else is looked at. */
const unpack = ({ headers, body }: Asked): Body => {
  if (headers['content-encoding'] !== 'gzip') return { body }
  if (body.length < 2 || body.readUInt16BE(0) !== 0x1f8b) return { told: { status: 400 } }
  try {
    return { body: gunzipSync(body) }
  } catch {
    return { told: badRequest('internal error', 'read line error', 'read line', 'unexpected EOF') }
  }
}

export const openTaosadapter = async (options: TaosadapterOptions = {}): Promise<Taosadapter> => {
  const {
    user = 'root',
    password = 'taosdata',
    databases: made = { plant: { precision: 'ns' } },
  } = options
  const nowNs = options.nowNs ?? (() => BigInt(Date.now()) * 1_000_000n)
  const databases = new Map(
    Object.entries(made).map(([name, of]) => [name, createDatabase(of, nowNs)]),
  )
  const insert = (body: Buffer, name: string, precision: string): Told => {
    let database = databases.get(name)
    if (database === undefined && options.createDatabases === true) {
      database = createDatabase({ precision: 'ns' }, nowNs)
      databases.set(name, database)
    }
    if (database === undefined)
      return faultOf(new TaosFault(codes.noDatabase, 'Database not exist'))
    try {
      database.write(readTaosLines(body), requestScales[precision] ?? 1n)
      return { status: 204 }
    } catch (error) {
      if (!(error instanceof TaosFault)) throw error
      return faultOf(error)
    }
  }
  const known = (login: Login): boolean =>
    login.token !== ''
      ? login.token === options.token
      : login.user === user && login.password === password
  /** controller/rest: faults are 200 with a code (httpCodeServerError is off); one question is understood here. */
  const sql = (asked: Asked): Told => {
    if (asked.headers.authorization === undefined)
      return json(401, { code: 0x1104, desc: 'no auth info input', timing: 0 })
    if (!known(loginOf(asked)))
      return json(200, { code: codes.authentication, desc: 'Authentication failure', timing: 0 })
    const wanted =
      /^SELECT `precision` FROM information_schema\.ins_databases WHERE name = '(\w+)'$/.exec(
        asked.body.toString(),
      )
    if (wanted === null) return json(200, { code: 0x2600, desc: 'syntax error', timing: 0 })
    const database = databases.get(wanted[1] ?? '')
    const data = database === undefined ? [] : [[database.precision]]
    return json(200, {
      code: 0,
      column_meta: [['precision', 'VARCHAR', 2]],
      data,
      rows: data.length,
    })
  }
  const answer = (asked: Asked): Told => {
    const { query } = asked
    if (asked.path === '/rest/sql' && asked.method === 'POST') return sql(asked)
    if (asked.path === '/-/ping') return { status: 200 }
    if (asked.path !== '/influxdb/v1/write' || asked.method !== 'POST')
      return { status: 404, body: '404 page not found' }
    const unpacked = unpack(asked)
    if ('told' in unpacked && unpacked.told.body === undefined) return unpacked.told
    for (const name of ['req_id', 'ttl']) {
      const value = query.get(name) ?? ''
      if (!/^\d*$/.test(value))
        return badRequest('illegal param', `${name} must be numeric`, `parse ${name}`)
    }
    const login = loginOf(asked)
    if (login.token === '' && (login.user === '' || login.password === ''))
      return json(401, { code: 'forbidden', message: 'no auth info found' })
    const name = query.get('db') ?? ''
    if (name === '') return badRequest('not found', 'db required', 'get db query')
    if ('told' in unpacked) return unpacked.told
    // The login itself is the database's to refuse, so it is one more internal error (db/commonpool/pool.go).
    if (!known(login)) return faultOf(new TaosFault(codes.authentication, 'Authentication failure'))
    return insert(unpacked.body, name, query.get('precision') || 'ns')
  }
  const busy = options.busy ?? json(503, 'memory exceeds threshold', { 'retry-after': '120' })
  const shell = await openShell(answer, busy)
  return {
    ...shell,
    stored: (name) => databases.get(name)?.held.rows() ?? [],
    changed: (name) => databases.get(name)?.held.changed() ?? 0,
  }
}
