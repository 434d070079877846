/**
 * The strings of a segment, each once: UTF-8, or UTF-16 where a lone surrogate has no UTF-8.
 * Invariant: any JavaScript string comes back code unit for code unit.
 */
import { Failure } from '../errors.ts'
import { segmentTextBytesMax } from '../limits.ts'
import { type Cursor, malformed, putVarint, reserve, type Sink, takeVarint } from './streams.ts'

/** Each text: varint 2 · bytes + (1 where UTF-16 little-endian), then the bytes. */
export const putText = (texts: Sink, text: string): void => {
  const encoding = text.isWellFormed() ? 'utf8' : 'utf16le'
  const size = Buffer.byteLength(text, encoding)
  if (texts.length + size > segmentTextBytesMax) {
    throw new Failure(
      'HF-K005',
      'segment has too many bytes of text',
      'Seal fewer points at a time.',
    )
  }
  putVarint(texts, size * 2 + (encoding === 'utf8' ? 0 : 1))
  reserve(texts, size)
  Buffer.from(texts.bytes.buffer).write(text, texts.length, encoding)
  texts.length += size
}

/** At most `most` texts: no more than there are points. */
export const takeTexts = (from: Cursor, most: number): string[] => {
  const texts: string[] = []
  const view = Buffer.from(from.bytes.buffer, from.bytes.byteOffset, from.bytes.length)
  while (from.at < view.length) {
    if (texts.length === most) throw malformed('more texts than points')
    const head = takeVarint(from)
    const size = Math.floor(head / 2)
    if (from.at + size > view.length) throw malformed('a text ends early')
    texts.push(view.toString(head % 2 === 0 ? 'utf8' : 'utf16le', from.at, from.at + size))
    from.at += size
  }
  return texts
}
