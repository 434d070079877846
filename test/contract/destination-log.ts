/** A lane in memory, sealed by the real codec: what a destination sees of a spool, without the spool. */
import { randomBytes } from 'node:crypto'
import { createBatchBuilder } from '../../src/batch.ts'
import { sealSegment, segmentDigest } from '../../src/codec/segment.ts'
import { dictionaryHashStart, extendDictionaryHash, seriesIdOf } from '../../src/codec/series-id.ts'
import type { DestinationDeps } from '../../src/destinations/destination.ts'
import type {
  EpochLink,
  Gap,
  LaneItem,
  LaneStanding,
  SendBatch,
  Seq,
  SeriesEntry,
  Tombstone,
  Value,
} from '../../src/model.ts'

export interface LogPoint {
  readonly name: string
  readonly timeUs: number
  readonly value: Value
  /** `plant=north` unless given. */
  readonly tags?: SeriesEntry['tags']
}
export interface TestLog {
  readonly spool: DestinationDeps['spool']
  readonly items: readonly LaneItem[]
  readonly add: (points: readonly LogPoint[]) => LaneItem
  readonly addGap: (gap: Partial<Gap>) => Tombstone
  /** A new opening of the same spool. */
  readonly restart: () => TestLog
  /** The same opened as a copy of its files: what either adds the other never sees. */
  readonly clone: () => TestLog
  readonly batch: (items: readonly LaneItem[], more?: Partial<SendBatch>) => SendBatch
  readonly standing: (backlog: Seq) => readonly LaneStanding[]
  readonly keptKeys: () => readonly string[]
  readonly formatAllowed: () => number
}
interface Shared {
  readonly agent: string
  readonly spoolId: string
  readonly items: LaneItem[]
  readonly kept: Map<string, Uint8Array>
  readonly dictionaries: Map<string, SeriesEntry[]>
  readonly links: EpochLink[]
  sealNumber: number
  previousHash: string
  format: number
}
export const laneId = 3
const lane = 'raw'
const north = [['plant', 'north']] as const

const openLog = (shared: Shared): TestLog => {
  const epoch = randomBytes(16).toString('hex')
  const { items, kept, dictionaries, links, agent } = shared
  const entries: SeriesEntry[] = []
  dictionaries.set(epoch, entries)
  const base = items.length
  links.push({
    epoch,
    parent: links.at(-1)?.epoch ?? null,
    lanes: [{ lane: laneId, base, baseHash: shared.previousHash }],
  })
  let dictionaryHash = dictionaryHashStart
  const refOf = (name: string, tags: SeriesEntry['tags'] = north): number => {
    const known = entries.findIndex((entry) => entry.name === name && entry.tags === tags)
    if (known >= 0) return known
    const key = { name, tags }
    const entry = { ...key, id: seriesIdOf(agent, key), unit: '' }
    dictionaryHash = extendDictionaryHash(dictionaryHash, entry.id)
    return entries.push(entry) - 1
  }
  const log: TestLog = {
    items,
    spool: {
      epoch,
      spoolId: shared.spoolId,
      dictionary: async (of, first, max) => (dictionaries.get(of) ?? []).slice(first, first + max),
      epochs: async () => links,
      kept: async (key) => kept.get(key) ?? null,
      keep: async (all) => {
        for (const { key, value } of all) value === null ? kept.delete(key) : kept.set(key, value)
      },
      allowFormat: async (version) => {
        shared.format = version
      },
    },
    add: (points) => {
      const builder = createBatchBuilder()
      for (const { name, timeUs, value, tags } of points)
        builder.add(refOf(name, tags), timeUs, value, 0)
      const times = points.map((point) => point.timeUs)
      const seq = items.length + 1
      const bytes = sealSegment(
        {
          epoch,
          lane: laneId,
          seq,
          sealNumber: ++shared.sealNumber,
          previousHash: shared.previousHash,
          configRevision: 0,
          dictionaryLength: entries.length,
          dictionaryHash,
          bootId: 'boot',
          monotonicUs: 0,
          clockState: 'trusted',
        },
        builder.take(),
        'zstd',
      )
      shared.previousHash = segmentDigest(bytes)
      const item: LaneItem = {
        type: 'segment',
        seq,
        epoch,
        pointCount: points.length,
        timeUsMin: Math.min(...times),
        timeUsMax: Math.max(...times),
        bytes,
      }
      items.push(item)
      return item
    },
    addGap: (gap) => {
      const seq = items.length + 1
      const full: Gap = {
        reason: 'quota',
        count: 1,
        source: '',
        timeUsMin: 0,
        timeUsMax: 0,
        ...gap,
      }
      const item = { type: 'tombstone', seq, seqLast: seq, epoch, gap: full } as const
      items.push(item)
      return item
    },
    restart: () => openLog(shared),
    clone: () =>
      openLog({
        ...shared,
        items: [...items],
        kept: new Map(kept),
        dictionaries: new Map(dictionaries),
        links: [...links],
      }),
    batch: (some, more) => ({
      lane,
      laneId,
      items: some,
      ackedThrough: 0,
      replay: false,
      ...more,
    }),
    standing: (backlog) => [{ lane, laneId, cursor: { backlog, live: null }, floor: 1 }],
    keptKeys: () => [...kept.keys()],
    formatAllowed: () => shared.format,
  }
  return log
}

export const createTestLog = (agent: string): TestLog =>
  openLog({
    agent,
    spoolId: randomBytes(8).toString('hex'),
    items: [],
    kept: new Map(),
    dictionaries: new Map(),
    links: [],
    sealNumber: 0,
    previousHash: '0'.repeat(32),
    format: 0,
  })
