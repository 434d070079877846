/**
 * A stand-in for InfluxDB 2 (`/api/v2/write`), written from its source: influxdata/influxdb, branch 2.9 at
 * d4fa1941fd4adb29a556e774de426dfbab72f346. Each rule names its file there; `influxdb2.test.ts` can ask a real one the
 * same (2.9.1, built from that commit, last did).
 *
 * It checks in the server's order: login, precision, bucket named, gzip's header, organization, bucket, permission, body,
 * lines, points. One bad line refuses the whole body; a bad point among good lines is left out alone.
 */
import { gunzipSync } from 'node:zlib'
import { createHeld, type ReadPoint, type Scalar, type StoredField } from './held.ts'
import { type Asked, json, openShell, type Shell, type Told } from './http-shell.ts'
import { type GoPoint, quoted, readGoLines } from './line-go.ts'

export interface Influxdb2Options {
  readonly org?: string
  readonly token?: string
  /** A token that may read only. */
  readonly readToken?: string
  /** Retention in seconds by bucket; 0 keeps for ever. */
  readonly buckets?: Readonly<Record<string, number>>
  /** http/api_handler.go: MaxBatchSizeBytes, of the unpacked body; the open source server sets none. */
  readonly bodyBytesMax?: number
  readonly nowNs?: () => bigint
  /** What turns requests away: 503 here, 429 in the cloud (docs: api/v2/write). */
  readonly busy?: Told
}
export interface Influxdb2 extends Shell {
  readonly stored: (bucket: string) => StoredField[]
  /** kit/platform/id.go: 16 hex digits; organization and bucket may be named by theirs. */
  readonly orgId: string
  readonly bucketId: (name: string) => string
}

const hourNs = 3_600_000_000_000n
/** v1/services/meta/data.go shardGroupDuration: a week for half a year or more, a day from two days on, else an hour. */
const shardNs = (retentionSeconds: number): bigint => {
  const days = retentionSeconds / 86_400
  if (days === 0 || days >= 180) return 168n * hourNs
  return days >= 2 ? 24n * hourNs : hourNs
}
/** Go truncates from the year 1, whose first day is a Monday; 1970 begins 719,162 days after it. */
const sinceYearOneNs = 719_162n * 24n * hourNs
const floorTo = (value: bigint, step: bigint) => value - (((value % step) + step) % step)

/** kit/transport/http/error_handler.go: status by code, the code in a header too. */
const statuses = {
  'internal error': 500,
  'not found': 404,
  invalid: 400,
  'unprocessable entity': 422,
  forbidden: 403,
  unauthorized: 401,
  'request too large': 413,
} as const
const refuse = (code: keyof typeof statuses, message: string): Told => {
  const told = json(statuses[code], { code, message }, { 'x-platform-error-code': code })
  // Go's encoding/json keeps HTML out of its strings.
  const plain = (char: string) => `\\u00${char.charCodeAt(0).toString(16)}`
  return { ...told, body: (told.body ?? '').replace(/[<>&]/g, plain) }
}

/** influxql's names of types, in the text of a conflict (tsdb/field_validator.go). */
const typeNames: Readonly<Record<Scalar['kind'], string>> = {
  float: 'float',
  int: 'integer',
  uint: 'unsigned',
  bool: 'boolean',
  string: 'string',
}
/** tsdb/field_validator.go: MaxFieldValueLength. */
const stringBytesMax = 1_048_576

/** Go's RFC3339Nano: a fraction of as many digits as it needs. */
const instant = (timeNs: bigint) => {
  const whole = floorTo(timeNs, 1_000_000_000n)
  const fraction = `${timeNs - whole}`.padStart(9, '0').replace(/0+$/, '')
  const text = new Date(Number(whole / 1_000_000n)).toISOString().slice(0, 19)
  return `${text}${fraction === '' ? '' : `.${fraction}`}Z`
}
/** v1/coordinator/points_writer.go SummariseDropped. */
const lateText = (late: readonly GoPoint[], seconds: number, oldest: bigint): string => {
  const times = late.map((point) => point.timeNs).sort((a, b) => (a < b ? -1 : 1))
  const [hours, rest] = [Math.floor(seconds / 3_600), seconds % 3_600]
  const say = (name: string, timeNs = 0n) =>
    `${name} point ${late.find((point) => point.timeNs === timeNs)?.key} at ${instant(timeNs)} dropped because it violates a Retention Policy Lower Bound at ${instant(oldest)}`
  return `dropped ${late.length} points outside retention policy of duration ${hours}h${Math.floor(rest / 60)}m${rest % 60}s - ${say('oldest', times[0])}, ${say('newest', times.at(-1))}`
}

