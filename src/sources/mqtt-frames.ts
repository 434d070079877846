/**
 * MQTT bytes -> packets, as far as a subscriber's receive path needs it: PUBLISH is read here, the rest passes whole.
 *
 * Invariants: a packet inside one piece of input is never copied; memory is bounded by one packet of `bodyBytesMax`;
 * a PUBLISH beyond that is skipped over, and said with its head (topic, packet id, a sample); bytes that are no MQTT
 * give an error text once, after which nothing more is read.
 */

export interface Publish {
  readonly buffer: Buffer
  readonly topicStart: number
  readonly topicEnd: number
  readonly payloadStart: number
  readonly payloadEnd: number
  /** 0 with QoS 0. */
  readonly packetId: number
  readonly dup: boolean
  readonly retain: boolean
  /** Bytes of the whole body where the payload was skipped: `payloadEnd` is then the end of the sample. */
  readonly tooBigBytes: number
}
type Writable<T> = { -readonly [key in keyof T]: T[key] }

export interface FrameHandler {
  /** The view and its buffer are good for the length of the call. */
  readonly publish: (publish: Publish) => void
  /** A whole packet of any other type; good for the length of the call. */
  readonly other: (packet: Buffer) => void
}
export interface FrameSplitter {
  /** An error's text when the bytes are no MQTT. */
  readonly push: (input: Buffer) => string | undefined
}

const publishType = 3
/** The longest head of a PUBLISH before its properties: topic and packet id. */
const headBytesMax = 2 + 65_535 + 2
const otherBytesMax = 1 << 20

/** A variable byte integer at `at` as value * 8 + its bytes + 1; 1 when it is cut, 0 when it is none. */
const readLength = (buffer: Buffer, at: number, end: number): number => {
  let value = 0
  for (let bytes = 1; bytes <= 4; bytes++, at++) {
    if (at >= end) return 1
    const byte = buffer[at] as number
    value += (byte & 127) * 128 ** (bytes - 1)
    if (byte < 128) return value * 8 + bytes + 1
  }
  return 0
}

export const createFrameSplitter = (
  version: 4 | 5,
  bodyBytesMax: number,
  sampleBytes: number,
  handler: FrameHandler,
): FrameSplitter => {
  const view: Writable<Publish> = {
    buffer: Buffer.alloc(0),
    topicStart: 0,
    topicEnd: 0,
    payloadStart: 0,
    payloadEnd: 0,
    packetId: 0,
    dup: false,
    retain: false,
    tooBigBytes: 0,
  }
  const header = Buffer.alloc(5)
  let headerLength = 0
  /** A packet that began in an earlier piece, or the head of one too big. */
  let partial: Buffer | undefined
  let filled = 0
  let bodyStart = 0
  /** Bytes of a packet too big that are still to be skipped, once its head is full. */
  let skip = 0
  let tooBigBytes = 0
  let broken: string | undefined

  const readPublish = (buffer: Buffer, first: number, start: number, end: number): boolean => {
    const qos = (first >> 1) & 3
    if (qos > 1 || end - start < 2) return false
    const topicEnd = start + 2 + (((buffer[start] as number) << 8) | (buffer[start + 1] as number))
    let at = topicEnd + qos * 2
    if (at > end || topicEnd === start + 2) return false
    view.packetId = qos === 0 ? 0 : ((buffer[at - 2] as number) << 8) | (buffer[at - 1] as number)
    if (qos === 1 && view.packetId === 0) return false
    if (version === 5 && tooBigBytes === 0) {
      const length = readLength(buffer, at, end)
      if (length < 2) return false
      at += (length & 7) - 1 + Math.floor(length / 8)
      if (at > end) return false
    }
    view.buffer = buffer
    view.topicStart = start + 2
    view.topicEnd = topicEnd
    view.payloadStart = at
    view.payloadEnd = end
    view.dup = (first & 8) !== 0
    view.retain = (first & 1) !== 0
    view.tooBigBytes = tooBigBytes
    return true
  }
  const whole = (buffer: Buffer, start: number, body: number, end: number) => {
    const first = buffer[start] as number
    if (first >> 4 !== publishType) handler.other(buffer.subarray(start, end))
    else if (readPublish(buffer, first, body, end)) handler.publish(view)
    else broken = 'a PUBLISH that cannot be read (or of QoS 2, which was not asked for)'
  }
  /** The header is known: `length` bytes of body follow at `body` of `input`. Answers where to go on. */
  const begin = (input: Buffer, start: number, body: number, length: number): number => {
    const isPublish = (input[start] as number) >> 4 === publishType
    const end = body + length
    if (length > (isPublish ? bodyBytesMax : otherBytesMax)) {
      if (!isPublish) broken = `a packet of ${length} bytes`
      tooBigBytes = length
    } else if (end <= input.length) {
      whole(input, start, body, end)
      return end
    }
    const kept = tooBigBytes > 0 ? Math.min(length, headBytesMax + sampleBytes) : length
    skip = length - kept
    bodyStart = body - start
    partial = Buffer.allocUnsafe(bodyStart + kept)
    filled = input.copy(partial, 0, start, Math.min(input.length, body + kept))
    if (filled === partial.length && skip === 0) finish()
    return start + filled
  }
  const finish = () => {
    const packet = partial as Buffer
    partial = undefined
    whole(packet, 0, bodyStart, packet.length)
    tooBigBytes = 0
  }
  /** The header was cut by the end of a piece: go on byte by byte. */
  const beginFromHeader = (input: Buffer, from: number): number => {
    let at = from
    while (at < input.length && broken === undefined) {
      header[headerLength++] = input[at++] as number
      const length = readLength(header, 1, headerLength)
      if (length === 0) broken = 'a length that cannot be read'
      if (length < 2) continue
      const size = headerLength
      headerLength = 0
      // Now as if header and the rest were one piece; the copy is at most one packet's beginning.
      begin(header.subarray(0, size), 0, size, Math.floor(length / 8))
      break
    }
    return at
  }
  const fill = (input: Buffer, at: number): number => {
    const target = partial as Buffer
    if (filled < target.length) {
      const taken = input.copy(target, filled, at)
      filled += taken
      at += taken
    } else {
      const taken = Math.min(skip, input.length - at)
      skip -= taken
      at += taken
    }
    if (filled === target.length && skip === 0) finish()
    return at
  }
  return {
    push: (input) => {
      let at = 0
      while (at < input.length && broken === undefined) {
        if (partial) at = fill(input, at)
        else if (headerLength > 0) at = beginFromHeader(input, at)
        else {
          const length = readLength(input, at + 1, input.length)
          if (length === 0) broken = 'a length that cannot be read'
          else if (length === 1) {
            headerLength = input.copy(header, 0, at)
            at = input.length
          } else at = begin(input, at, at + (length & 7), Math.floor(length / 8))
        }
      }
      return broken
    },
  }
}
