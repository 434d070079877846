/**
 * The spool in lockstep with a naive twin: whatever is appended, sealed, read, acked, rewound, rejected, crashed or
 * restored, both hold the same points and the same books after every step.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { LaneItem, RefusedPoints } from '../../src/model.ts'
import type { Spool } from '../../src/spool/spool.ts'
import type { LaneStatus } from '../../src/spool-port.ts'
import { contents, createRig, floats, laneOptions, readAll } from '../unit/spool/support.ts'

const pointsMax = 3
const readerNames = ['region', 'lake'] as const
type ReaderName = (typeof readerNames)[number]

type Step =
  | { readonly kind: 'append'; readonly count: number; readonly seal: boolean }
  | { readonly kind: 'loss'; readonly source: string; readonly count: number }
  | { readonly kind: 'seal' | 'reopen' | 'flush' | 'snapshot' | 'restore' }
  | { readonly kind: 'open'; readonly reader: ReaderName; readonly from: 'now' | 'oldest' }
  | { readonly kind: 'live' | 'close'; readonly reader: ReaderName }
  | {
      readonly kind: 'ack'
      readonly reader: ReaderName
      readonly which: 'backlog' | 'live'
      readonly items: number
      /** The far side cannot hold some of the points. */
      readonly losing: boolean
    }
  | { readonly kind: 'rewind'; readonly reader: ReaderName; readonly share: number }
  | { readonly kind: 'reject' | 'giveUp'; readonly share: number }
  | { readonly kind: 'resend'; readonly share: number; readonly taken: number }
  | { readonly kind: 'crash'; readonly at: string; readonly count: number; readonly seal: boolean }

const reader = fc.constantFrom(...readerNames)
const share = fc.integer({ min: 0, max: 100 })
const count = fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 40, max: 150 }))
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('append' as const), count, seal: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('loss' as const),
      source: fc.constantFrom('a', 'b'),
      count: fc.integer({ min: 1, max: 5 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('seal', 'reopen', 'flush', 'snapshot', 'restore'),
    }) as fc.Arbitrary<Step>,
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('open' as const),
      reader,
      from: fc.constantFrom('now', 'oldest'),
    }) as fc.Arbitrary<Step>,
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const), reader }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('live' as const), reader }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('ack' as const),
      reader,
      which: fc.constantFrom('backlog', 'live'),
      items: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 30, max: 90 })),
      losing: fc.boolean(),
    }) as fc.Arbitrary<Step>,
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('rewind' as const), reader, share }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('reject' as const), share }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('giveUp' as const), share }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('resend' as const), share, taken: share }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      at: fc.constantFrom('before-commit', 'after-commit', 'after-anchor', 'before-ack'),
      count,
      seal: fc.boolean(),
    }),
  },
)

/** One seq of the lane: values of a segment, or what was lost. */
type Place =
  | { readonly values: readonly number[] }
  | { readonly reason: string; readonly count: number }
/** What this far side cannot hold of a segment, in every order of sending the same. */
const lostOf = (item: LaneItem): number =>
  item.type === 'segment' && item.seq % 3 !== 0 ? Math.min(item.pointCount, 1 + (item.seq % 2)) : 0
/** The first points of a segment. */
const first = (count: number): RefusedPoints => ({
  ...{ why: 'refused', text: 'no', at: Array.from({ length: count }, (_, at) => at) },
})
const sizeOf = (place: Place): number => ('values' in place ? place.values.length : place.count)

interface TwinReader {
  backlog: number
  live: { start: number; upTo: number } | null
  merged: boolean
  start: number
  before: number
  /** Per seq passed: how it was booked. `partly` counts what was lost of a segment. */
  booked: Map<
    number,
    { readonly delivered: number; readonly lost: number; readonly partly: number }
  >
  /** Its own gap records were folded: a rewind into them is only right as a sum. */
  folded: boolean
}
interface Twin {
  places: Place[]
  open: number[]
  readers: Map<ReaderName, TwinReader>
  saved: Map<ReaderName, TwinReader>
}
const copyReaders = (readers: Twin['readers']): Twin['readers'] =>
  new Map(
    [...readers].map(([name, one]) => [
      name,
      { ...one, live: one.live === null ? null : { ...one.live }, booked: new Map(one.booked) },
    ]),
  )
