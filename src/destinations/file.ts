/**
 * `type: file`: points as files that somebody carries over an air gap. Config, order of writes, rotation;
 * `file-folder.ts` keeps the files and the books.
 *
 * Invariants: `stored` means fsynced; one batch is written at a time; a seq that is in the books is not written again,
 * unless it is replayed on purpose; trouble with the folder waits for a person and drops nothing.
 */
import { open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Block } from '../codec/points-file.ts'
import { openSegment } from '../codec/segment.ts'
import { deniedBy, isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { Destination, LaneItem, Outcome, Rejection, Segment, SendBatch } from '../model.ts'
import { duration, size } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { type Folder, openFolder } from './file-folder.ts'
import { compressions } from './file-index.ts'
import {
  type BlockContext,
  gapBlock,
  type SeriesStart,
  segmentBlocks,
  writers,
} from './file-lines.ts'
import { folderTrouble, tooLittleFree } from './file-outcome.ts'
import { createLosses, createLossTeller, type Losses } from './influx-losses.ts'
import { type LinkStep, timed, unwell, well } from './link.ts'
import { later } from './relay-outcome.ts'
import { createSeriesCache } from './series-cache.ts'

const KiB = 1024
/** Segments of one send: about 100,000 points, 10 MB of text. */
const segmentBytesOfSend = 128 * KiB
/** Lines of text beside the segments they come from, about. */
const textBytesPerByte = 80

const fileConfig = z.strictObject({
  type: z.literal('file'),
  output_dir: z.string().min(1).describe('An existing folder; it is never made by the agent'),
  format: z
    .enum(['ndjson', 'lines'])
    .default('ndjson')
    .describe('ndjson holds everything; lines (line protocol) what InfluxDB can read'),
  compression: z.enum(compressions).default('zstd').describe('Of finished files'),
  file_max: size()
    .prefault('64MiB')
    // What a crash leaves open is read back in one piece.
    .pipe(
      z
        .number()
        .min(64 * KiB)
        .max(256 * KiB * KiB),
    )
    .describe('A file is finished at this size, before compression'),
  file_age: duration()
    .prefault('1h')
    .pipe(z.number().min(1_000))
    .describe('… or when its first point has been in it for so long'),
  disk_free_min: size().prefault('256MiB').describe('Nothing is written while less is free'),
})
type FileConfig = z.output<typeof fileConfig>

/** Of one send. */
interface Writing {
  readonly rejected: Rejection[]
  readonly losses: Losses
  /** Why the rest of the batch is not written; whole seqs before it are. */
  setback?: Outcome
}
const lastSeqOf = (item: LaneItem) => (item.type === 'segment' ? item.seq : item.seqLast)

const create = (deps: DestinationDeps, config: FileConfig): Destination => {
  const { host, name, agent } = deps
  const { output_dir: path, format, compression } = config
  const series = createSeriesCache(
    deps.spool,
    () =>
      (entry): SeriesStart => ({ name: entry.name, start: writers[format].start(entry) }),
  )
  const tell = createLossTeller(host, name)
  let bytesWritten = 0
  const onWritten = (bytes: number) => {
    bytesWritten += bytes
  }
  const names = { agent, destination: name, format, compression, onWritten }
  let folder: Folder | undefined
  /** Goes on when the folder is opened again, so that no name of this run is given twice. */
  let numberLast = 0
  let overdue = false
  let cancelAge: (() => void) | undefined
  let tail: Promise<unknown> = Promise.resolve()

  /** One after another. */
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const next = tail.then(work)
    tail = next.catch(() => undefined)
    return next
  }
  const finish = async (one: Folder) => {
    cancelAge?.()
    cancelAge = undefined
    await one.finish()
  }
  /** A file that cannot be finished now is finished before the next write. */
  const finishSoon = async () => {
    try {
      if (folder !== undefined) await finish(folder)
    } catch (error) {
      host.log.warn('file_not_finished', {
        code: folderTrouble(error, path).code,
        error: textOf(error),
      })
      overdue = true
    }
  }
  async function* blocksOf(
    batch: SendBatch,
    open: Folder,
    writing: Writing,
    signal: AbortSignal,
  ): AsyncGenerator<Block> {
    const context = { format, agent, batch }
    for (const item of batch.items) {
      if (signal.aborted) writing.setback = later('given up')
      if (writing.setback !== undefined) return
      const known = !batch.replay && open.has(batch.laneId, item.epoch, item.seq, lastSeqOf(item))
      // NDJSON loses nothing; what line protocol could not say is lost in this ack too.
      if (known && (item.type === 'tombstone' || format === 'ndjson')) continue
      if (item.type === 'tombstone') yield gapBlock(context, item)
      else
        for await (const block of blocksOfSegment(context, item, writing)) if (!known) yield block
    }
  }
  async function* blocksOfSegment(
    context: BlockContext,
    segment: Segment,
    writing: Writing,
  ): AsyncGenerator<Block> {
    try {
      const { header, points } = openSegment(segment.bytes)
      const known = await series.of(header.epoch, header.dictionaryLength)
      const leaveOut = (why: 'name' | 'value', at: number, from: string) => {
        const text = `line protocol cannot say this ${why}`
        const place = { seq: segment.seq, at, series: from, timeUs: points.timeUs[at] as number }
        writing.losses.add({ why, text, ...place })
      }
      if (known !== undefined) yield* segmentBlocks(context, segment, points, known, leaveOut)
      else writing.setback = later(`the spool does not hold the series of epoch ${header.epoch}`)
    } catch (error) {
      if (!isFailure(error) || !error.code.startsWith('HF-K')) throw error
      writing.rejected.push({ seq: segment.seq, text: textOf(error) })
    }
  }
  const write = async (batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
    const { bavail, bsize } = await statfs(path)
    if (bavail * bsize < config.disk_free_min)
      return tooLittleFree(path, bavail * bsize, config.disk_free_min)
    folder ??= await openFolder({ ...names, folder: path, numberAfter: numberLast })
    if (overdue) await finish(folder)
    overdue = false
    const writing: Writing = { rejected: [], losses: createLosses() }
    await folder.append(blocksOf(batch, folder, writing, signal))
    numberLast = folder.numberLast()
    if (folder.openBytes() >= config.file_max) await finishSoon()
    else if (folder.openBytes() > 0)
      cancelAge ??= host.clock.after(config.file_age, () => void alone(finishSoon))
    const { setback, rejected, losses } = writing
    if (setback !== undefined || rejected.length > 0) return setback ?? { kind: 'stored', rejected }
    tell(batch.lane, losses)
    const lost = losses.lost()
    return { kind: 'stored', rejected, ...(lost.length === 0 ? {} : { lost }) }
  }
  const send = async (batch: SendBatch, signal: AbortSignal): Promise<Outcome> => {
    if (signal.aborted) return later('given up')
    try {
      return await write(batch, signal)
    } catch (error) {
      // The medium may be another one by then: look at all of it again.
      const old = folder
      folder = undefined
      await old?.letGo().catch(() => undefined)
      return folderTrouble(error, path)
    }
  }
  return {
    name,
    type: 'file',
    bodyBytesMax: segmentBytesOfSend,
    bytesSent: () => bytesWritten,
    wireBytesPerByte: textBytesPerByte,
    // Who imports the files takes what comes later for the correction.
    inOrder: true,
    standing: async () => ({ kind: 'unknown' }),
    send: (batch, signal) =>
      untilAborted(
        alone(() => send(batch, signal)),
        signal,
      ),
    [Symbol.asyncDispose]: () =>
      alone(async () => {
        await finishSoon()
        await folder?.letGo()
        folder = undefined
      }),
  }
}

