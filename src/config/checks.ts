/**
 * What a schema cannot see: names that must be unique or must exist, doors that stand open, files and disks.
 * Invariant: looks only; changes nothing, connects to nothing.
 */
import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { deniedBy, isDenied } from '../errors.ts'
import { systemClock } from '../host.ts'
import { checkCertificates } from './certificates.ts'
import { unknownLane } from './lanes.ts'
import { isPathField } from './paths.ts'
import type { Config, DestinationConfig, LaneConfig, SourceConfig } from './schema.ts'
import { dotted, type Path, type Trouble } from './source-text.ts'

interface Parts {
  readonly sources: readonly SourceConfig[]
  readonly destinations: readonly DestinationConfig[]
  readonly lanes: readonly LaneConfig[]
  /** Lanes that classes read, or write: `class-reach.ts` says of them what there is to say. */
  readonly ofClasses: ReadonlySet<string>
}
type Raw = Readonly<Record<string, unknown>>
const isMap = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const entries = (root: Raw, key: string): readonly Raw[] => {
  const list = root[key]
  return Array.isArray(list) ? list.map((one) => (isMap(one) ? one : {})) : []
}

const duplicates = (root: Raw, key: 'sources' | 'destinations'): Trouble[] => {
  const first = new Map<unknown, number>()
  return entries(root, key).flatMap(({ name }, index): Trouble[] => {
    if (typeof name !== 'string') return []
    const earlier = first.get(name)
    if (earlier === undefined) first.set(name, index)
    return earlier === undefined
      ? []
      : [
          {
            code: 'HF-C009',
            text: `two ${key} are named "${name}" (${key}[${earlier}] and ${key}[${index}])`,
            hint: 'a name is an identity: it must be unique',
            path: [key, index, 'name'],
            on: 'value',
          },
        ]
  })
}
const laneReferences = (root: Raw, lanes: readonly string[]): Trouble[] => [
  ...entries(root, 'sources').flatMap(({ lane = 'raw' }, index) =>
    unknownLane(lane, lanes, ['sources', index, 'lane']),
  ),
  ...entries(root, 'destinations').flatMap(({ lanes: taken }, index) =>
    (Array.isArray(taken) ? taken : []).flatMap((lane, at) =>
      unknownLane(lane, lanes, ['destinations', index, 'lanes', at]),
    ),
  ),
]

export const isLoopback = (listen: string): boolean =>
  /^(localhost|127(\.\d{1,3}){3}|\[::1\]):\d+$/.test(listen)

interface Door {
  readonly listen: string
  readonly path: Path
  readonly guarded: boolean
}
const doorAt = (given: unknown, path: Path): Door[] => {
  if (!isMap(given) || typeof given.listen !== 'string') return []
  const filled = (value: unknown) => (Array.isArray(value) ? value.length > 0 : Boolean(value))
  const guarded = filled(given.token) || filled(given.tokens)
  return [{ listen: given.listen, path: [...path, 'listen'], guarded }]
}
/** Loopback unless a token guards it: whoever reaches a door can write to the region in this agent's name. */
const doors = (root: Raw): Trouble[] => {
  const all = [
    ...doorAt(isMap(root.agent) ? root.agent.metrics : undefined, ['agent', 'metrics']),
    ...entries(root, 'sources').flatMap((one, index) => doorAt(one, ['sources', index])),
  ]
  const taken = new Map<string, Path>()
  return all.flatMap(({ listen, path, guarded }): Trouble[] => {
    const found: Trouble[] = []
    if (!guarded && !isLoopback(listen))
      found.push({
        code: 'HF-C014',
        text: `${listen} can be reached from outside this machine, and no token is set`,
        // biome-ignore lint/suspicious/noTemplateCurlyInString: this is what the user writes
        hint: 'set a token (${file:/path}, ${env:NAME} or ${cred:NAME}), or listen on 127.0.0.1',
        path,
        on: 'value',
      })
    const earlier = taken.get(listen)
    if (earlier !== undefined && !listen.endsWith(':0'))
      found.push({
        code: 'HF-C017',
        text: `${listen} is already taken by ${dotted(earlier.slice(0, -1))}`,
        path,
        on: 'value',
      })
    taken.set(listen, path)
    return found
  })
}
/** Two that write files into one folder would be told apart by their names alone, there and by whoever carries them. */
const folders = (root: Raw): Trouble[] => {
  const taken = new Map<string, number>()
  return entries(root, 'destinations').flatMap(({ output_dir: folder }, index): Trouble[] => {
    if (typeof folder !== 'string') return []
    const earlier = taken.get(folder)
    if (earlier === undefined) taken.set(folder, index)
    if (earlier === undefined) return []
    return [
      {
        code: 'HF-C029',
        text: `${folder} is already the folder of destinations[${earlier}]`,
        hint: 'give each its own folder, below this one for example',
        path: ['destinations', index, 'output_dir'],
        on: 'value',
      },
    ]
  })
}
const emptiness = (root: Raw, { lanes, ofClasses }: Parts): Trouble[] => {
  const found: Trouble[] = []
  const warn = (text: string, hint: string, path: Path) =>
    found.push({ severity: 'warning', code: 'HF-C041', text, hint, path })
  const destinations = entries(root, 'destinations')
  if (entries(root, 'sources').length === 0)
    warn('no sources: nothing will be taken in', 'add one under "sources"', ['sources'])
  if (destinations.length === 0)
    warn('no destinations: points stay in the spool', 'add one under "destinations"', [
      'destinations',
    ])
  else
    for (const { name } of lanes.filter((lane) => !ofClasses.has(lane.name)))
      if (!destinations.some(({ lanes: taken }) => !Array.isArray(taken) || taken.includes(name)))
        warn(
          `no destination takes lane "${name}"`,
          'its points stay until the spool is full: take it, or give the lane when_full: drop_oldest',
          ['lanes', name],
        )
  return found
}

