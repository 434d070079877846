import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { snappyCompress } from '../../../src/codec/snappy.ts'

/** A reader of its own, from google/snappy's format_description.txt. */
const decompress = (input: Uint8Array): Uint8Array => {
  let at = 0
  const byte = () => input[at++] as number
  let [length, shift] = [0, 0]
  for (let more = true; more; shift += 7) {
    const one = byte()
    length += (one & 127) * 2 ** shift
    more = one >= 128
  }
  const out: number[] = []
  while (at < input.length) {
    const tag = byte()
    if ((tag & 3) === 0) {
      let count = tag >> 2
      if (count >= 60) {
        const bytes = count - 59
        count = 0
        for (let nth = 0; nth < bytes; nth++) count += byte() * 256 ** nth
      }
      for (let nth = 0; nth <= count; nth++) out.push(byte())
    } else {
      assert.equal(tag & 3, 2)
      const offset = byte() + byte() * 256
      assert.ok(offset > 0 && offset <= out.length, `offset ${offset} at ${out.length}`)
      for (let nth = 0; nth <= tag >> 2; nth++) out.push(out[out.length - offset] as number)
    }
  }
  assert.equal(out.length, length)
  return Uint8Array.from(out)
}
const holds = (bytes: Uint8Array) => {
  const packed = snappyCompress(bytes)
  assert.deepEqual(decompress(packed), bytes)
  return packed
}

test('what is compressed reads back the same', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => void holds(bytes)))
  const few = fc.array(fc.constantFrom(0, 1, 7), { maxLength: 2_000 })
  fc.assert(fc.property(few, (bytes) => void holds(Uint8Array.from(bytes))))
})
test('over several blocks, of noise and of sameness', () => {
  const noise = Uint8Array.from(
    { length: 200_000 },
    (_, at) => (Math.imul(at, 2_654_435_761) >>> 13) & 255,
  )
  assert.ok(holds(noise).length < noise.length * 1.02 + 16)
  assert.ok(holds(new Uint8Array(200_000)).length < 10_000)
  holds(new Uint8Array(Buffer.concat([noise.subarray(0, 65_535), new Uint8Array(70_000), noise])))
})