const copyTwin = (twin: Twin): Twin => ({
  places: [...twin.places],
  open: [...twin.open],
  readers: copyReaders(twin.saved),
  saved: copyReaders(twin.saved),
})
const acceptedOf = (twin: Twin): number =>
  twin.places.reduce((sum, place) => sum + sizeOf(place), 0) + twin.open.length

class Crash extends Error {}

const nothingSeen = () => ({
  resent: 0,
  givenUp: 0,
  ...{ crash: 0, anchor: 0, forgotten: 0, trimmed: 0, merged: 0, rejected: 0, grown: 0 },
  ...{ partly: 0, takenBack: 0 },
})

const createLockstep = () => {
  const rig = createRig({ lanes: [laneOptions('raw', { segmentPointsMax: pointsMax })] })
  let failAt = ''
  const failpoint = (name: string) => {
    if (name === failAt) throw new Crash(name)
  }
  let spool: Spool = rig.open(null, failpoint)
  let twin: Twin = { places: [], open: [], readers: new Map(), saved: new Map() }
  let snapshot: { readonly image: Uint8Array; readonly twin: Twin } | null = null
  let anchored = 0
  let nextValue = 1
  let readThrough = 0
  const seen = nothingSeen()

  const lane = (): LaneStatus => spool.lanes()[0] as LaneStatus
  const wrote = (anchor: boolean) => {
    twin.saved = copyReaders(twin.readers)
    if (anchor) anchored = acceptedOf(twin)
  }
  const sealTwin = (all: boolean) => {
    const segments = Math.ceil(twin.open.length / pointsMax)
    const size = all && segments > 0 ? Math.ceil(twin.open.length / segments) : pointsMax
    while (twin.open.length >= size || (all && twin.open.length > 0)) {
      twin.places.push({ values: twin.open.splice(0, size) })
    }
  }
  const storeTwin = (values: readonly number[], seal: boolean) => {
    twin.open.push(...values)
    sealTwin(seal)
    wrote(true)
  }
  const reopen = (image: Uint8Array, before: Twin) => {
    twin = before
    spool = rig.open(image, failpoint)
    const lost = anchored - acceptedOf(twin)
    if (lost > 0) {
      twin.places.push({ reason: 'anchor', count: lost })
      seen.anchor++
    }
    readThrough = twin.places.length
    for (const one of twin.readers.values()) one.merged = false
    wrote(true)
  }
  const pass = (one: TwinReader, after: number, to: number, lost: ReadonlyMap<number, number>) => {
    for (let seq = after + 1; seq <= to; seq++) {
      const place = twin.places[seq - 1] as Place
      const size = sizeOf(place)
      const partly = lost.get(seq) ?? 0
      seen.partly += partly
      if ('values' in place) one.booked.set(seq, { delivered: size - partly, lost: partly, partly })
      else one.booked.set(seq, { delivered: 0, lost: size, partly: 0 })
    }
  }
  /** No seq inside a tombstone's range is a place to stand. */
  const boundary = (seq: number): number => {
    const inside = spool
      .gaps(1e6)
      .find((gap) => gap.destination === '' && gap.seq <= seq && seq < gap.seqLast)
    return inside === undefined ? seq : inside.seqLast
  }

  const ack = (name: ReaderName, which: 'backlog' | 'live', items: number, losing: boolean) => {
    const one = twin.readers.get(name)
    if (one === undefined) return
    const live = which === 'live'
    const after = live && one.live !== null ? one.live.upTo : one.backlog
    const got = spool.read('raw', after, 1e9).slice(0, items)
    const lost = new Map(losing ? got.map((item) => [item.seq, lostOf(item)] as const) : [])
    const last = got.at(-1)
    if (last === undefined) return
    const upTo = last.type === 'segment' ? last.seq : last.seqLast
    readThrough = Math.max(readThrough, upTo)
    const gap = { reason: 'rejected', source: 's', timeUsMin: 1, timeUsMax: 2 } as const
    const acked = {
      which,
      upTo,
      lost: [...lost].map(([seq, count]) => ({ ...gap, seq, count, refused: [first(count)] })),
    } as const
    const cursor = spool.ack('raw', name, acked)
    // An answer that comes twice books nothing.
    if (Math.max(cursor.backlog, cursor.live?.upTo ?? 0) >= upTo) spool.ack('raw', name, acked)
    if (live && one.live === null && !one.merged) return
    if (live && one.live !== null) {
      pass(one, one.live.upTo, upTo, lost)
      one.live.upTo = upTo
      return
    }
    const to = one.live === null ? upTo : Math.min(upTo, one.live.start)
    if (to <= one.backlog) return
    pass(one, one.backlog, to, lost)
    one.backlog = to
    if (one.live !== null && to >= one.live.start) {
      one.backlog = one.live.upTo
      one.live = null
      one.merged = true
      seen.merged++
    }
  }
  const rewind = (name: ReaderName, shareOf: number) => {
    const one = twin.readers.get(name)
    if (one === undefined) return
    const after = Math.min(boundary(Math.floor((one.backlog * shareOf) / 100)), one.backlog)
    const { floor } = lane()
    spool.rewind('raw', name, after)
    if (after === one.backlog && one.live === null) return
    for (const [seq, { partly }] of one.booked) {
      if (seq <= after) continue
      one.booked.delete(seq)
      seen.takenBack += partly
    }
    for (let seq = after + 1; seq < floor; seq++) {
      const place = twin.places[seq - 1] as Place
      if (!('values' in place)) continue
      twin.places[seq - 1] = { reason: 'forgotten', count: place.values.length }
      seen.forgotten++
    }
    one.start = Math.min(one.start, after)
    one.before = twin.places.slice(0, one.start).reduce((sum, place) => sum + sizeOf(place), 0)
    Object.assign(one, { backlog: after, live: null, merged: false })
    wrote(true)
  }
  const loss = (source: string, lost: number) => {
    const head = twin.places.length
    const points = floats(rig.series, 0, 0)
    const losses = [{ source, reason: 'malformed' as const, count: lost, text: 'x' }]
    spool.commit([{ lane: 'raw', intakes: [{ points, losses }], seal: false }])
    if (lane().head > head) twin.places.push({ reason: 'malformed', count: lost })
    else {
      const newest = twin.places[head - 1] as { reason: string; count: number }
      assert.equal(newest.reason, 'malformed')
      assert.ok(head > readThrough, 'a record somebody has read grew')
      twin.places[head - 1] = { reason: 'malformed', count: newest.count + lost }
      seen.grown++
    }
    wrote(true)
  }
  const append = (points: number, seal: boolean, at = '') => {
    const first = nextValue
    nextValue += points
    const values = Array.from({ length: points }, (_, i) => first + i)
    const windows = [
      { lane: 'raw', intakes: [{ points: floats(rig.series, first, points) }], seal },
    ]
    failAt = at
    try {
      assert.deepEqual(spool.commit(windows), { kind: 'stored' })
      storeTwin(values, seal)
    } catch (error) {
      failAt = ''
      if (!(error instanceof Crash)) throw error
      seen.crash++
      const image = spool.image()
      const anchorBefore = anchored
      if (at !== 'before-commit') storeTwin(values, seal)
      if (at === 'after-commit') anchored = anchorBefore
      reopen(image, copyTwin(twin))
    }
  }

  const openReader = (name: ReaderName, from: 'now' | 'oldest') => {
    const { floor, head } = lane()
    spool.openReader('raw', name, from)
    if (twin.readers.has(name)) return
    const backlog = from === 'now' ? head : floor - 1
    const before = twin.places.slice(0, backlog).reduce((sum, place) => sum + sizeOf(place), 0)
    twin.readers.set(name, {
      backlog,
      live: null,
      merged: false,
      start: backlog,
      before,
      booked: new Map(),
      folded: false,
    })
    wrote(false)
  }
  const startLive = (name: ReaderName) => {
    const one = twin.readers.get(name)
    if (one === undefined) return
    spool.startLive('raw', name)
    const head = twin.places.length
    if (one.live !== null || one.backlog >= head) return
    one.live = { start: head, upTo: head }
    one.merged = false
  }
  const reject = (shareOf: number) => {
    const { head, floor } = lane()
    const seq = floor + Math.floor(((head - floor) * shareOf) / 100)
    const place = twin.places[seq - 1]
    if (place === undefined || seq < floor || !('values' in place)) return
    spool.quarantine('raw', seq, 'rejected', 'no')
    twin.places[seq - 1] = { reason: 'rejected', count: place.values.length }
    seen.rejected++
    wrote(true)
  }

  /** A row of the quarantine that holds refused points. */
  const refusedRow = (shareOf: number) => {
    if (spool.flush()) wrote(false)
    const rows = spool.quarantined(10_000).filter(({ points }) => points > 0)
    const row = rows[Math.floor((rows.length * shareOf) / 101)]
    const reader = row === undefined ? undefined : twin.readers.get(row.destination as ReaderName)
    const booked = row === undefined ? undefined : reader?.booked.get(row.seq)
    if (row === undefined) return undefined
    assert.ok(reader !== undefined && booked !== undefined, 'a copy outlives its loss')
    assert.ok(reader.folded || row.points <= booked.partly, 'more copies than losses')
    return { row, reader, booked }
  }
  const resend = (shareOf: number, takenOf: number) => {
    const found = refusedRow(shareOf)
    if (found === undefined) return
    const { row, reader, booked } = found
    const segment = spool.resendable(row.id)
    assert.ok(segment?.seq === row.seq && segment.pointCount === row.points)
    const place = twin.places[row.seq - 1] as Place
    if ('values' in place)
      for (const value of contents([segment])) assert.ok(place.values.includes(Number(value)))
    const taken = Math.round((row.points * takenOf) / 100)
    const refused = taken === row.points ? [] : [first(row.points - taken)]
    const answer = spool.resent(row.id, segment.bytes, refused)
    assert.equal(answer.refused, row.points - taken)
    if (!reader.folded) assert.equal(answer.delivered, taken)
    const { delivered } = answer
    reader.booked.set(row.seq, {
      delivered: booked.delivered + delivered,
      lost: booked.lost - delivered,
      partly: booked.partly - delivered,
    })
    seen.resent += delivered
    wrote(true)
  }
  const giveUp = (shareOf: number) => {
    const found = refusedRow(shareOf)
    if (found === undefined) return
    assert.ok(spool.discardQuarantined(found.row.id))
    seen.givenUp++
    wrote(true)
  }

  const run = (one: Step) => {
    switch (one.kind) {
      case 'append':
        return append(one.count, one.seal)
      case 'crash':
        return append(one.count, one.seal, one.at)
      case 'loss':
        return loss(one.source, one.count)
      case 'seal':
        spool.seal(['raw'])
        if (twin.open.length === 0) return
        sealTwin(true)
        return wrote(true)
      case 'reopen':
        return reopen(spool.image(), copyTwin(twin))
      case 'flush':
        if (spool.flush()) wrote(false)
        return
      case 'snapshot':
        snapshot = { image: spool.image(), twin: copyTwin(twin) }
        return
      case 'restore':
        if (snapshot !== null) reopen(snapshot.image, copyTwin(snapshot.twin))
        return
      case 'open':
        return openReader(one.reader, one.from)
      case 'close':
        spool.closeReader('raw', one.reader)
        if (twin.readers.delete(one.reader)) wrote(false)
        return
      case 'live':
        return startLive(one.reader)
      case 'ack':
        return ack(one.reader, one.which, one.items, one.losing)
      case 'rewind':
        return rewind(one.reader, one.share)
      case 'reject':
        return reject(one.share)
      case 'resend':
        return resend(one.share, one.taken)
      case 'giveUp':
        return giveUp(one.share)
    }
  }

  const compareItems = (items: readonly LaneItem[], floor: number) => {
    let at = floor - 1
    for (const item of items) {
      assert.equal(item.seq, at + 1, 'a seq is unanswered, or answered twice')
      at = item.type === 'segment' ? item.seq : item.seqLast
      const places = twin.places.slice(item.seq - 1, at)
      if (item.type === 'segment') {
        assert.deepEqual(places, [{ values: contents([item]) }])
      } else {
        assert.ok(places.every((place) => 'reason' in place && place.reason === item.gap.reason))
        assert.equal(
          item.gap.count,
          places.reduce((sum, place) => sum + sizeOf(place), 0),
        )
      }
    }
    assert.equal(at, twin.places.length, 'the lane ends early')
  }
  const compare = () => {
    const status = lane()
    assert.equal(status.accepted, acceptedOf(twin))
    assert.equal(status.head, twin.places.length)
    if (status.floor > 1) seen.trimmed++
    for (const one of twin.readers.values()) assert.ok(status.floor <= one.backlog + 1)
    assert.equal(status.readers.length, twin.readers.size)
    const gaps = spool.gaps(1e6)
    for (const real of status.readers) {
      const one = twin.readers.get(real.reader as ReaderName) as TwinReader
      assert.deepEqual(real.cursor, { backlog: one.backlog, live: one.live })
      const sum = (column: 'delivered' | 'lost' | 'partly') =>
        [...one.booked.values()].reduce((all, row) => all + row[column], 0)
      const own = gaps.filter((gap) => gap.destination === real.reader)
      const partly = own.reduce((all, gap) => all + gap.count, 0)
      one.folded ||= own.some((gap) => gap.seq < gap.seqLast)
      const { delivered, declaredLost } = real
      if (one.folded) assert.equal(delivered + declaredLost, sum('delivered') + sum('lost'))
      else
        assert.deepEqual(
          [delivered, declaredLost, partly],
          [sum('delivered'), sum('lost'), sum('partly')],
        )
      const pending = twin.places.reduce((all, place, index) => {
        const seq = index + 1
        const live = one.live !== null && seq > one.live.start && seq <= one.live.upTo
        return seq <= one.backlog || live ? all : all + sizeOf(place)
      }, twin.open.length)
      assert.equal(real.pending, pending)
      assert.equal(status.accepted, one.before + real.delivered + real.declaredLost + real.pending)
    }
    // A look that no reader takes part in: what was read before may not change, so it is done on a copy.
    const copy = rig.look(spool.image())
    compareItems(
      readAll(copy, 'raw', status.floor - 1).filter((item) => item.seq <= status.head),
      status.floor,
    )
    copy.close()
  }
  return { run, compare, seen }
}

test('the spool and its naive twin agree after every step', () => {
  const seen = nothingSeen()
  const numRuns = process.env.HOLDFAST_TEST_RELEASE === '1' ? 5_000 : 150
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), (steps) => {
      const both = createLockstep()
      for (const one of steps) {
        both.run(one)
        both.compare()
      }
      for (const key of Object.keys(seen) as (keyof typeof seen)[]) seen[key] += both.seen[key]
    }),
    { numRuns, seed: 20_260, endOnFailure: false },
  )
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 0, `${what} never happened`)
})
