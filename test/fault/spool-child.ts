/**
 * A spool behind its worker, in a process of its own: `write PATH POLICY BYTES_MAX` appends counting
 * points for ever and
 * says `acked N` after each commit; `read PATH` prints what the spool answers, as JSON.
 */
import { rmSync } from 'node:fs'
import { createBatchBuilder } from '../../src/batch.ts'
import { openSegment } from '../../src/codec/segment.ts'
import { isFailure } from '../../src/errors.ts'
import { createSystemHost } from '../../src/host.ts'
import { openSpoolWorker } from '../../src/spool/client.ts'
import { spoolWorkerUrl } from '../support/spool-worker.ts'
import { laneOptions, newSeries, spoolOptions } from '../unit/spool/support.ts'

const [mode = '', path = '', policy = 'block', bytesMax = '1000000000'] = process.argv.slice(2)
const say = (text: string) => process.stdout.write(`${text}\n`)
const series = newSeries()
const host = createSystemHost()
const lanes = [
  laneOptions('raw', {
    segmentPointsMax: 2_000,
    maxDelayMs: 200,
    policy: policy === 'drop_oldest' ? policy : 'block',
  }),
]

const open = () =>
  openSpoolWorker({
    workerUrl: spoolWorkerUrl,
    path,
    spool: spoolOptions({ lanes, bytesMax: Number(bytesMax) }),
    ingest: { commitWindowMs: 10, lanes },
    host,
    series,
    onFatal: (failure) => {
      say(`fatal ${failure.code}`)
      process.exit(74)
    },
  })

/** Values count up; times are noise, so that nothing compresses and a disk fills. */
const batchFrom = (first: number, count: number) => {
  const builder = createBatchBuilder(count)
  const ref = series.ref('s', [])
  for (let at = first; at < first + count; at++) {
    const noise = (Math.imul(at, 2_654_435_761) >>> 0) * 4_096 + (Math.imul(at, 40_503) & 4_095)
    builder.addInt(ref, noise, (BigInt(noise) << 24n) | BigInt(at), 0)
  }
  return builder.take()
}
const pointsABatch = Number(process.env.BATCH ?? 500)

const write = async () => {
  const spool = await open()
  let beats = 0
  const beat = setInterval(() => {
    beats++
    if (spool.blocked()) say('blocked')
  }, 20)
  process.on('SIGUSR2', () => rmSync(process.env.FILLER ?? '', { force: true }))
  process.on('SIGTERM', () => {
    clearInterval(beat)
    void spool[Symbol.asyncDispose]().then(() => process.exit(0))
  })
  say('ready')
  for (let next = 1; ; next += pointsABatch) {
    const before = beats
    await spool.append('raw', { points: batchFrom(next, pointsABatch) })
    say(`acked ${next + pointsABatch - 1} beats ${beats - before}`)
  }
}

const read = async () => {
  const spool = await open()
  await spool.seal('raw')
  const seen = new Set<number>()
  let points = 0
  let lost = 0
  for (let after = 0; ; ) {
    const items = await spool.read('raw', after, 1_000_000)
    if (items.length === 0) break
    for (const item of items) {
      after = item.type === 'segment' ? item.seq : item.seqLast
      if (item.type === 'tombstone') {
        lost += item.gap.count
        continue
      }
      const batch = openSegment(item.bytes).points
      points += batch.count
      for (const bits of batch.bits) seen.add(Number(bits & 0xffffffn))
    }
  }
  const [lane] = await spool.lanes()
  let last = 0
  for (const one of seen) last = Math.max(last, one)
  say(JSON.stringify({ points, lost, distinct: seen.size, last, accepted: lane?.accepted }))
  await spool[Symbol.asyncDispose]()
}

try {
  await (mode === 'write' ? write() : read())
} catch (error) {
  say(`failed ${isFailure(error) ? error.code : String(error)}`)
  // A fatal failure ends the process itself, with 74.
  setTimeout(() => process.exit(1), 500)
}
