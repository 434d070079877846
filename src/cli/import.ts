/**
 * `holdfast import`: points files, carried over an air gap, into a running agent.
 * Invariants: a file's length and SHA-256 are those of its index before anything of it is sent; what the agent has
 * taken is in its spool, fsynced; importing again, wholly or in part, changes nothing.
 */
import { createHash } from 'node:crypto'
import { createReadStream, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { PassThrough, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { readBlock } from '../codec/points-file.ts'
import type { ControlClient } from '../control/client.ts'
import type { ImportAnswer } from '../control/view.ts'
import { type IndexLine, readIndex } from '../destinations/file-index.ts'
import { exitCodes, Failure, isFailure, textOf } from '../errors.ts'
import type { CliContext } from './context.ts'
import { amountText, countText } from './format.ts'

export interface ImportOptions {
  readonly lane?: string
  readonly withoutIndex?: boolean
}
interface Given {
  readonly path: string
  readonly line: IndexLine | null
}
interface Sum {
  readonly file: string
  points: number
  /** Points that were in already. */
  known: number
  /** Declared lost by the files. */
  lost: number
}

const chunkBytes = 1 << 20
const indexName = /\.index\.ndjson$/
const isPointsFile = (name: string) => /\.(ndjson|lp)(\.gz|\.zst)?$/.test(name)

/** Every line of the indexes beside a file. */
const linesBeside = async (folder: string): Promise<readonly IndexLine[]> => {
  const all: IndexLine[] = []
  for (const name of readdirSync(folder).sort())
    if (indexName.test(name)) all.push(...(await readIndex(join(folder, name))).lines)
  return all
}
/** A folder stands for the points files in it. */
const filesOf = (path: string): string[] => {
  try {
    if (!statSync(path).isDirectory()) return [path]
    const names = readdirSync(path).filter((name) => isPointsFile(name) && !indexName.test(name))
    return names.sort().map((name) => join(path, name))
  } catch (error) {
    throw new Failure('HF-X021', `cannot read ${path}: ${(error as Error).message}`)
  }
}
const find = async (paths: readonly string[], withoutIndex: boolean): Promise<readonly Given[]> => {
  const indexes = new Map<string, readonly IndexLine[]>()
  const given: Given[] = []
  for (const path of paths.flatMap(filesOf)) {
    const folder = dirname(path)
    const lines = indexes.get(folder) ?? (await linesBeside(folder))
    indexes.set(folder, lines)
    const line = lines.find(({ file }) => file === basename(path)) ?? null
    if (line === null && !withoutIndex)
      throw new Failure(
        'HF-X021',
        `${path} stands in no index beside it`,
        'Copy the *.index.ndjson too; or say --without-index, and nobody notices a file cut at a block’s end.',
      )
    given.push({ path, line })
  }
  const order = ({ line }: Given) => (line === null ? '' : `${line.agent}/${line.destination}`)
  return given.sort(
    (one, other) =>
      order(one).localeCompare(order(other)) || (one.line?.number ?? 0) - (other.line?.number ?? 0),
  )
}

/** A file that was carried about may be damaged, and its medium may fail: no bug of ours. */
const troubleWith = (path: string, error: unknown): unknown => {
  if (isFailure(error, 'HF-K020'))
    return new Failure('HF-K020', `${path}: ${error.message}`, error.hint)
  const { code = '', syscall } = error as NodeJS.ErrnoException
  if (/^(Z|ZSTD)_/.test(code))
    return new Failure(
      'HF-K020',
      `${path} cannot be unpacked: ${textOf(error)}`,
      'Copy it again. What stands before that was taken.',
    )
  return syscall === undefined
    ? error
    : new Failure('HF-X021', `cannot read ${path}: ${textOf(error)}`, 'Is its medium sound?')
}
const verify = async ({ path, line }: Given, signal: AbortSignal): Promise<void> => {
  if (line === null) return
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const piece of createReadStream(path, { highWaterMark: chunkBytes, signal })) {
      hash.update(piece as Buffer)
      bytes += (piece as Buffer).length
    }
  } catch (error) {
    throw troubleWith(path, error)
  }
  if (bytes === line.bytes && hash.digest('hex') === line.sha256) return
  throw new Failure(
    'HF-X022',
    `${path} is not the file of the index: ${bytes} bytes of ${line.bytes}, or other ones`,
    'Copy it again. Nothing of it was taken.',
  )
}
const unpacker = (path: string): Transform =>
  path.endsWith('.zst')
    ? createZstdDecompress()
    : path.endsWith('.gz')
      ? createGunzip()
      : new PassThrough()

