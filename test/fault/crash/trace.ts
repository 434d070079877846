/**
 * A recorded trace, and the files that a crash at any moment of it may leave.
 *
 * Invariants: what was flushed stays; what was not may be there, be missing, or be there in part, sector by sector, in
 * any order. Names: as a journalling filesystem keeps them (in order, all of them at any flush), or as POSIX promises
 * no more (each for itself, until the folder is flushed).
 */
import { readFileSync } from 'node:fs'
import type { Chance } from '../../sim/random.ts'

const operations = ['', 'create', 'write', 'resize', 'sync', 'unlink', 'rename'] as const
type Operation = (typeof operations)[number]
export interface Step {
  readonly operation: Operation
  readonly name: string
  readonly at: number
  readonly bytes: Buffer
}
const headBytes = 24
export const readTrace = (path: string): readonly Step[] => {
  const bytes = readFileSync(path)
  const steps: Step[] = []
  for (let from = 0; from < bytes.length; ) {
    const [operation, nameBytes, dataBytes] = [0, 4, 8].map((at) =>
      bytes.readUInt32LE(from + at),
    ) as [number, number, number]
    const data = from + headBytes + nameBytes
    steps.push({
      operation: operations[operation] ?? '',
      name: bytes.toString('utf8', from + headBytes, data),
      at: Number(bytes.readBigUInt64LE(from + 16)),
      bytes: bytes.subarray(data, data + dataBytes),
    })
    from = data + dataBytes
  }
  return steps
}

export const sectorBytes = 512
/** A file's bytes, growing on demand. */
interface Content {
  bytes: Buffer
  size: number
}
const copyOf = ({ bytes, size }: Content): Content => ({
  bytes: Buffer.from(bytes.subarray(0, size)),
  size,
})
const resize = (content: Content, size: number) => {
  if (size > content.bytes.length) {
    const bytes = Buffer.alloc(Math.max(size, content.bytes.length * 2))
    content.bytes.copy(bytes, 0, 0, content.size)
    content.bytes = bytes
  } else if (size < content.size) content.bytes.fill(0, size, content.size)
  content.size = size
}
const write = (content: Content, at: number, bytes: Uint8Array) => {
  if (at + bytes.length > content.size) resize(content, at + bytes.length)
  content.bytes.set(bytes, at)
}
const apply = (content: Content, step: Step) => {
  if (step.operation === 'write') write(content, step.at, step.bytes)
  else resize(content, step.at)
}

interface File {
  readonly durable: Content
  pending: Step[]
}
interface NameChange {
  readonly name: string
  /** Null: the name goes. */
  readonly file: File | null
}
/** Everything as it stands after a prefix of the trace. */
export interface Disk {
  readonly names: Map<string, File>
  /** Per model of the folder: names that are flushed, and changes that are not. */
  readonly folders: Record<Model, { durable: Map<string, File>; pending: NameChange[] }>
}
export const models = ['journalled', 'posix'] as const
export type Model = (typeof models)[number]

export const emptyDisk = (): Disk => ({
  names: new Map(),
  folders: {
    journalled: { durable: new Map(), pending: [] },
    posix: { durable: new Map(), pending: [] },
  },
})
const changeName = (names: Map<string, File>, { name, file }: NameChange) => {
  if (file === null) names.delete(name)
  else names.set(name, file)
}
const renamed = (disk: Disk, changes: readonly NameChange[]) => {
  for (const change of changes) changeName(disk.names, change)
  // The parts of one rename stand or fall together: neighbours in the list, see `namesAfter`.
  for (const model of models) disk.folders[model].pending.push(...changes)
}
const flushNames = (disk: Disk, model: Model) => {
  const folder = disk.folders[model]
  for (const change of folder.pending) changeName(folder.durable, change)
  folder.pending = []
}
const newFile = (): File => ({ durable: { bytes: Buffer.alloc(0), size: 0 }, pending: [] })

export const advance = (disk: Disk, step: Step): void => {
  const file = disk.names.get(step.name)
  switch (step.operation) {
    case 'create':
      renamed(disk, [{ name: step.name, file: newFile() }])
      return
    case 'unlink':
      renamed(disk, [{ name: step.name, file: null }])
      return
    case 'rename':
      if (file !== undefined) {
        renamed(disk, [
          { name: step.bytes.toString(), file },
          { name: step.name, file: null },
        ])
      }
      return
    case 'sync':
      flushNames(disk, 'journalled')
      if (step.name === '') flushNames(disk, 'posix')
      if (file === undefined) return
      for (const one of file.pending) apply(file.durable, one)
      file.pending = []
      return
    default:
      if (file === undefined)
        throw new Error(`${step.operation} of ${step.name}, which nobody created`)
      file.pending.push(step)
  }
}

/** What becomes of writes that were not flushed. */
export const fates = ['all', 'none', 'sectors', 'writes', 'torn'] as const
export type Fate = (typeof fates)[number]

const keepSectors = (content: Content, step: Step, share: number, chance: Chance) => {
  if (step.operation !== 'write') {
    if (chance.hit(share)) apply(content, step)
    return
  }
  const end = step.at + step.bytes.length
  for (let from = step.at; from < end; ) {
    const to = Math.min(end, from - (from % sectorBytes) + sectorBytes)
    if (chance.hit(share)) write(content, from, step.bytes.subarray(from - step.at, to - step.at))
    from = to
  }
}
const contentAfter = (file: File, fate: Fate, chance: Chance): Buffer => {
  const content = copyOf(file.durable)
  const { pending } = file
  const share = chance.pick([0.1, 0.5, 0.9])
  const last = chance.int(0, pending.length - 1)
  pending.forEach((step, at) => {
    if (fate === 'all') apply(content, step)
    else if (fate === 'sectors') keepSectors(content, step, share, chance)
    else if (fate === 'writes' && chance.hit(share)) apply(content, step)
    else if (fate === 'torn' && at < last) apply(content, step)
    else if (fate === 'torn' && at === last) keepSectors(content, step, share, chance)
  })
  return content.bytes.subarray(0, content.size)
}
const namesAfter = (disk: Disk, model: Model, fate: Fate, chance: Chance): Map<string, File> => {
  const { durable, pending } = disk.folders[model]
  const names = new Map(durable)
  const upTo = fate === 'all' ? pending.length : fate === 'none' ? 0 : chance.int(0, pending.length)
  pending.forEach((change, at) => {
    const kept =
      model === 'journalled' ? at < upTo : fate === 'all' || (fate !== 'none' && chance.hit(0.5))
    if (kept) changeName(names, change)
  })
  return names
}

/** The files of one possible after-crash state. */
export const imageOf = (
  disk: Disk,
  model: Model,
  fate: Fate,
  chance: Chance,
): Map<string, Buffer> =>
  new Map(
    [...namesAfter(disk, model, fate, chance)].map(([name, file]) => [
      name,
      contentAfter(file, fate, chance),
    ]),
  )
/** The files as the process itself saw them last. */
export const filesOf = (disk: Disk): Map<string, Buffer> =>
  new Map(
    [...disk.names].map(([name, file]) => {
      const content = copyOf(file.durable)
      for (const step of file.pending) apply(content, step)
      return [name, content.bytes.subarray(0, content.size)]
    }),
  )
