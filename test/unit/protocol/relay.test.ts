/** Frames and messages: what encodes decodes to itself, and no bytes make a decoder do anything but refuse. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { isFailure } from '../../../src/errors.ts'
import { gapReasons } from '../../../src/model.ts'
import { decodeFrames, encodeFrames, type RelayFrame } from '../../../src/protocol/relay.ts'
import {
  errorAnswer,
  errorCodes,
  helloAnswer,
  helloRequest,
  segmentsAnswer,
  seriesAnswer,
  seriesRequest,
} from '../../../src/protocol/relay-messages.ts'

const hex32 = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex'))
const lane = fc.integer({ min: 1, max: 511 })
const seq = fc.maxSafeNat()
const timeUs = fc.maxSafeInteger()
const cleaned = (text: string) => text.slice(0, 1024).toWellFormed().replaceAll('\0', '')
const gap = fc.record({
  reason: fc.constantFrom(...gapReasons),
  count: fc.maxSafeNat(),
  source: fc.string({ maxLength: 200, unit: 'grapheme' }).map(cleaned),
  timeUsMin: timeUs,
  timeUsMax: timeUs,
})
const frame: fc.Arbitrary<RelayFrame> = fc.oneof(
  fc.record({
    type: fc.constant('segment' as const),
    replay: fc.boolean(),
    bytes: fc.uint8Array({ maxLength: 300 }).map((bytes) => Uint8Array.from(bytes)),
  }),
  fc
    .tuple(lane, hex32, fc.integer({ min: 1 }), fc.nat(), gap)
    .map(([on, epoch, first, more, lost]) => ({
      type: 'tombstone' as const,
      lane: on,
      epoch,
      seq: first,
      seqLast: first + more,
      gap: lost,
    })),
)
/** -0 and 0 are one number in JSON; plain objects on both sides. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
const tame = (frames: readonly RelayFrame[]) =>
  frames.map((one) =>
    one.type === 'segment' ? { ...one, bytes: Buffer.from(one.bytes).toString('hex') } : plain(one),
  )

test('frames: what encodes decodes to itself', () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 8 }), (frames) => {
      assert.deepEqual(tame(decodeFrames(encodeFrames(frames))), tame(frames))
    }),
  )
})

test('frames: the bytes are those of docs/formats/relay.md', () => {
  const bytes = encodeFrames([
    { type: 'segment', replay: true, bytes: Uint8Array.of(1, 2, 3) },
    {
      type: 'tombstone',
      lane: 3,
      epoch: '0'.repeat(32),
      seq: 7,
      seqLast: 9,
      gap: { reason: 'quota', count: 5, source: '', timeUsMin: 1, timeUsMax: 2 },
    },
  ])
  const text =
    '{"lane":3,"epoch":"00000000000000000000000000000000","seq":7,"seqLast":9,' +
    '"gap":{"reason":"quota","count":5,"source":"","timeUsMin":1,"timeUsMax":2}}'
  const wanted = Buffer.concat([
    Buffer.from('0101000003000000010203', 'hex'),
    Buffer.from('02000000', 'hex'),
    Buffer.from(Uint32Array.of(text.length).buffer),
    Buffer.from(text),
  ])
  assert.deepEqual(Buffer.from(bytes), wanted)
})

const refusesOrReads = (decode: (bytes: Uint8Array) => unknown, bytes: Uint8Array) => {
  try {
    decode(bytes)
  } catch (error) {
    assert.ok(isFailure(error) && error.code.startsWith('HF-P'), String(error))
  }
}

test('frames: cut or changed bytes are refused with a code, or read as other frames', () => {
  const cut = fc.tuple(
    fc.array(frame, { minLength: 1, maxLength: 4 }),
    fc.nat(),
    fc.nat(),
    fc.nat(255),
  )
  fc.assert(
    fc.property(cut, ([frames, length, at, value]) => {
      const bytes = Uint8Array.from(encodeFrames(frames))
      const short = bytes.slice(0, length % bytes.length)
      refusesOrReads(decodeFrames, short)
      bytes[at % bytes.length] = value
      refusesOrReads(decodeFrames, bytes)
    }),
  )
  const header = (type: number, flags: number, zero: number, length: number) => {
    const bytes = Buffer.alloc(8)
    bytes[0] = type
    bytes[1] = flags
    bytes.writeUInt16LE(zero, 2)
    bytes.writeUInt32LE(length, 4)
    return bytes
  }
  const wrong: [Uint8Array, RegExp][] = [
    [header(1, 0, 0, 0xffff_ffff), /cut short inside a payload/],
    [header(1, 0, 1, 0), /reserved/],
    [header(1, 2, 0, 0), /flags/],
    [header(2, 1, 0, 0), /tombstone/],
    [header(3, 0, 0, 0), /unknown type 3/],
    [header(1, 0, 0, 0).subarray(0, 7), /inside a header/],
    [Buffer.concat(Array.from({ length: 1_025 }, () => header(1, 0, 0, 0))), /more than 1024/],
  ]
  for (const [bytes, why] of wrong) assert.throws(() => decodeFrames(bytes), why)
})

const positions = fc.array(
  fc.record({ lane, contiguous: seq, above: fc.array(fc.tuple(seq, seq), { maxLength: 3 }) }),
  { maxLength: 3 },
)
const word = fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }).filter((text) => {
  return text.length <= 200 && text.isWellFormed() && !text.includes('\0')
})
const region = { region: word, timeline: seq }
const formats = fc.array(fc.integer({ min: 1, max: 255 }), { maxLength: 3 })
const messages = [
  [
    helloRequest,
    fc.record({
      spoolId: word,
      epoch: hex32,
      epochs: fc.array(
        fc.record({
          epoch: hex32,
          parent: fc.option(hex32),
          lanes: fc.array(
            fc.record({ lane, base: seq, baseHash: fc.oneof(hex32, fc.constant('')) }),
          ),
        }),
        { minLength: 1, maxLength: 4 },
      ),
      lanes: fc.array(fc.record({ lane, name: word, acked: seq, floor: seq }), { maxLength: 4 }),
      lastRegion: fc.oneof(word, fc.constant('')),
      formats,
    }),
  ],
  [helloAnswer, fc.record({ ...region, formats, lanes: positions })],
  [
    seriesRequest,
    fc.record({
      epoch: hex32,
      first: fc.nat(),
      entries: fc.array(
        fc.record({
          id: fc.bigInt({ min: 0n, max: (1n << 63n) - 1n }),
          name: word,
          tags: fc.array(fc.tuple(word, word), { maxLength: 3 }),
          unit: fc.oneof(word, fc.constant('')),
        }),
        { maxLength: 4 },
      ),
    }),
  ],
  [seriesAnswer, fc.record({ epoch: hex32, known: fc.nat() })],
  [
    segmentsAnswer,
    fc.record({
      ...region,
      results: fc.array(
        fc.record({
          lane,
          epoch: hex32,
          seq,
          seqLast: seq,
          digest: fc.oneof(hex32, fc.constant('')),
          status: fc.constantFrom('committed' as const, 'duplicate' as const),
        }),
        { maxLength: 4 },
      ),
      lanes: positions,
    }),
  ],
  [
    errorAnswer,
    fc.record({
      error: fc.record(
        {
          code: fc.constantFrom(...errorCodes),
          text: fc.string({ maxLength: 50 }),
          hint: word,
          epoch: hex32,
          first: fc.nat(),
          frame: fc.nat(),
          lane,
          seq,
          bytesMax: seq,
          afterMs: seq,
        },
        { requiredKeys: ['code', 'text'] },
      ),
    }),
  ],
] as const
const show = (value: unknown) =>
  JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one))

const jsonOf = (bytes: Uint8Array) =>
  Buffer.from(bytes[0] === 0x28 ? zstdDecompressSync(bytes) : bytes).toString()
for (const [at, [message, values]] of messages.entries()) {
  const { encode, decode } = message as {
    encode: (value: unknown) => Uint8Array
    decode: (bytes: Uint8Array) => unknown
  }
  test(`message ${at}: what encodes decodes to itself; unknown fields are dropped`, () => {
    fc.assert(
      fc.property(values as fc.Arbitrary<object>, (value) => {
        assert.equal(show(decode(encode(value))), show(value))
        const more = { ...(JSON.parse(jsonOf(encode(value))) as object), more: 1 }
        assert.equal(show(decode(Buffer.from(JSON.stringify(more)))), show(value))
      }),
      { numRuns: 50 },
    )
  })
  test(`message ${at}: foreign and damaged bytes are refused with a code`, () => {
    fc.assert(
      fc.property(
        values as fc.Arbitrary<object>,
        fc.nat(),
        fc.nat(255),
        fc.json(),
        (value, place, byte, json) => {
          const bytes = Uint8Array.from(encode(value))
          bytes[place % bytes.length] = byte
          refusesOrReads(decode, bytes)
          refusesOrReads(decode, bytes.slice(0, place % bytes.length))
          refusesOrReads(decode, Buffer.from(json))
        },
      ),
      { numRuns: 50 },
    )
    refusesOrReads(decode, Buffer.from(`${'['.repeat(100_000)}`))
    refusesOrReads(decode, Buffer.from('{"__proto__":{"x":1},"error":null}'))
    refusesOrReads(decode, Uint8Array.of(0xff, 0xfe))
  })
}

test('series: no 64-bit id, no NUL, no half surrogate gets in', () => {
  const body = (entry: object) =>
    Buffer.from(
      JSON.stringify({
        epoch: '0'.repeat(32),
        first: 0,
        entries: [{ id: '1', name: 'a', tags: [], unit: '', ...entry }],
      }),
    )
  assert.equal(seriesRequest.decode(body({})).entries[0]?.id, 1n)
  assert.throws(() => seriesRequest.decode(body({ id: String(1n << 63n) })))
  assert.throws(() => seriesRequest.decode(body({ id: '-1' })))
  assert.throws(() => seriesRequest.decode(body({ id: 1 })))
  assert.throws(() => seriesRequest.decode(body({ name: '' })))
  assert.throws(() => seriesRequest.decode(body({ name: 'a\0b' })))
  assert.throws(() => seriesRequest.decode(body({ name: '\ud800' })))
  assert.throws(() => seriesRequest.decode(body({ tags: [['a', '']] })))
})

test('series travel compressed: a tenth of their JSON, and no frame makes more of itself than a message may be', () => {
  const statistics = ['count', 'good_count', 'min', 'max', 'sum', 'first', 'last', 'rev']
  const entries = Array.from({ length: 2_000 }, (_, at) => ({
    id: (BigInt(at) * 0x9e37_79b9_7f4a_7c15n) & ((1n << 63n) - 1n),
    name: `plant.pump-${at >> 6}.${statistics[(at >> 3) & 7]}`,
    tags: [['@every', '60000000'] as const, ['@statistic', statistics[at & 7] as string] as const],
    unit: '',
  }))
  const request = { epoch: '0'.repeat(32), first: 0, entries }
  const bytes = seriesRequest.encode(request)
  const json = zstdDecompressSync(bytes)
  assert.ok(bytes.length * 7 < json.length, `${bytes.length} of ${json.length}`)
  assert.deepEqual(seriesRequest.decode(bytes), request)
  assert.deepEqual(seriesRequest.decode(json), request, 'plain as well')
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024, 0x20))
  assert.throws(() => seriesRequest.decode(bomb), { code: 'HF-P002' })
  assert.throws(() => seriesRequest.decode(bytes.subarray(0, 1_000)), { code: 'HF-P002' })
  assert.throws(() => helloRequest.decode(bytes), { code: 'HF-P002' }, 'series alone')
})
