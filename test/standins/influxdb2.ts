/**
 * A stand-in for InfluxDB 2 (`/api/v2/write`), written from its source: influxdata/influxdb, branch 2.9 at
 * d4fa1941fd4adb29a556e774de426dfbab72f346. Each rule names its file there.
 *
 * It checks in the server's order: login, precision, bucket named, organization, bucket, permission, body, lines, points.
 * One bad line refuses the whole body; a bad point among good lines is left out alone.
 */
import { gunzipSync } from 'node:zlib'
import { createHeld, type ReadPoint, type Scalar, type StoredField } from './held.ts'
import { type Asked, json, openShell, type Shell, type Told } from './http-shell.ts'
import { readGoLines } from './line-go.ts'

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

const instant = (timeNs: bigint) => new Date(Number(timeNs / 1_000_000n)).toISOString()
/** v1/coordinator/points_writer.go SummariseDropped. */
const lateText = (late: readonly ReadPoint[], seconds: number, oldest: bigint): string => {
  const times = late.map((point) => point.timeNs).sort((a, b) => (a < b ? -1 : 1))
  const [hours, rest] = [Math.floor(seconds / 3_600), seconds % 3_600]
  const say = (name: string, timeNs = 0n) =>
    `${name} point ${late.find((point) => point.timeNs === timeNs)?.table} at ${instant(timeNs)} dropped because it violates a Retention Policy Lower Bound at ${instant(oldest)}`
  return `dropped ${late.length} points outside retention policy of duration ${hours}h${Math.floor(rest / 60)}m${rest % 60}s - ${say('oldest', times[0])}, ${say('newest', times.at(-1))}`
}

interface Dropped {
  count: number
  /** Of the first one only. */
  reason: string
  /** A field named `time` is taken out of its point, which is stored: an error all the same, with 0 dropped. */
  stripped: string
}
/** One bucket: types are pinned per shard, so a field may change its type from one week to the next (tsdb/shard.go). */
const createBucket = (retentionSeconds: number, nowNs: () => bigint) => {
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
        return `input field "${name}" on measurement "${point.table}" is too long, ${bytes} > ${stringBytesMax}`
      }
      const key = JSON.stringify([point.table, name])
      const pinned = types.get(key)
      if (pinned === undefined) types.set(key, kind)
      else if (pinned !== kind)
        return `field type conflict: input field "${name}" on measurement "${point.table}" is type ${typeNames[kind]}, already exists as type ${typeNames[pinned]}`
    }
    return undefined
  }
  const writeShard = (shard: bigint, points: readonly ReadPoint[]): Dropped => {
    const types = typesByShard.get(shard) ?? new Map<string, Scalar['kind']>()
    typesByShard.set(shard, types)
    const dropped: Dropped = { count: 0, reason: '', stripped: '' }
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
      if (fields.length < point.fields.length)
        dropped.stripped = `${invalid}. Field "time" has been stripped from point.`
      held.put({ ...point, fields })
    }
    return dropped
  }
  /** v1/coordinator/points_writer.go: what is too old is left out, unless a shard that this request opens covers it. */
  const write = (points: readonly ReadPoint[]): string | undefined => {
    const oldest =
      retentionSeconds === 0 ? undefined : nowNs() - BigInt(retentionSeconds) * 10n ** 9n
    const young = (timeNs: bigint) => oldest === undefined || timeNs >= oldest
    const opened = new Set(points.filter((p) => young(p.timeNs)).map((p) => shardOf(p.timeNs)))
    const late = points.filter((point) => !opened.has(shardOf(point.timeNs)))
    let answer: string | undefined
    const bucket = ' for database: b699978591e22923 for retention policy: autogen'
    if (late.length > 0)
      answer = `partial write: ${lateText(late, retentionSeconds, oldest ?? 0n)} dropped=${late.length}${bucket}`
    for (const shard of opened) {
      const { count, reason, stripped } = writeShard(
        shard,
        points.filter((point) => shardOf(point.timeNs) === shard),
      )
      if (count > 0) answer = `partial write: ${reason} dropped=${count}`
      else if (stripped !== '') answer ??= `partial write: ${stripped} dropped=0${bucket}`
    }
    return answer
  }
  return { write, rows: held.rows }
}

/** http/tokens.go: `Token` and `Bearer`, whatever their case. */
const tokenOf = (asked: Asked) =>
  /^(?:token|bearer) (.*)$/i.exec(asked.headers.authorization ?? '')?.[1]

type Body = { readonly body: Buffer } | { readonly told: Told }
const unpack = ({ headers, body }: Asked): Body => {
  const encoding = headers['content-encoding']
  if (encoding !== 'gzip' && encoding !== 'x-gzip') return { body }
  // http/points/batch_reader.go: a header that is none goes up unwrapped, so the handler takes it for internal.
  if (body.length < 10 || body.readUInt16BE(0) !== 0x1f8b)
    return {
      told: refuse('internal error', 'An internal error has occurred - check server logs'),
    }
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
    Object.entries(kept).map(([name, seconds]) => [name, createBucket(seconds, nowNs)]),
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
    const wanted = asked.query.get('org') ?? ''
    if (wanted === '') return refuse('invalid', 'Please provide either orgID or org')
    if (wanted !== org) return refuse('not found', `organization name "${wanted}" not found`)
    const bucket = buckets.get(name)
    if (bucket === undefined) return refuse('not found', `bucket "${name}" not found`)
    if (given !== token) return refuse('forbidden', 'insufficient permissions for write')
    const unpacked = unpack(asked)
    if ('told' in unpacked) return unpacked.told
    if (unpacked.body.length > (options.bodyBytesMax ?? Number.POSITIVE_INFINITY))
      return refuse('request too large', 'unable to read data: points batch is too large')
    const { points, wrong } = readGoLines(unpacked.body, precision, nowNs())
    // http/points/points_parser.go: one line that cannot be read, and nothing of the body is written.
    if (wrong.length > 0) return refuse('invalid', wrong.join('\n'))
    const left = bucket.write(points)
    if (left === undefined) return { status: 204 }
    return refuse('unprocessable entity', `failure writing points to database: ${left}`)
  }
  const busy =
    options.busy ?? json(503, { code: 'unavailable', message: 'busy' }, { 'retry-after': '1' })
  const shell = await openShell(answer, busy)
  return { ...shell, stored: (bucket) => buckets.get(bucket)?.rows() ?? [] }
}