/** Calls `take` with the text of each block, in order. */
const eachBlock = async (
  path: string,
  signal: AbortSignal,
  take: (text: string) => Promise<void>,
): Promise<void> => {
  let rest: Buffer = Buffer.alloc(0)
  const use = async (more: readonly Buffer[]) => {
    rest = Buffer.concat([rest, ...more])
    let at = 0
    for (let read = readBlock(rest, at); read !== undefined; read = readBlock(rest, at)) {
      await take(rest.toString('utf8', at, read.end))
      at = read.end
      if (at === rest.length) break
    }
    rest = rest.subarray(at)
  }
  const from = createReadStream(path, { highWaterMark: chunkBytes })
  const work = async (unpacked: AsyncIterable<Buffer>) => {
    let pieces: Buffer[] = []
    let bytes = 0
    for await (const piece of unpacked) {
      pieces.push(piece)
      bytes += piece.length
      if (bytes < chunkBytes) continue
      await use(pieces)
      pieces = []
      bytes = 0
    }
    await use(pieces)
  }
  try {
    await pipeline(from, unpacker(path), work, { signal })
  } catch (error) {
    throw troubleWith(path, error)
  }
  if (rest.length > 0)
    throw new Failure('HF-K020', `${path} ends within a block`, 'What stands before it was taken.')
}

const importFile = async (
  context: CliContext,
  client: ControlClient,
  { path, line }: Given,
  lane: string | null,
): Promise<Sum> => {
  const sum: Sum = { file: path, points: 0, known: 0, lost: 0 }
  let shownAt = 0
  await eachBlock(path, context.signal, async (block) => {
    const answer = await client.post<ImportAnswer>('/v1/import', { block, lane })
    if (answer.taken) sum.points += answer.points
    else sum.known += answer.points
    if (answer.taken) sum.lost += answer.lost
    const done = sum.points + sum.known
    if (!context.interactive || done < shownAt + 100_000) return
    shownAt = done
    context.say(`  ${countText(done)} of ${countText(line?.points ?? done)} points`)
  })
  return sum
}

export const importVerb = async (
  context: CliContext,
  options: ImportOptions,
  ...paths: string[]
): Promise<number> => {
  const given = await find(paths.flat(), options.withoutIndex === true)
  if (given.length === 0)
    throw new Failure(
      'HF-X021',
      `there is no finished points file in ${paths.flat().join(', ')}`,
      'They end in .ndjson or .lp, and .gz or .zst. A .part becomes one when its agent stops, or in time (file_age).',
    )
  const client = await context.client()
  const sums: Sum[] = []
  for (const one of given) {
    await verify(one, context.signal)
    const sum = await importFile(context, client, one, options.lane ?? null)
    sums.push(sum)
    const parts = [
      `${amountText(sum.points, 'point')} taken`,
      ...(sum.known > 0 ? [`${countText(sum.known)} in already`] : []),
      ...(sum.lost > 0 ? [`${countText(sum.lost)} declared lost`] : []),
    ]
    context.say(`${basename(one.path)}: ${parts.join(', ')}`)
  }
  const total = (of: 'points' | 'known' | 'lost') => sums.reduce((all, one) => all + one[of], 0)
  const all = { points: total('points'), known: total('known'), lost: total('lost') }
  if (context.flags.json) context.json({ files: sums, ...all })
  else context.out(`${amountText(all.points, 'point')} taken, ${countText(all.known)} in already`)
  return exitCodes.good
}
