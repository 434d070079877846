/**
 * What must stand ready on the far side before the first send, and how it is seen to: QuestDB's tables must remove
 * duplicates by themselves, or a resend would count twice; TDengine's database must count microseconds, or points of
 * one millisecond would replace each other.
 */
import { Failure } from '../errors.ts'
import type { Standing } from '../model.ts'
import type { PlanOptions } from './destination.ts'
import type { InfluxDialectName, Place } from './influx-dialects.ts'
import { gapsMeasurement } from './influx-losses.ts'
import { agentTagDefault, tableDefault } from './influx-names.ts'
import { influxCodes, readInfluxReply } from './influx-outcome.ts'
import { blocked } from './relay-outcome.ts'
import type { RelayReply } from './relay-transport.ts'

/** The id is of (agent, name, tags): no key of its own for the agent. */
const questdbPlan = (table: string, agentTag: string) => `CREATE TABLE IF NOT EXISTS "${table}" (
  timestamp TIMESTAMP, series SYMBOL, ${agentTag === '' ? '' : `"${agentTag}" SYMBOL, `}series_id LONG,
  value DOUBLE, value_int LONG, value_bool BOOLEAN, value_text VARCHAR
) TIMESTAMP(timestamp) PARTITION BY DAY WAL DEDUP UPSERT KEYS(timestamp, series_id);
CREATE TABLE IF NOT EXISTS ${gapsMeasurement} (
  timestamp TIMESTAMP, agent SYMBOL, lane SYMBOL, reason SYMBOL,
  count LONG, seq LONG, seq_last LONG, from_us LONG, to_us LONG, epoch VARCHAR, source VARCHAR
) TIMESTAMP(timestamp) PARTITION BY MONTH WAL DEDUP UPSERT KEYS(timestamp, agent, lane, reason);
-- Tables that were there before, made by a write: from now on they remove duplicates too.
ALTER TABLE "${table}" DEDUP ENABLE UPSERT KEYS(timestamp, series_id);
ALTER TABLE ${gapsMeasurement} DEDUP ENABLE UPSERT KEYS(timestamp, agent, lane, reason);
-- If that is refused, another table bears the name: RENAME TABLE "${table}" TO …, or give another name in the
-- configuration (table), and run all of this again.
`
const comment = (text: string) => `-- ${text}\n`

const quoted = (name: string) => `"${name.replaceAll(/["\\]/g, '\\$&')}"`
/** As InfluxDB chooses for a new policy; an old one's may be longer than all that is to be kept. */
const shardHoursOf = (hours: number) => (hours < 48 ? 1 : hours < 4_380 ? 24 : 168)
/** The default policy is called autogen there. Who logs in as nobody needs no user. */
const influxdb1Plan = ({ database = 'plant', retention_policy: policy }: Place, given: Given) => {
  const { user, hours } = given
  const [at, duration] = [quoted(database), hours === undefined ? 'INF' : `${hours}h`]
  const kept = (verb: string, name: string, rest = '') =>
    `${verb} RETENTION POLICY ${quoted(name)} ON ${at} DURATION ${duration}${rest};\n`
  const policies =
    policy !== undefined
      ? kept('CREATE', policy, ' REPLICATION 1')
      : hours === undefined
        ? ''
        : kept('ALTER', 'autogen', ` SHARD DURATION ${shardHoursOf(hours)}h`)
  if (user === undefined) return `CREATE DATABASE ${at};\n${policies}`
  const login =
    `CREATE USER ${quoted(user)} WITH PASSWORD '…';\n` +
    comment('with the password of the configuration; leave it out where the user is there already')
  return `CREATE DATABASE ${at};\n${policies}${login}GRANT WRITE ON ${at} TO ${quoted(user)};\n`
}
interface Given {
  /** Who will write. */
  readonly user?: string | undefined
  /** How long points are kept. */
  readonly hours?: number
}
const givenOf = (dialect: InfluxDialectName, place: InfluxPlace, options: PlanOptions): Given => {
  const { role, retention } = options
  const wrong =
    role !== undefined && dialect !== 'influxdb1'
      ? '--role'
      : retention !== undefined && dialect !== 'influxdb1' && dialect !== 'influxdb2'
        ? '--retention'
        : undefined
  if (wrong !== undefined)
    throw new Failure('HF-X002', `${wrong} means nothing to a plan for ${dialect}`, 'leave it out')
  const user = role ?? place.username
  return { user, ...(retention === undefined ? {} : { hours: Number.parseInt(retention, 10) }) }
}
type InfluxPlace = Place & { readonly agent_tag?: string; readonly username?: string | undefined }

