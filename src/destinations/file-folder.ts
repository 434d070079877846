/**
 * A folder of points files: one open part, finished files beside it, and their index.
 *
 * Invariants: what `append` resolved is fsynced; a part left by a crash is read back block by block, a seq that
 * is not all there is cut off, and the rest becomes a finished file; a finished file appears under its name by one
 * rename, whole and fsynced, and then in the index; a seq is in the books exactly when its lines are in a file.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip, createZstdCompress } from 'node:zlib'
import {
  type Block,
  type BlockHeader,
  encodeBlock,
  type PointsFormat,
  readBlock,
} from '../codec/points-file.ts'
import { createSeqRanges, type SeqRanges } from '../codec/seq-ranges.ts'
import { isFailure } from '../errors.ts'
import type { EpochId, LaneId, Seq } from '../model.ts'
import { appendIndex, type Compression, type IndexLine, readIndex } from './file-index.ts'

export interface FolderOptions {
  readonly folder: string
  readonly agent: string
  readonly destination: string
  readonly format: PointsFormat
  readonly compression: Compression
  /** Files are numbered from beyond this, and from beyond those of the index. */
  readonly numberAfter: number
  /** So many bytes of blocks were written. */
  readonly onWritten: (bytes: number) => void
}
export interface Folder {
  readonly has: (lane: LaneId, epoch: EpochId, first: Seq, last: Seq) => boolean
  /** Whole seqs, in their blocks; durable when it resolves. After a rejection: let go, and open the folder again. */
  readonly append: (blocks: AsyncIterable<Block>) => Promise<void>
  readonly openBytes: () => number
  /** Makes a finished file of what is open, if anything is. */
  readonly finish: () => Promise<void>
  readonly numberLast: () => number
  /** Closes what is open as it is; the next one to open the folder finishes it. */
  readonly letGo: () => Promise<void>
}

const extensions = { none: '', gzip: '.gz', zstd: '.zst' } as const

/** A rename or a new name is durable only with its folder. */
const syncFolder = async (folder: string): Promise<void> => {
  await using handle = await open(folder, 'r')
  await handle.sync()
}
const keyOf = (lane: LaneId, epoch: EpochId) => `${lane}/${epoch}`

/** What a part or a file holds, gathered block by block. */
const createSummary = () => {
  const lanes = new Map<string, { lane: string; laneId: LaneId; epoch: EpochId; seqs: SeqRanges }>()
  const sum = { points: 0, left_out: 0, gaps: 0, time_us_min: 0, time_us_max: 0 }
  let timed = false
  return {
    add: (one: BlockHeader) => {
      sum.points += one.points
      sum.left_out += one.leftOut
      if (one.gap !== null) sum.gaps++
      else if (one.points > 0) {
        sum.time_us_min = timed ? Math.min(sum.time_us_min, one.timeUsMin) : one.timeUsMin
        sum.time_us_max = timed ? Math.max(sum.time_us_max, one.timeUsMax) : one.timeUsMax
        timed = true
      }
      if (!one.last) return
      const key = keyOf(one.laneId, one.epoch)
      const { lane, laneId, epoch } = one
      const known = lanes.get(key) ?? { lane, laneId, epoch, seqs: createSeqRanges() }
      known.seqs.add(one.seq, one.seqLast)
      lanes.set(key, known)
    },
    line: () => ({
      ...sum,
      ranges: [...lanes.values()].flatMap(({ lane, laneId: lane_id, epoch, seqs }) =>
        seqs.list().map(([seq_first, seq_last]) => ({ lane, lane_id, epoch, seq_first, seq_last })),
      ),
    }),
  }
}
type Summary = ReturnType<typeof createSummary>
interface Part {
  readonly path: string
  readonly number: number
  readonly handle: FileHandle
  readonly summary: Summary
  /** What is fsynced. */
  bytes: number
}