interface Dropped {
  count: number
  /** Of the first one only. */
  reason: string
  /** A field named `time` is taken out of its point, which is stored: an error all the same, with 0 dropped. */
  stripped: string
  /** What is taken out still comes to the store, which has one type a field of a series: then nothing is said but that. */
  broken: boolean
}
/** One bucket: types are pinned per shard, so a field may change its type from one week to the next (tsdb/shard.go). */
const createBucket = (id: string, retentionSeconds: number, nowNs: () => bigint) => {
  const held = createHeld()
  const typesByShard = new Map<bigint, Map<string, Scalar['kind']>>()
  const step = shardNs(retentionSeconds)
  const shardOf = (timeNs: bigint) => floorTo(timeNs + sinceYearOneNs, step) - sinceYearOneNs

  const drop = (dropped: Dropped, reason: string) => {
    dropped.count++
    dropped.reason ||= reason
  }
  /** tsdb/field_validator.go ValidateAndCreateFields: the first wrong field costs the point; those before it stay pinned. */
  const conflictOf = (point: ReadPoint, types: Map<string, Scalar['kind']>): string | undefined => {
    for (const [name, { kind, value }] of point.fields) {
      if (kind === 'string' && Buffer.byteLength(value as string) > stringBytesMax) {
        const bytes = Buffer.byteLength(value as string)
        return `input field ${quoted(name)} on measurement ${quoted(point.table)} is too long, ${bytes} > ${stringBytesMax}`
      }
      const key = JSON.stringify([point.table, name])
      const pinned = types.get(key)
      if (pinned === undefined) types.set(key, kind)
      else if (pinned !== kind)
        return `field type conflict: input field ${quoted(name)} on measurement ${quoted(point.table)} is type ${typeNames[kind]}, already exists as type ${typeNames[pinned]}`
    }
    return undefined
  }
  /** tsdb/engine/tsm1/engine.go WritePoints, cache.go newEntryValues: kinds of fields named `time`. */
  const timeKinds = new Map<string, Scalar['kind']>()
  const writeShard = (shard: bigint, points: readonly GoPoint[]): Dropped => {
    const types = typesByShard.get(shard) ?? new Map<string, Scalar['kind']>()
    typesByShard.set(shard, types)
    const dropped: Dropped = { count: 0, reason: '', stripped: '', broken: false }
    for (const point of points) {
      const fields = point.fields.filter(([name]) => name !== 'time')
      const invalid = `invalid field name: input field "time" on measurement "${point.table}" is invalid`
      if (fields.length === 0) {
        drop(dropped, invalid)
        continue
      }
      const conflict = conflictOf({ ...point, fields }, types)
      if (conflict !== undefined) {
        drop(dropped, conflict)
        continue
      }
      const series = JSON.stringify([shard, point.key], (_, one) => `${one}`)
      for (const [name, { kind }] of point.fields) {
        if (name !== 'time') continue
        dropped.broken ||= (timeKinds.get(series) ?? kind) !== kind
        timeKinds.set(series, timeKinds.get(series) ?? kind)
      }
      if (fields.length < point.fields.length)
        dropped.stripped = `${invalid}. Field "time" has been stripped from point.`
      held.put({ ...point, fields })
    }
    return dropped
  }
  /** v1/coordinator/points_writer.go: what is too old is left out, unless a shard that this request opens covers it. */
  const write = (points: readonly GoPoint[]): Told | undefined => {
    const oldest =
      retentionSeconds === 0 ? undefined : nowNs() - BigInt(retentionSeconds) * 10n ** 9n
    const young = (timeNs: bigint) => oldest === undefined || timeNs >= oldest
    const opened = new Set(points.filter((p) => young(p.timeNs)).map((p) => shardOf(p.timeNs)))
    const late = points.filter((point) => !opened.has(shardOf(point.timeNs)))
    let [answer, broken]: [string | undefined, boolean] = [undefined, false]
    const bucket = ` for database: ${id} for retention policy: autogen`
    if (late.length > 0)
      answer = `partial write: ${lateText(late, retentionSeconds, oldest ?? 0n)} dropped=${late.length}${bucket}`
    for (const shard of opened) {
      const said = writeShard(
        shard,
        points.filter((point) => shardOf(point.timeNs) === shard),
      )
      const { count, reason, stripped } = said
      broken ||= said.broken
      if (count > 0) answer = `partial write: ${reason} dropped=${count}`
      else if (stripped !== '') answer ??= `partial write: ${stripped} dropped=0${bucket}`
    }
    const unexpected = 'unexpected error writing points to database: engine: field type conflict'
    if (broken) return refuse('internal error', unexpected)
    if (answer === undefined) return undefined
    return refuse('unprocessable entity', `failure writing points to database: ${answer}`)
  }
  return { id, write, rows: held.rows }
}