/** In the language of the server, to be run by its owner. */
export const influxPlan = (
  dialect: InfluxDialectName,
  place: InfluxPlace,
  options: PlanOptions = {},
): string => {
  const { agent_tag: agentTag = agentTagDefault } = place
  const { database = 'plant', bucket = 'plant', org = 'plant', table = tableDefault } = place
  const given = givenOf(dialect, place, options)
  const kept = given.hours === undefined ? '' : ` --retention ${given.hours}h`
  const plans: Readonly<Record<InfluxDialectName, string>> = {
    influxdb1: influxdb1Plan(place, given),
    influxdb2: comment(
      `influx bucket create --org ${org} --name ${bucket}${kept}, and a token that may write it`,
    ),
    influxdb3: comment(`influxdb3 create database ${database}, and a token`),
    victoriametrics: comment(
      'start it with -dedup.minScrapeInterval=1ms and a long -retentionPeriod',
    ),
    questdb: questdbPlan(table, agentTag),
    greptimedb:
      place.database === undefined
        ? comment('nothing to make: without "database" points go to its own, public')
        : `CREATE DATABASE IF NOT EXISTS "${database}";\n`,
    tdengine: `CREATE DATABASE IF NOT EXISTS ${database} PRECISION 'us';\n`,
  }
  return plans[dialect]
}

/** One question before the first send, and what its answer means, or what is asked next. */
export interface Ready {
  /** Otherwise POST. */
  readonly method?: 'GET'
  readonly path: string
  readonly body: string
  readonly read: (reply: RelayReply) => Standing | { readonly kind: 'next'; readonly next: Ready }
}
const portal: Standing = { kind: 'later', text: 'the answer is none of its own: a captive portal?' }
const jsonOf = (reply: RelayReply): Record<string, unknown> | undefined => {
  try {
    return JSON.parse(Buffer.from(reply.body).toString('utf8')) as Record<string, unknown>
  } catch {
    return undefined
  }
}
const refused = (reply: RelayReply): Standing => {
  const said = readInfluxReply(reply, 0, 0)
  return said.kind === 'setback' ? said.setback : { kind: 'unknown' }
}

const questdbAsks = (query: string) =>
  ({ method: 'GET', path: `/exec?${new URLSearchParams({ query })}`, body: '' }) as const
const keysOf = (table: string) =>
  table === gapsMeasurement ? ['agent', 'lane', 'reason', 'timestamp'] : ['series_id', 'timestamp']
/** Other keys than the plan's: rows of two series would replace each other, or a resend count twice. */
const questdbKeys = (tables: readonly string[]): Ready => ({
  ...questdbAsks(
    tables
      .map((name) => {
        const text = `'${name.replaceAll("'", "''")}'`
        return `SELECT ${text} AS of_table, "column" FROM table_columns(${text}) WHERE upsertKey`
      })
      .join(' UNION ALL '),
  ),
  read: (reply) => {
    if (reply.status !== 200) return refused(reply)
    const { dataset } = jsonOf(reply) ?? {}
    if (!Array.isArray(dataset)) return portal
    const found = (table: string) =>
      (dataset as [string, string][])
        .flatMap(([name, column]) => (name === table ? [column] : []))
        .sort()
    const wrong = tables.find((table) => found(table).join() !== keysOf(table).join())
    if (wrong === undefined) return { kind: 'unknown' }
    return blocked(
      influxCodes.plan,
      `the table ${wrong} removes duplicates by (${found(wrong).join(', ')}), not (${keysOf(wrong).join(', ')})`,
      'Run the ALTER TABLE of "holdfast destination plan": else points would replace others, or count twice.',
    )
  },
})
export const questdbReady = (table = tableDefault): Ready => ({
  ...questdbAsks('SELECT table_name, dedup FROM tables()'),
  read: (reply) => {
    if (reply.status !== 200) return refused(reply)
    const { dataset } = jsonOf(reply) ?? {}
    if (!Array.isArray(dataset)) return portal
    const dedup = new Set(
      (dataset as [string, boolean][]).flatMap(([name, removes]) => (removes ? [name] : [])),
    )
    const missing = [table, gapsMeasurement].filter((name) => !dedup.has(name))
    if (missing.length === 0) return { kind: 'next', next: questdbKeys([table, gapsMeasurement]) }
    return blocked(
      influxCodes.plan,
      `QuestDB has no table ${missing.join(' and ')} that removes duplicates`,
      'Run what "holdfast destination plan" says: without DEDUP a resend would count twice.',
    )
  },
})
/** Only a plain "ms" of taosAdapter's REST stands in the way: who may not ask there learns the rest when writing. */
export const tdengineReady = (database: string): Ready => ({
  path: '/rest/sql',
  body:
    'SELECT `precision` FROM information_schema.ins_databases ' +
    `WHERE name = '${database.replaceAll("'", "''")}'`,
  read: (reply) => {
    const { code, data } = jsonOf(reply) ?? {}
    const precision = Array.isArray(data) && Array.isArray(data[0]) ? data[0][0] : undefined
    if (code !== 0 || precision !== 'ms') return { kind: 'unknown' }
    return blocked(
      influxCodes.plan,
      `the database ${database} counts milliseconds: points of one of them would replace each other`,
      'Make one as "holdfast destination plan" says (PRECISION \'us\'), and name it here.',
    )
  },
})
