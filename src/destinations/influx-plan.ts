/**
 * What must stand ready on the far side before the first send, and how it is seen to: QuestDB's tables must remove
 * duplicates by themselves, or a resend would count twice.
 */
import type { Standing } from '../model.ts'
import { type InfluxDialectName, type Place, tableDefault } from './influx-dialects.ts'
import { gapsMeasurement } from './influx-losses.ts'
import { influxCodes, readInfluxReply } from './influx-outcome.ts'
import { blocked } from './relay-outcome.ts'
import type { RelayReply } from './relay-transport.ts'

const questdbPlan = (table: string) => `CREATE TABLE IF NOT EXISTS "${table}" (
  timestamp TIMESTAMP, series SYMBOL, series_id LONG,
  value DOUBLE, value_int LONG, value_bool BOOLEAN, value_text VARCHAR
) TIMESTAMP(timestamp) PARTITION BY DAY WAL DEDUP UPSERT KEYS(timestamp, series_id);
CREATE TABLE IF NOT EXISTS ${gapsMeasurement} (
  timestamp TIMESTAMP, agent SYMBOL, lane SYMBOL, reason SYMBOL,
  count LONG, seq LONG, seq_last LONG, from_us LONG, to_us LONG, epoch VARCHAR, source VARCHAR
) TIMESTAMP(timestamp) PARTITION BY MONTH WAL DEDUP UPSERT KEYS(timestamp, agent, lane, reason);
`
const comment = (text: string) => `-- ${text}\n`

/** In the language of the server, to be run by its owner. */
export const influxPlan = (dialect: InfluxDialectName, place: Place): string => {
  const { database = 'plant', bucket = 'plant', org = 'plant', table = tableDefault } = place
  const plans: Readonly<Record<InfluxDialectName, string>> = {
    influxdb1: `CREATE DATABASE "${database}";\nGRANT WRITE ON "${database}" TO "holdfast";\n`,
    influxdb2: comment(
      `influx bucket create --org ${org} --name ${bucket}, and a token that may write it`,
    ),
    influxdb3: comment(`influxdb3 create database ${database}, and a token`),
    victoriametrics: comment(
      'start it with -dedup.minScrapeInterval=1ms and a long -retentionPeriod',
    ),
    questdb: questdbPlan(table),
    greptimedb: `CREATE DATABASE IF NOT EXISTS "${database}";\n`,
    tdengine: `CREATE DATABASE IF NOT EXISTS ${database} PRECISION 'us';\n`,
  }
  return plans[dialect]
}

export const questdbReady = (table = tableDefault) => ({
  path: `/exec?${new URLSearchParams({ query: 'SELECT table_name, dedup FROM tables()' })}`,
  read: (reply: RelayReply): Standing => {
    if (reply.status !== 200) {
      const said = readInfluxReply(reply, 0, 0)
      return said.kind === 'setback' ? said.setback : { kind: 'unknown' }
    }
    const dedup = new Set<string>()
    try {
      const { dataset } = JSON.parse(Buffer.from(reply.body).toString('utf8')) as {
        dataset: readonly (readonly [string, boolean])[]
      }
      for (const [name, removes] of dataset) if (removes) dedup.add(name)
    } catch {
      return { kind: 'later', text: 'the answer is none of QuestDB: a captive portal?' }
    }
    const missing = [table, gapsMeasurement].filter((name) => !dedup.has(name))
    if (missing.length === 0) return { kind: 'unknown' }
    return blocked(
      influxCodes.plan,
      `QuestDB has no table ${missing.join(' and ')} that removes duplicates`,
      'Run what "holdfast destination plan" says: without DEDUP a resend would count twice.',
    )
  },
})
