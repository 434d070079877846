/** A small agent for contract tests: epochs, dictionary and segments as a spool would make them, without a codec. */
import { createHash } from 'node:crypto'
import { createBatchBuilder } from '../../src/batch.ts'
import { dictionaryHashStart, extendDictionaryHash, seriesIdOf } from '../../src/codec/series-id.ts'
import type { CommitFrame, Hello, RegionStore } from '../../src/database/store.ts'
import type {
  EpochId,
  EpochLink,
  Gap,
  LaneId,
  Seq,
  SeriesEntry,
  SeriesId,
  SeriesKey,
  Value,
} from '../../src/model.ts'

export interface TestPoint {
  readonly series: number
  readonly timeUs: number
  readonly value: Value
  readonly quality?: number
}
export type SegmentFrame = Extract<CommitFrame, { type: 'segment' }>
export type TombstoneFrame = Extract<CommitFrame, { type: 'tombstone' }>

export const zeroHash = '0'.repeat(32)
export const epochOf = (name: string): EpochId =>
  createHash('sha256').update(name).digest('hex').slice(0, 32)

export interface TestEpoch {
  readonly epoch: EpochId
  readonly link: EpochLink
  readonly dictionaryHash: string
  /** A segment of these points; `seal` defaults to seq, the digest follows from both and `variant`. */
  readonly segment: (
    seq: Seq,
    points: readonly TestPoint[],
    more?: Partial<
      Pick<SegmentFrame, 'lane' | 'replay' | 'sealNumber' | 'copyOf' | 'previousHash'>
    > & {
      readonly variant?: string
    },
  ) => SegmentFrame
  readonly tombstone: (seq: Seq, seqLast: Seq, gap?: Partial<Gap>, lane?: LaneId) => TombstoneFrame
  readonly hello: (more?: Partial<Hello> & { readonly acked?: Seq }) => Hello
}
export interface TestAgent {
  readonly name: string
  readonly entries: readonly SeriesEntry[]
  readonly id: (series: number) => SeriesId
  readonly epoch: (
    label: string,
    parent?: TestEpoch | null,
    bases?: Readonly<Record<LaneId, Seq>>,
  ) => TestEpoch
  /** Hello and the whole dictionary. */
  readonly introduce: (
    store: RegionStore,
    epoch: TestEpoch,
    hello?: Partial<Hello>,
  ) => Promise<void>
}

const digestOf = (epoch: EpochId, lane: LaneId, seq: Seq, variant: string): string =>
  seq === 0
    ? zeroHash
    : createHash('sha256').update(`${epoch}/${lane}/${seq}/${variant}`).digest('hex').slice(0, 32)

export const createTestAgent = (
  name: string,
  seriesCount = 8,
  more: readonly (SeriesKey & Pick<SeriesEntry, 'contracts'>)[] = [],
): TestAgent => {
  const plain = Array.from({ length: seriesCount }, (_, at): SeriesKey => {
    return { name: `${name}.series-${at}`, tags: [['line', `l${at % 3}`]] }
  })
  const entries = [...plain, ...more].map(
    (key): SeriesEntry => ({ ...key, id: seriesIdOf(name, key), unit: '°C' }),
  )
  let dictionaryHash = dictionaryHashStart
  for (const { id } of entries) dictionaryHash = extendDictionaryHash(dictionaryHash, id)

  const epoch: TestAgent['epoch'] = (label, parent = null, bases = {}) => {
    const id = epochOf(`${name}/${label}`)
    const baseOf = (lane: LaneId) => bases[lane] ?? 0
    const hashOf = (lane: LaneId, seq: Seq): string =>
      seq <= baseOf(lane) && parent !== null
        ? parent.link.lanes.length > 0 && seq === baseOf(lane)
          ? digestOf(parent.epoch, lane, seq, '')
          : zeroHash
        : digestOf(id, lane, seq, '')
    const link: EpochLink = {
      epoch: id,
      parent: parent?.epoch ?? null,
      lanes: [1, 2].map((lane) => ({
        lane,
        base: baseOf(lane),
        baseHash: hashOf(lane, baseOf(lane)),
      })),
    }
    const chain: readonly EpochLink[] = parent === null ? [link] : [...parent.hello().epochs, link]
    return {
      epoch: id,
      link,
      dictionaryHash,
      segment: (seq, points, more = {}) => {
        const { variant = '', lane = 1, ...rest } = more
        const builder = createBatchBuilder()
        const ordered = points
          .map((point, at) => ({ point, at }))
          .sort((a, b) => a.point.series - b.point.series || a.at - b.at)
        for (const { point } of ordered)
          builder.add(point.series, point.timeUs, point.value, point.quality ?? 0)
        return {
          type: 'segment',
          lane,
          epoch: id,
          seq,
          sealNumber: seq,
          digest: digestOf(id, lane, seq, variant),
          previousHash: hashOf(lane, seq - 1),
          dictionaryLength: entries.length,
          dictionaryHash,
          replay: false,
          points: builder.take(),
          ...rest,
        }
      },
      tombstone: (seq, seqLast, gap = {}, lane = 1) => ({
        type: 'tombstone',
        lane,
        epoch: id,
        seq,
        seqLast,
        gap: { reason: 'quota', count: 1, source: '', timeUsMin: 0, timeUsMax: 0, ...gap },
      }),
      hello: ({ acked = 0, ...more } = {}) => ({
        agent: name,
        spoolId: `spool of ${name}`,
        epoch: id,
        epochs: chain,
        lanes: [{ lane: 1, name: 'raw', acked, floor: 1 }],
        lastRegion: '',
        formats: [1],
        ...more,
      }),
    }
  }
  return {
    name,
    entries,
    id: (series) => (entries[series] as SeriesEntry).id,
    epoch,
    introduce: async (store, known, hello = {}) => {
      const answer = await store.hello(known.hello(hello))
      if (answer.kind !== 'ok') throw new Error(`hello: ${JSON.stringify(answer)}`)
      const added = await store.addSeries(name, known.epoch, 0, entries)
      if (added.kind !== 'ok') throw new Error(`addSeries: ${JSON.stringify(added)}`)
    },
  }
}
