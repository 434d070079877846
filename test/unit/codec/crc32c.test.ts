import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c } from '../../../src/codec/crc32c.ts'

/** RFC 3720, appendix B.4. */
test('the known checksums of iSCSI', () => {
  const known: [Uint8Array, number][] = [
    [new Uint8Array(32), 0x8a91_36aa],
    [new Uint8Array(32).fill(0xff), 0x62a8_ab43],
    [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd_794e],
    [Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113f_db5c],
    [Buffer.from('123456789'), 0xe306_9283],
    [new Uint8Array(0), 0],
  ]
  for (const [bytes, crc] of known) assert.equal(crc32c(bytes), crc)
})
test('any bytes: as bit by bit from the polynomial, whole or in two parts, at any offset', () => {
  const plain = (bytes: Uint8Array): number => {
    let crc = -1
    for (const byte of bytes) {
      crc ^= byte
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1
    }
    return ~crc >>> 0
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), fc.nat(7), (bytes, cut, shift) => {
      const moved = new Uint8Array(bytes.length + shift)
      moved.set(bytes, shift)
      const crc = plain(bytes)
      assert.equal(crc32c(moved.subarray(shift)), crc)
      assert.equal(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), crc)
    }),
  )
})
