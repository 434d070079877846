import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import mqttPacket, { type IPublishPacket } from 'mqtt-packet'
import { createFrameSplitter } from '../../../src/sources/mqtt-frames.ts'

interface Seen {
  readonly topic: string
  readonly payload: string
  readonly id: number
  readonly dup: boolean
  readonly retain: boolean
  readonly tooBig: number
}
const split = (version: 4 | 5, pieces: readonly Buffer[], bodyBytesMax = 1 << 20) => {
  const seen: (Seen | string)[] = []
  const splitter = createFrameSplitter(version, bodyBytesMax, 8, {
    publish: (one) =>
      seen.push({
        topic: one.buffer.toString('utf8', one.topicStart, one.topicEnd),
        payload: one.buffer.toString('hex', one.payloadStart, one.payloadEnd),
        id: one.packetId,
        dup: one.dup,
        retain: one.retain,
        tooBig: one.tooBigBytes,
      }),
    other: (packet) => seen.push(packet.toString('hex')),
  })
  let broken: string | undefined
  for (const piece of pieces) broken ??= splitter.push(piece)
  return { seen, broken }
}
const cut = (bytes: Buffer, sizes: readonly number[]): Buffer[] => {
  const pieces: Buffer[] = []
  for (let at = 0, next = 0; at < bytes.length; next++) {
    const size = sizes[next % sizes.length] ?? 1
    // A copy each: the splitter must not lean on what follows a piece in memory.
    pieces.push(Buffer.from(bytes.subarray(at, at + size)))
    at += size
  }
  return pieces
}
const publishes = fc.record({
  topic: fc
    .string({ minLength: 1, maxLength: 40, unit: 'grapheme' })
    .filter((text) => !/[#+\0]/.test(text)),
  payload: fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
  qos: fc.constantFrom(0, 1),
  id: fc.integer({ min: 1, max: 65_535 }),
  dup: fc.boolean(),
  retain: fc.boolean(),
  note: fc.string({ maxLength: 150 }),
})

for (const version of [4, 5] as const) {
  test(`whatever the pieces, packets come out as mqtt-packet wrote them, version ${version}`, () => {
    fc.assert(
      fc.property(
        fc.array(publishes, { minLength: 1, maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 }),
        (messages, sizes) => {
          const pingAnswer = Buffer.of(0xd0, 0)
          const bytes = messages.flatMap(({ id, note, dup, ...one }) => {
            const packet = {
              ...one,
              cmd: 'publish',
              messageId: id,
              dup: dup && one.qos === 1,
              properties: { userProperties: { note } },
            }
            return [
              mqttPacket.generate(packet as IPublishPacket, { protocolVersion: version }),
              pingAnswer,
            ]
          })
          const { seen, broken } = split(version, cut(Buffer.concat(bytes), sizes))
          assert.equal(broken, undefined)
          assert.deepEqual(
            seen,
            messages.flatMap((one) => [
              {
                topic: one.topic,
                payload: one.payload.toString('hex'),
                id: one.qos === 1 ? one.id : 0,
                dup: one.dup && one.qos === 1,
                retain: one.retain,
                tooBig: 0,
              },
              'd000',
            ]),
          )
        },
      ),
    )
  })
}

test('a message too big is skipped over, said with its head, and what follows is read', () => {
  const big = (size: number, id: number) =>
    mqttPacket.generate({
      cmd: 'publish',
      topic: 'a/b',
      payload: Buffer.alloc(size, 0x41),
      qos: 1,
      messageId: id,
      dup: false,
      retain: false,
    })
  fc.assert(
    fc.property(
      fc.integer({ min: 1_001, max: 200_000 }),
      fc.integer({ min: 1, max: 70_000 }),
      (size, piece) => {
        const bytes = Buffer.concat([big(5, 1), big(size, 2), big(7, 3)])
        const { seen, broken } = split(4, cut(bytes, [piece]), 1_000)
        assert.equal(broken, undefined)
        assert.deepEqual(
          seen.map((one) => typeof one === 'object' && [one.topic, one.id, one.tooBig]),
          [
            ['a/b', 1, 0],
            ['a/b', 2, size + 7],
            ['a/b', 3, 0],
          ],
        )
      },
    ),
    { numRuns: 30 },
  )
})

test('bytes that are no MQTT end in an error or in nothing, never in a throw or a large buffer', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.integer({ min: 1, max: 20 }),
      (bytes, piece) => {
        const { seen } = split(5, cut(Buffer.from(bytes), [piece]), 10_000)
        assert.ok(seen.length <= bytes.length)
      },
    ),
    { numRuns: 500 },
  )
  // QoS 2, a length of five bytes, a topic longer than its packet, a packet id of 0.
  for (const hex of ['340700016100010000', '30ffffffff7f', '3003000561', '32050001610000'])
    assert.notEqual(split(4, [Buffer.from(hex, 'hex')]).broken, undefined, hex)
})