export const openFolder = async (options: FolderOptions): Promise<Folder> => {
  const { folder, agent, destination, format, compression } = options
  const stem = `${agent}-${destination}`
  const indexPath = join(folder, `${stem}.index.ndjson`)
  const taken = new Map<string, SeqRanges>()
  let numberLast = options.numberAfter
  let part: Part | undefined

  const take = (lane: LaneId, epoch: EpochId, first: Seq, last: Seq) => {
    const key = keyOf(lane, epoch)
    const known = taken.get(key) ?? createSeqRanges()
    known.add(first, last)
    taken.set(key, known)
  }
  const takeLine = ({ ranges, number }: Pick<IndexLine, 'ranges' | 'number'>) => {
    numberLast = Math.max(numberLast, number)
    for (const one of ranges) take(one.lane_id, one.epoch, one.seq_first, one.seq_last)
  }
  const partPath = (number: number) =>
    join(folder, `${stem}-${String(number).padStart(6, '0')}.part`)

  const openPart = async (): Promise<Part> => {
    const number = numberLast + 1
    const path = partPath(number)
    const handle = await open(path, 'wx', 0o640)
    await syncFolder(folder)
    numberLast = number
    return { path, number, handle, summary: createSummary(), bytes: 0 }
  }
  /** Copies `bytes` of a part to its own name, through the compressor, and enters it in the index. */
  const publish = async (path: string, number: number, bytes: number, summary: Summary) => {
    const epoch = summary.line().ranges[0]?.epoch.slice(0, 8) ?? 'none'
    const numbered = String(number).padStart(6, '0')
    const file = `${stem}-${epoch}-${numbered}.${format === 'lines' ? 'lp' : 'ndjson'}${extensions[compression]}`
    const temporary = join(folder, `.${file}.tmp`)
    const from = createReadStream(path, { start: 0, end: bytes - 1 })
    const hash = createHash('sha256')
    let length = 0
    {
      await using to = await open(temporary, 'w', 0o640)
      await pipeline(from, packer(compression), async (packed: AsyncIterable<Uint8Array>) => {
        for await (const piece of packed) {
          hash.update(piece)
          length += piece.length
          await to.appendFile(piece)
        }
      })
      await to.sync()
    }
    await rename(temporary, join(folder, file))
    await syncFolder(folder)
    const check = { bytes: length, sha256: hash.digest('hex') }
    const line = { file, number, agent, destination, format, compression, ...check }
    await appendIndex(indexPath, { ...line, ...summary.line() })
    await rm(path, { force: true })
  }
  /** What a crash left. Its number is in the index when only the removal was missing. */
  const recover = async (name: string, numbers: ReadonlySet<number>) => {
    const path = join(folder, name)
    const number = Number(/-(\d+)\.part$/.exec(name)?.[1])
    numberLast = Math.max(numberLast, number)
    const { bytes, summary } = await wholeSeqs(path)
    if (numbers.has(number) || bytes === 0) return rm(path, { force: true })
    await publish(path, number, bytes, summary)
    takeLine({ number, ranges: summary.line().ranges })
  }
  const letGo = async () => {
    const mine = part
    part = undefined
    await mine?.handle.close()
  }
  const finish = async () => {
    if (part === undefined) return
    const { path, number, bytes, summary } = part
    // What somebody took away while it was open is theirs: its blocks can be imported as they are.
    if (await isStillThere(part)) {
      if (bytes > 0) await publish(path, number, bytes, summary)
      else await rm(path, { force: true })
    }
    await letGo()
  }

  await stat(folder)
  const { lines } = await readIndex(indexPath)
  for (const line of lines) takeLine(line)
  const names = await readdir(folder)
  const { isPart, isTemporary } = ownNames(stem)
  for (const name of names) if (isTemporary(name)) await rm(join(folder, name))
  const own = names.filter(isPart).sort()
  for (const name of own) await recover(name, new Set(lines.map(({ number }) => number)))

  return {
    has: (lane, epoch, first, last) => taken.get(keyOf(lane, epoch))?.has(first, last) ?? false,
    append: async (blocks) => {
      const headers: BlockHeader[] = []
      let at = part?.bytes ?? 0
      for await (const block of blocks) {
        part ??= await openPart()
        const bytes = encodeBlock(block)
        await writeAll(part.handle, bytes, at)
        at += bytes.length
        options.onWritten(bytes.length)
        headers.push(block.header)
      }
      const mine = part
      if (mine === undefined || headers.length === 0) return
      await mine.handle.sync()
      if (!(await isStillThere(mine))) {
        await mine.handle.truncate(mine.bytes)
        throw Object.assign(new Error(`${mine.path} was taken away`), { code: 'ENOENT' })
      }
      mine.bytes = at
      for (const header of headers) {
        mine.summary.add(header)
        if (header.last) take(header.laneId, header.epoch, header.seq, header.seqLast)
      }
    },
    openBytes: () => part?.bytes ?? 0,
    finish,
    numberLast: () => numberLast,
    letGo,
  }
}

/** Exactly those: the name of another destination here may begin with the name of this one. */
const ownNames = (stem: string) => {
  const after = (name: string, head: string) =>
    name.startsWith(head) ? name.slice(head.length) : ''
  return {
    isPart: (name: string) => /^\d{6,}\.part$/.test(after(name, `${stem}-`)),
    isTemporary: (name: string) =>
      /^([0-9a-f]{8}|none)-\d{6,}\.(ndjson|lp)(\.gz|\.zst)?\.tmp$/.test(after(name, `.${stem}-`)),
  }
}

const isStillThere = async ({ path, handle }: Pick<Part, 'path' | 'handle'>): Promise<boolean> => {
  try {
    return (await stat(path)).ino === (await handle.stat()).ino
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

const packer = (compression: Compression) =>
  compression === 'gzip'
    ? createGzip()
    : compression === 'zstd'
      ? createZstdCompress()
      : new PassThrough()

const writeAll = async (handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

/** The whole seqs at the beginning of a part, and how many bytes they are. */
const wholeSeqs = async (path: string): Promise<{ bytes: number; summary: Summary }> => {
  const all = await readFile(path)
  const summary = createSummary()
  let bytes = 0
  let open: BlockHeader[] = []
  try {
    for (let at = 0; at < all.length; ) {
      const read = readBlock(all, at)
      if (read === undefined) break
      at = read.end
      open.push(read.block.header)
      if (!read.block.header.last) continue
      for (const header of open) summary.add(header)
      open = []
      bytes = at
    }
  } catch (error) {
    // A torn end: nothing behind it was ever acknowledged.
    if (!isFailure(error)) throw error
  }
  return { bytes, summary }
}
