/** What lines begin with, and series that would be one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import {
  type InfluxDialectName,
  influxDialectNames,
  influxDialects,
} from '../../../src/destinations/influx-dialects.ts'
import { lineStartOf } from '../../../src/destinations/influx-names.ts'
import { createLineSeries } from '../../../src/destinations/influx-series.ts'
import { silentLog } from '../../../src/host.ts'
import type { SeriesEntry } from '../../../src/model.ts'

const place = { agent: 'gw-1', agentTag: 'agent', table: 'points', database: 'plant' }
const entry = (name: string, tags: SeriesEntry['tags'] = []): SeriesEntry => ({
  ...{ name, tags, unit: '' },
  id: seriesIdOf('gw-1', { name, tags }),
})
const start = (dialect: InfluxDialectName, of: SeriesEntry, more: Partial<typeof place> = {}) => {
  const said = lineStartOf(influxDialects[dialect], { ...place, ...more }, of)
  return 'start' in said ? said.start.replace(/\d+i/, 'ID') : undefined
}

test('every dialect says whose line it is; a tag of the plant that is called so stays under another name', () => {
  for (const dialect of influxDialectNames) {
    assert.match(String(start(dialect, entry('m.v', [['z', '1']]))), /,agent=gw-1,z=1 /, dialect)
    const own = start(dialect, entry('m.v', [['agent', 'smith']]))
    assert.match(String(own), /,agent=gw-1,exported_agent=smith /, dialect)
    const both = entry('m.v', [
      ['agent', 'smith'],
      ['exported_agent', 'jones'],
    ])
    assert.equal(start(dialect, both), undefined, dialect)
    const other = start(dialect, entry('m.v', [['agent', 'smith']]), { agentTag: 'gateway' })
    assert.match(String(other), /,agent=smith,gateway=gw-1 /, dialect)
    const none = start(dialect, entry('m.v', [['agent', 'smith']]), { agentTag: '' })
    assert.match(String(none), /,agent=smith /, dialect)
  }
})

const spoolOf = (
  kept: Map<string, Uint8Array>,
  epochs: Record<string, readonly SeriesEntry[]>,
) => ({
  dictionary: async (epoch: string, first: number, max: number) =>
    (epochs[epoch] ?? []).slice(first, first + max),
  kept: async (key: string) => kept.get(key) ?? null,
  keep: async (all: readonly { key: string; value: Uint8Array | null }[]) => {
    for (const { key, value } of all) if (value !== null) kept.set(key, value)
  },
})
test('series that would be one: one is written, in every epoch and after a restart; a rename over a restart is none', async () => {
  const pairs: [InfluxDialectName, SeriesEntry, SeriesEntry][] = [
    ['influxdb1', entry('pump'), entry('pump.value')],
    ['victoriametrics', entry('pump_1.flow'), entry('pump.1_flow')],
    ['victoriametrics', entry('m.v', [['db', 'plant']]), entry('m.v')],
  ]
  for (const [dialect, one, other] of pairs) {
    const kept = new Map<string, Uint8Array>()
    const errors: unknown[] = []
    const log = { ...silentLog, error: (event: string) => errors.push(event) }
    const open = (epochs: Record<string, readonly SeriesEntry[]>) => {
      const spool = spoolOf(kept, epochs) as never
      const deps = { name: 'h', spool, host: { log } }
      const series = createLineSeries({ deps, dialect: influxDialects[dialect], place })
      return async (epoch: string) => {
        const lines = await series.of(epoch, epochs[epoch]?.length ?? 0)
        return lines?.map((line) => line.start !== undefined)
      }
    }
    // One after the other, in epochs of their own: nothing says that they ever met.
    const renamed = open({ a: [one], b: [other] })
    assert.deepEqual([await renamed('a'), await renamed('b')], [[true], [true]])
    const met = open({ c: [one, other, entry('apart.v')], d: [other, one] })
    assert.deepEqual(await met('c'), [true, false, true], dialect)
    assert.deepEqual(await met('d'), [false, true])
    assert.deepEqual(errors, ['series_meet'])
    assert.deepEqual(await open({ e: [other, one] })('e'), [false, true])
    // What is damaged is decided anew.
    kept.set('destinations/h/met', Buffer.from('{'))
    assert.deepEqual(await open({ f: [other, one] })('f'), [true, false])
  }
})