/** A disk that hangs must not hold the agent: what it writes in the end is recognised when it is sent again. */
const untilAborted = async (work: Promise<Outcome>, signal: AbortSignal): Promise<Outcome> => {
  const gone = Promise.withResolvers<Outcome>()
  const giveUp = () => gone.resolve(later('given up'))
  if (signal.aborted) giveUp()
  signal.addEventListener('abort', giveUp, { once: true })
  try {
    return await Promise.race([work, gone.promise])
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}

/** A file of its own, flushed and removed. */
const tryOut = async (config: FileConfig, host: Host): Promise<readonly LinkStep[]> => {
  const { output_dir: folder } = config
  const path = join(folder, `.holdfast-test-${Buffer.from(host.randomBytes(6)).toString('hex')}`)
  const write = await timed(host, 'write', async () => {
    try {
      const { bavail, bsize } = await statfs(folder)
      const free = bavail * bsize
      if (free < config.disk_free_min) {
        const { code, text, hint } = tooLittleFree(folder, free, config.disk_free_min)
        return unwell(code, text, hint)
      }
      await using file = await open(path, 'wx', 0o640)
      await file.appendFile('holdfast\n')
      await file.sync()
      return well(`written and flushed in ${folder}, ${Math.round(free / 1e6)} MB free`)
    } catch (error) {
      const { code, text, hint } = folderTrouble(error, folder)
      return { ...unwell(code, text, hint), ...deniedBy(error) }
    } finally {
      await rm(path, { force: true }).catch(() => undefined)
    }
  })
  return [write]
}

export const fileDestination = defineDestination({
  type: 'file',
  config: fileConfig,
  create,
  tryOut,
})