export const checkMeaning = (root: Raw, parts: Parts): Trouble[] => [
  ...duplicates(root, 'sources'),
  ...duplicates(root, 'destinations'),
  ...laneReferences(
    root,
    parts.lanes.map(({ name }) => name),
  ),
  ...doors(root),
  ...folders(root),
  ...emptiness(root, parts),
]

const readable = (file: string, path: Path): Trouble[] => {
  try {
    if (!statSync(file).isFile()) throw new Error('not a file')
    accessSync(file, constants.R_OK)
    return []
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const why =
      code === 'ENOENT'
        ? 'does not exist'
        : code === 'EACCES'
          ? 'cannot be read by this user'
          : 'is not a readable file'
    return [{ code: 'HF-C015', text: `${file} ${why}`, path, on: 'value', ...deniedBy(error) }]
  }
}
export const checkFiles = (root: unknown, path: Path = []): Trouble[] => {
  if (typeof root === 'string') {
    return isPathField(path) && !String(path.at(-1)).endsWith('_dir') ? readable(root, path) : []
  }
  if (typeof root !== 'object' || root === null) return []
  return Object.entries(root).flatMap(([key, one]) =>
    checkFiles(one, [...path, Array.isArray(root) ? Number(key) : key]),
  )
}
/** A spool that somebody else has put there (restored by root, with `cp`) is no failing disk. */
const othersSpool = (folder: string): Trouble[] =>
  ['spool.db', 'spool.db-wal', 'spool.db-shm', 'spool.db-anchor'].flatMap((name): Trouble[] => {
    const file = join(folder, name)
    let uid: number | undefined
    try {
      uid = statSync(file).uid
      accessSync(file, constants.R_OK | constants.W_OK)
      return []
    } catch (error) {
      // In a folder that is closed there is nothing to see: that is said of the folder.
      if (!isDenied(error) || uid === undefined) return []
    }
    const text = `${file} belongs to user ${uid}, and this user (${process.geteuid?.()}) cannot write it`
    const hint = `give it to the agent's user: chown --reference=${folder} ${folder}/spool.db*`
    const path: Path = ['agent', 'state_dir']
    return [{ code: 'HF-C016', text, hint, path, on: 'value', denied: true }]
  })
const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`
const diskOf = (config: Config): Trouble[] => {
  const { state_dir: folder } = config.agent
  let existing = folder
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing)
  const path: Path = ['agent', 'state_dir']
  try {
    if (!statSync(existing).isDirectory()) throw new Error('not a folder')
    accessSync(existing, constants.W_OK | constants.X_OK)
  } catch (error) {
    const text =
      existing === folder
        ? `${folder} cannot be written by this user`
        : `${folder} does not exist, and ${existing} cannot be written`
    const hint = 'make it, or set agent.state_dir'
    return [{ code: 'HF-C016', text, hint, path, on: 'value', ...deniedBy(error) }]
  }
  const { bavail, bsize } = statfsSync(existing)
  const free = bavail * bsize
  return free >= config.spool.size_max
    ? []
    : [
        {
          severity: 'warning',
          code: 'HF-C040',
          text: `${folder} has ${gigabytes(free)} free, the spool may need ${gigabytes(config.spool.size_max)}`,
          hint: 'at the free-disk floor intake waits, before the quota is reached',
          path: ['spool', 'size_max'],
          on: 'value',
        },
      ]
}
export const checkSurroundings = (root: Raw, config: Config): Trouble[] => [
  ...checkFiles({ sources: root.sources, destinations: root.destinations, agent: root.agent }),
  ...checkCertificates(root, { nowUs: systemClock.nowUs(), agent: config.agent.name }),
  ...diskOf(config),
  ...othersSpool(config.agent.state_dir),
]
