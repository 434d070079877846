/**
 * Prometheus remote write 1.0: series as labels, and a WriteRequest as protobuf; pure.
 * (prompb: WriteRequest.timeseries = 1; TimeSeries.labels = 1, .samples = 2; Label.name = 1, .value = 2;
 * Sample.value = 1 (double), .timestamp = 2 (int64 ms).)
 *
 * Invariants: labels are valid, not empty, unique and sorted, because a receiver skips a bad series and still answers
 * 2xx; two series of one agent never share labels, nor those of two agents; every bit of a float travels, except that
 * the pattern which means "stale" there becomes another NaN.
 */
import type { SeriesKey } from '../model.ts'

export type Labels = readonly (readonly [string, string])[]

const nameOf = (text: string) => text.replace(/[^a-zA-Z0-9_:]/g, '_').replace(/^(?=[0-9])/, '_')
/** A tag of the plant's own that is called `agent` makes room for the agent's, as Prometheus does with its own. */
const labelOf = (text: string) => {
  const label = text.replace(/[^a-zA-Z0-9_]/g, '_').replace(/^(?=[0-9])/, '_')
  return label === 'agent' ? 'exported_agent' : label
}

/**
 * `boiler.temperature` of agent gw-1 → `boiler_temperature{agent="gw-1", holdfast_series="boiler.temperature", …}`.
 * Undefined when two of its labels would have one name.
 */
export const labelsOf = (agent: string, { name, tags }: SeriesKey): Labels | undefined => {
  const altered = tags.map(([key]) => key).filter((key) => labelOf(key) !== key)
  // What the spelling loses is said here, so that two series stay two.
  const series = altered.length === 0 ? name : `${name} ${JSON.stringify(altered)}`
  const all = new Map([
    ['__name__', nameOf(name)],
    ['agent', agent],
    ['holdfast_series', series],
  ])
  for (const [key, value] of tags) {
    const label = labelOf(key)
    if (all.has(label) || label.startsWith('__')) return undefined
    all.set(label, value)
  }
  return [...all].sort(([one], [other]) => (one < other ? -1 : 1))
}
/** `{__name__="a",x="y"}`, for a query. */
export const selectorOf = (labels: Labels): string =>
  `{${labels.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(',')}}`

export interface Sample {
  /** Same object for all samples of a series. */
  readonly labels: Labels
  readonly ms: number
  readonly value: number
}
const staleMarker = 0x7ff0000000000002n
const normalNaN = 0x7ff8000000000001n

const varintBytes = (value: number): number => {
  let bytes = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++
  return bytes
}
/** A growing buffer would cost more than counting first. */
const sampleBytes = (ms: number) => 9 + (ms < 0 ? 11 : ms === 0 ? 0 : 1 + varintBytes(ms))

const createWriter = (bytes: number) => {
  const out = Buffer.alloc(bytes)
  let at = 0
  const varint = (value: number) => {
    let rest = value
    for (; rest >= 128; rest = Math.floor(rest / 128)) out[at++] = (rest % 128) | 128
    out[at++] = rest
  }
  return {
    out,
    varint,
    tag: (field: number, wire: number) => varint(field * 8 + wire),
    text: (value: Uint8Array) => {
      varint(value.length)
      out.set(value, at)
      at += value.length
    },
    double: (value: number) => {
      out.writeDoubleLE(value, at)
      if (Number.isNaN(value) && out.readBigUInt64LE(at) === staleMarker)
        out.writeBigUInt64LE(normalNaN, at)
      at += 8
    },
    /** Negative ones take ten bytes. */
    int64: (value: number) => {
      if (value >= 0) return varint(value)
      let rest = BigInt.asUintN(64, BigInt(value))
      for (; rest >= 128n; rest >>= 7n) out[at++] = Number(rest & 127n) | 128
      out[at++] = Number(rest)
    },
  }
}

interface Run {
  readonly labels: readonly { readonly name: Uint8Array; readonly value: Uint8Array }[]
  readonly samples: Sample[]
  bytes: number
}
const labelBytes = ({ name, value }: Run['labels'][number]) =>
  2 + varintBytes(name.length) + name.length + varintBytes(value.length) + value.length

/** Samples of one series stand together, in the order they are given. */
export const encodeWriteRequest = (samples: readonly Sample[]): Uint8Array => {
  const runs: Run[] = []
  let known: Labels | undefined
  for (const sample of samples) {
    if (sample.labels !== known) {
      known = sample.labels
      const labels = known.map(([name, value]) => ({
        name: Buffer.from(name, 'utf8'),
        value: Buffer.from(value, 'utf8'),
      }))
      const bytes = labels.reduce((sum, one) => {
        const length = labelBytes(one)
        return sum + 1 + varintBytes(length) + length
      }, 0)
      runs.push({ labels, samples: [], bytes })
    }
    const run = runs.at(-1) as Run
    run.samples.push(sample)
    const length = sampleBytes(sample.ms)
    run.bytes += 1 + varintBytes(length) + length
  }
  const total = runs.reduce((sum, { bytes }) => sum + 1 + varintBytes(bytes) + bytes, 0)
  const writer = createWriter(total)
  for (const run of runs) {
    writer.tag(1, 2)
    writer.varint(run.bytes)
    for (const label of run.labels) {
      writer.tag(1, 2)
      writer.varint(labelBytes(label))
      writer.tag(1, 2)
      writer.text(label.name)
      writer.tag(2, 2)
      writer.text(label.value)
    }
    for (const { ms, value } of run.samples) {
      writer.tag(2, 2)
      writer.varint(sampleBytes(ms))
      writer.tag(1, 1)
      writer.double(value)
      if (ms === 0) continue
      writer.tag(2, 0)
      writer.int64(ms)
    }
  }
  return writer.out
}
