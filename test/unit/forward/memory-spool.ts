/** The part of a spool that forwarding sees, in memory: a model small enough to be right at a glance. */
import { Failure } from '../../../src/errors.ts'
import type { Cursor, LaneItem } from '../../../src/model.ts'
import type { LaneStatus, RefusedRow, SpoolPort } from '../../../src/spool-port.ts'

export const epoch = '0'.repeat(32)
export const segmentOf = (seq: number, size = 100, timeUs = seq * 1_000_000): LaneItem => ({
  type: 'segment',
  seq,
  epoch,
  pointCount: 10,
  timeUsMin: timeUs,
  timeUsMax: timeUs + 999_999,
  bytes: new Uint8Array(size),
})

export const createMemorySpool = (lane = 'raw') => {
  const refused = new Map<number, RefusedRow>()
  const resent: { readonly id: number; readonly places: readonly number[] }[] = []
  const items = new Map<number, LaneItem>()
  const kept = new Map<string, Uint8Array>()
  const cursors = new Map<string, Cursor>()
  let head = 0
  const wakers = new Set<() => void>()
  const cursorOf = (reader: string): Cursor => {
    const cursor = cursors.get(reader)
    if (cursor === undefined) throw new Failure('HF-S001', 'no such reader')
    return cursor
  }
  const set = (reader: string, cursor: Cursor): Cursor => {
    const { backlog, live } = cursor
    const merged = live !== null && backlog >= live.start
    cursors.set(reader, merged ? { backlog: live.upTo, live: null } : cursor)
    return cursorOf(reader)
  }
  const status = (): LaneStatus => ({
    lane,
    id: 1,
    head,
    floor: 1,
    derived: false,
    accepted: head * 10,
    bytes: 0,
    readers: [...cursors].map(([reader, cursor]) => ({
      reader,
      cursor,
      stage: false,
      delivered: 0,
      reduced: 0,
      declaredLost: 0,
      pending: (head - cursor.backlog) * 10,
    })),
  })
  const spool: Partial<SpoolPort> = {
    newest: async () => null,
    openReader: async (_, reader, from) =>
      set(reader, cursors.get(reader) ?? { backlog: from === 'now' ? head : 0, live: null }),
    read: async (_, after, bytesMax, upTo = head) => {
      const read: LaneItem[] = []
      let bytes = 0
      for (let seq = after + 1; seq <= Math.min(upTo, head); seq++) {
        const item = items.get(seq) as LaneItem
        bytes += item.type === 'segment' ? item.bytes.length : 0
        if (read.length > 0 && bytes > bytesMax) break
        read.push(item)
      }
      return read
    },
    whenPast: (_, after, signal) =>
      new Promise((resolve) => {
        const done = () => {
          if (head <= after && !signal.aborted) return
          wakers.delete(done)
          signal.removeEventListener('abort', done)
          resolve(head)
        }
        wakers.add(done)
        signal.addEventListener('abort', done)
        done()
      }),
    startLive: async (_, reader) => {
      const { backlog, live } = cursorOf(reader)
      if (live !== null || backlog >= head) return cursorOf(reader)
      return set(reader, { backlog, live: { start: head, upTo: head } })
    },
    ack: async (_, reader, { which, upTo }) => {
      const { backlog, live } = cursorOf(reader)
      if (which === 'backlog') {
        if (upTo <= backlog || (live !== null && upTo > live.start) || upTo > head)
          throw new Failure('HF-S002', `backlog ack ${upTo} over ${backlog}`)
        return set(reader, { backlog: upTo, live })
      }
      if (live === null || upTo <= live.upTo)
        throw new Failure('HF-S002', `live ack ${upTo}, ${JSON.stringify(live)}`)
      return set(reader, { backlog, live: { start: live.start, upTo } })
    },
    rewind: async (_, reader, after) => set(reader, { backlog: after, live: null }),
    quarantine: async (_, seq, reason) => {
      const gap = { reason, count: 10, source: '', timeUsMin: 0, timeUsMax: 0 }
      items.set(seq, { type: 'tombstone', seq, seqLast: seq, epoch, gap })
    },
    refused: async (id) => refused.get(id) ?? null,
    resendable: async (id) => {
      const row = refused.get(id)
      if (row === undefined) return null
      const item = segmentOf(row.seq)
      return item.type === 'segment' ? { ...item, pointCount: row.points } : null
    },
    resent: async (id, _, again) => {
      const places = again.flatMap(({ at }) => at)
      const points = refused.get(id)?.points ?? 0
      resent.push({ id, places })
      refused.delete(id)
      return { delivered: points - places.length, refused: places.length }
    },
    lanes: async () => [status()],
    kept: async (key) => kept.get(key) ?? null,
    keep: async (all) => {
      for (const { key, value } of all) {
        if (value === null) kept.delete(key)
        else kept.set(key, value)
      }
    },
    estimate: async (_, fromUs, toUs) => {
      const hit = [...items.values()].filter(
        (one) => one.type === 'segment' && one.timeUsMax >= fromUs && one.timeUsMin < toUs,
      )
      return {
        segments: hit.length,
        points: hit.length * 10,
        bytes: 0,
        seqFirst: hit[0]?.seq ?? 0,
        seqLast: hit.at(-1)?.seq ?? 0,
      }
    },
  }
  return {
    spool: spool as SpoolPort,
    kept,
    resent,
    /** Points of a segment that this destination refused. */
    refuse: (id: number, destination: string, seq: number, points: number) => {
      const words = { reason: 'rejected', why: 'refused', text: 'conflict', source: '' } as const
      const row = { ...words, id, destination, lane, seq, points, atUs: 0, refused: [] }
      refused.set(id, { ...row, sample: new Uint8Array(0) })
    },
    item: (seq: number) => items.get(seq),
    cursor: (reader: string) => cursorOf(reader),
    waiting: () => wakers.size,
    add: (count: number, size?: number) => {
      for (let at = 0; at < count; at++) {
        head++
        items.set(head, segmentOf(head, size))
      }
      for (const wake of [...wakers]) wake()
    },
  }
}
