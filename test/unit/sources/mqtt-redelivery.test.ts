import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Kept } from '../../../src/model.ts'
import type { Publish } from '../../../src/sources/mqtt-frames.ts'
import { createRedelivery, slots } from '../../../src/sources/mqtt-redelivery.ts'

const message = (id: number, text: string, dup = false): Publish => {
  const buffer = Buffer.from(`t${text}`)
  return {
    buffer,
    topicStart: 0,
    topicEnd: 1,
    payloadStart: 1,
    payloadEnd: buffer.length,
    packetId: id,
    dup,
    retain: false,
    tooBigBytes: 0,
  }
}
const again = (id: number, text: string) => message(id, text, true)

const createDisk = () => {
  const disk = new Map<string, Uint8Array>()
  return {
    disk,
    write: ({ key, value }: Kept) => disk.set(key, value ?? new Uint8Array()),
    open: async () => {
      const redelivery = createRedelivery('plant')
      await redelivery.load((key) => Promise.resolve(disk.get(key) ?? null))
      return redelivery
    },
  }
}
type Disk = ReturnType<typeof createDisk>
/** Notes messages, commits them, and says which were duplicates. */
const take = (
  disk: Disk,
  redelivery: Awaited<ReturnType<Disk['open']>>,
  ...messages: Publish[]
) => {
  const duplicates = messages.map((one) => redelivery.seen(one))
  const { number, kept } = redelivery.seal()
  disk.write(kept)
  redelivery.committed(number)
  return { duplicates, number }
}

test('after a crash only DUP with the same id and digest is a duplicate', async () => {
  const disk = createDisk()
  const one = await disk.open()
  one.begin(false)
  take(disk, one, message(1, 'a'), message(2, 'b'), message(3, 'b'))
  const two = await disk.open()
  two.begin(true)
  assert.deepEqual(
    take(disk, two, again(1, 'a'), again(2, 'x'), again(9, 'b'), again(3, 'b')).duplicates,
    [true, false, false, true],
  )
  // The first without DUP: the broker has sent again what it had to.
  assert.deepEqual(take(disk, two, message(4, 'b'), again(2, 'b')).duplicates, [false, false])
})

test('equal messages under other ids, or without DUP, are messages of their own', async () => {
  const disk = createDisk()
  const one = await disk.open()
  one.begin(false)
  take(disk, one, message(1, 'a'))
  one.begin(true)
  assert.deepEqual(take(disk, one, message(1, 'a')).duplicates, [false])
})

test('a session that is not resumed has no duplicates, also after its own crash', async () => {
  const disk = createDisk()
  const one = await disk.open()
  one.begin(false)
  take(disk, one, message(1, 'a'))
  const two = await disk.open()
  two.begin(false)
  // What the source commits before it subscribes.
  take(disk, two)
  assert.equal(two.seen(message(1, 'a')), false)
  const three = await disk.open()
  three.begin(true)
  assert.equal(three.seen(again(1, 'a')), false)
})

test('a commit that failed takes its entries with it, whatever later commits did', async () => {
  const disk = createDisk()
  const one = await disk.open()
  one.begin(false)
  one.seen(message(1, 'a'))
  one.seal()
  take(disk, one, message(2, 'b'))
  for (const two of [await disk.open(), one]) {
    two.begin(true)
    assert.deepEqual([two.seen(again(1, 'a')), two.seen(again(2, 'b'))], [false, true])
  }
})

test('the window outlives connections until the broker has moved on, and confirmed entries are let go', async () => {
  const disk = createDisk()
  const one = await disk.open()
  one.begin(false)
  take(disk, one, message(1, 'a'), message(2, 'b'), message(3, 'c'))
  // Three connections that end before everything was sent again.
  for (let at = 0; at < 3; at++) {
    const next = await disk.open()
    next.begin(true)
    const { duplicates, number } = take(disk, next, again(1, 'a'))
    assert.deepEqual(duplicates, [true])
    next.confirmed(number)
  }
  const last = await disk.open()
  last.begin(true)
  const { number } = take(disk, last, again(1, 'a'), again(2, 'b'), again(3, 'c'), message(4, 'd'))
  last.confirmed(number)
  take(disk, last, message(5, 'e'))
  const after = await disk.open()
  after.begin(true)
  assert.deepEqual([after.seen(again(4, 'd')), after.seen(again(5, 'e'))], [false, true])
})

test('without any confirmation the slots stay bounded, nothing waits, and nothing is forgotten', async () => {
  const disk = createDisk()
  const one = await disk.open()
  one.begin(false)
  for (let id = 1; id <= 5 * slots; id++) {
    assert.equal(one.free(), true)
    take(disk, one, message(id, String(id)))
  }
  assert.equal(disk.disk.size, slots)
  one.seen(message(60_000, 'x'))
  one.seal()
  assert.equal(one.free(), false)
  const two = await disk.open()
  two.begin(true)
  for (let id = 1; id <= 5 * slots; id++) assert.equal(two.seen(again(id, String(id))), true)
  assert.equal(two.seen(again(60_000, 'x')), false)
})

test('kept bytes that cannot be read are none', async () => {
  const disk = createDisk()
  disk.disk.set('mqtt/plant/window/0', Buffer.from('nonsense'))
  disk.disk.set('mqtt/plant/window/1', new Uint8Array(31))
  const one = await disk.open()
  one.begin(true)
  assert.equal(one.seen(again(0, '')), false)
})
