/** Old points for a destination where the value written last stands: with the newest values, at each try. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBatchBuilder } from '../../../src/batch.ts'
import { sealSegment } from '../../../src/codec/segment.ts'
import { withNewest } from '../../../src/forward/newest.ts'
import type { Destination, LaneItem, SendBatch } from '../../../src/model.ts'
import { header } from '../codec/random-points.ts'
import { contents, createRig, floats, laneOptions, readAll, store } from '../spool/support.ts'

const segment = (seq: number, copy: boolean): LaneItem => {
  const copyOf = { epoch: header.epoch, sealNumber: 1 }
  const bytes = sealSegment(
    { ...header, seq, ...(copy ? { copyOf } : {}) },
    createBatchBuilder().take(),
    'none',
  )
  const { epoch } = header
  return { type: 'segment', seq, epoch, pointCount: 0, timeUsMin: 0, timeUsMax: 0, bytes }
}
const newer = Uint8Array.of(7)
const sentTo = async (ordersPoints: boolean, batch: Partial<SendBatch>) => {
  const sent: LaneItem[] = []
  const destination: Destination = {
    ...{ name: 'd', type: 'd', bodyBytesMax: 1e6, ordersPoints },
    standing: async () => ({ kind: 'unknown' }),
    send: async ({ items }) => {
      sent.push(...items)
      return { kind: 'stored', rejected: [] }
    },
    [Symbol.asyncDispose]: async () => {},
  }
  const items = [segment(1, false), segment(2, true), segment(3, true)]
  // The last has no newer values.
  const last = items[2]?.type === 'segment' ? items[2].bytes : undefined
  const newest = async (bytes: Uint8Array) => (bytes === last ? null : newer)
  const rest = { lane: 'replay', laneId: 2, ackedThrough: 0, replay: false, items, ...batch }
  await withNewest(destination, { newest }).send(rest, new AbortController().signal)
  return sent.map((item) => item.type === 'segment' && item.bytes === newer)
}

test('copies, and whatever is sent again on purpose, go with the newest values', async () => {
  assert.deepEqual(await sentTo(false, {}), [false, true, false])
  assert.deepEqual(await sentTo(false, { replay: true }), [true, true, false])
})

test('a destination that orders points gets the bytes that were sealed', async () => {
  assert.deepEqual(await sentTo(true, { replay: true }), [false, false, false])
})

test('a copy of an old value that comes last does not undo its correction there', async () => {
  const copies = laneOptions('replay', { derived: true, copies: true })
  const rig = createRig({ lanes: [laneOptions('raw'), copies] })
  const spool = rig.open()
  store(spool, floats(rig.series, 5, 1), 'raw', true)
  const copyOf = { epoch: spool.epoch, sealNumber: 1 }
  const points = floats(rig.series, 5, 1)
  spool.commit([{ lane: 'replay', intakes: [{ points, copyOf }], seal: false }])
  const correction = floats(rig.series, 99, 1)
  correction.timeUs[0] = points.timeUs[0] as number
  store(spool, correction, 'raw', true)
  /** What stands at the one time there is. */
  const standing = async (renew: boolean) => {
    let value: unknown
    const plain: Destination = {
      ...{ name: 'd', type: 'd', bodyBytesMax: 1e6 },
      standing: async () => ({ kind: 'unknown' }),
      send: async ({ items }) => {
        value = contents(items).at(-1) ?? value
        return { kind: 'stored', rejected: [] }
      },
      [Symbol.asyncDispose]: async () => {},
    }
    const destination = renew
      ? withNewest(plain, { newest: async (bytes) => spool.newest(bytes) })
      : plain
    for (const lane of ['raw', 'replay']) {
      const batch = { lane, laneId: 1, ackedThrough: 0, replay: false }
      await destination.send(
        { ...batch, items: readAll(spool, lane) },
        new AbortController().signal,
      )
    }
    return value
  }
  assert.equal(await standing(false), 5)
  assert.equal(await standing(true), 99)
  spool.close()
})
