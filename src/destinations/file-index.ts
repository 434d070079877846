/**
 * The books of a folder of points files: one JSON line for each finished file, appended and fsynced.
 *
 * Invariants: a line is written after its file stands under its name; a torn last line is cut off; any other line that
 * does not read stops everything (the books are all that keeps a resend from being written twice).
 */
import { open, readFile } from 'node:fs/promises'
import { z } from 'zod'
import { Failure } from '../errors.ts'

export const compressions = ['none', 'gzip', 'zstd'] as const
export type Compression = (typeof compressions)[number]

const count = z.int().min(0)
const indexLine = z.object({
  file: z.string().min(1),
  number: count,
  agent: z.string(),
  destination: z.string(),
  format: z.enum(['ndjson', 'lines']),
  compression: z.enum(compressions),
  /** Of the file as it lies there. */
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  points: count,
  /** Points of these seqs that the format cannot hold. */
  left_out: count,
  /** Gap records. */
  gaps: count,
  /** Earliest and latest point, microseconds since 1970; 0 when it holds none. */
  time_us_min: z.int(),
  time_us_max: z.int(),
  ranges: z.array(
    z.object({
      lane: z.string(),
      lane_id: count,
      epoch: z.string(),
      seq_first: count,
      seq_last: count,
    }),
  ),
})
export type IndexLine = z.output<typeof indexLine>

const parseLine = (text: string): IndexLine | undefined => {
  try {
    return indexLine.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
export interface Index {
  readonly lines: readonly IndexLine[]
  /** Length up to the end of the last whole line. */
  readonly goodBytes: number
  readonly torn: boolean
}
/** A file that is not there is an empty index. Throws Failure HF-F154 when it is damaged before its end. */
export const readIndex = async (path: string): Promise<Index> => {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return { lines: [], goodBytes: 0, torn: false }
  }
  const lines: IndexLine[] = []
  let good = 0
  for (const one of text.split('\n')) {
    const ends = good + one.length < text.length
    const line = ends ? parseLine(one) : undefined
    if (line === undefined) {
      const rest = text.slice(good)
      const whole = rest.slice(0, rest.indexOf('\n') + 1)
      if (rest.length > whole.length)
        if (whole !== '')
          throw new Failure(
            'HF-F154',
            `${path} does not read at line ${lines.length + 1}`,
            'Move all that is in the folder aside, the folder stays: a new index begins with the next point; what ' +
              'was moved is imported with --without-index.',
          )
      return { lines, goodBytes: Buffer.byteLength(text.slice(0, good)), torn: rest !== '' }
    }
    lines.push(line)
    good += one.length + 1
  }
  return { lines, goodBytes: Buffer.byteLength(text), torn: false }
}

/** Cuts a torn end off, then adds the line; durable when it resolves. */
export const appendIndex = async (path: string, line: IndexLine): Promise<void> => {
  const { goodBytes, torn } = await readIndex(path)
  await using file = await open(path, 'a', 0o640)
  if (torn) await file.truncate(goodBytes)
  await file.appendFile(`${JSON.stringify(line)}\n`)
  await file.sync()
}