/** http/tokens.go: `Token` and `Bearer`, whatever their case. */
const tokenOf = (asked: Asked) =>
  /^(?:token|bearer) (.*)$/i.exec(asked.headers.authorization ?? '')?.[1]

const isId = (text: string) => /^[0-9a-f]{16}$/i.test(text) && !/^0+$/.test(text)
const orgId = '0b8a4e1c5d2f7930'

type Body = { readonly body: Buffer } | { readonly told: Told }
/** Undefined: a header that is none goes up unwrapped, so the handler takes it for internal (http/points/batch_reader.go). */
const unpack = ({ headers, body }: Asked): Body | undefined => {
  const encoding = headers['content-encoding']
  if (encoding !== 'gzip' && encoding !== 'x-gzip') return { body }
  if (body.length < 10 || body.readUInt16BE(0) !== 0x1f8b) return undefined
  try {
    return { body: gunzipSync(body) }
  } catch (error) {
    // http/points/points_parser.go: a wrong checksum is the sender's fault; a stream that was cut is "internal".
    const cut = (error as { code?: string }).code === 'Z_BUF_ERROR'
    return cut
      ? { told: refuse('internal error', 'unable to read data: unexpected EOF') }
      : { told: refuse('invalid', 'unable to read data: gzip: invalid checksum') }
  }
}

export const openInfluxdb2 = async (options: Influxdb2Options = {}): Promise<Influxdb2> => {
  const { org = 'plant', token = 'token-of-plant', buckets: kept = { history: 0 } } = options
  const nowNs = options.nowNs ?? (() => BigInt(Date.now()) * 1_000_000n)
  const buckets = new Map(
    Object.entries(kept).map(([name, seconds], nth) => [
      name,
      createBucket(`b699978591e2292${nth}`, seconds, nowNs),
    ]),
  )
  const answer = (asked: Asked): Told => {
    if (asked.path === '/health') return json(200, { name: 'influxdb', status: 'pass' })
    if (asked.path !== '/api/v2/write') return refuse('not found', 'path not found')
    if (asked.method !== 'POST') return { status: 405 }
    const given = tokenOf(asked)
    if (given === undefined || (given !== token && given !== options.readToken))
      return refuse('unauthorized', 'unauthorized access')
    const precision = asked.query.get('precision') || 'ns'
    if (!['ns', 'us', 'ms', 's'].includes(precision))
      return refuse('invalid', 'invalid precision; valid precision units are ns, us, ms, and s')
    const name = asked.query.get('bucket') ?? ''
    if (name === '') return refuse('not found', 'bucket not found')
    const unpacked = unpack(asked)
    if (unpacked === undefined)
      return refuse('internal error', 'An internal error has occurred - check server logs')
    const wanted = asked.query.get('org') ?? ''
    if (wanted === '') return refuse('invalid', 'Please provide either orgID or org')
    if (isId(wanted) && wanted !== orgId) return refuse('not found', 'organization not found')
    if (wanted !== org && wanted !== orgId)
      return refuse('not found', `organization name "${wanted}" not found`)
    const bucket = [...buckets.values()].find(({ id }) => id === name) ?? buckets.get(name)
    if (bucket === undefined) return refuse('not found', `bucket "${name}" not found`)
    if (given !== token) return refuse('forbidden', 'insufficient permissions for write')
    if ('told' in unpacked) return unpacked.told
    if (unpacked.body.length > (options.bodyBytesMax ?? Number.POSITIVE_INFINITY))
      return refuse('request too large', 'unable to read data: points batch is too large')
    const { points, wrong } = readGoLines(unpacked.body, precision, nowNs())
    // http/points/points_parser.go: one line that cannot be read, and nothing of the body is written.
    if (wrong.length > 0) return refuse('invalid', wrong.join('\n'))
    return bucket.write(points) ?? { status: 204 }
  }
  const busy =
    options.busy ?? json(503, { code: 'unavailable', message: 'busy' }, { 'retry-after': '1' })
  const shell = await openShell(answer, busy)
  return {
    ...shell,
    orgId,
    bucketId: (name) => buckets.get(name)?.id ?? '',
    stored: (bucket) => buckets.get(bucket)?.rows() ?? [],
  }
}
