/**
 * Real servers for tests: found on the PATH, else unpacked (never installed) from Debian's packages into the cache.
 * Invariant: the host is never changed; package lists and archives live in the cache folder too.
 */
import { execFileSync } from 'node:child_process'
import {
  accessSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { temporaryFolder } from './temp.ts'

export const cacheFolder = (): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast')

export interface Tool {
  /** Absolute path of the program. */
  readonly path: string
  /** What must be added to the environment to run it. */
  readonly env: Readonly<Record<string, string>>
  readonly origin: 'path' | 'unpacked'
}

const wellKnownFolders = (): string[] => {
  const postgres = '/usr/lib/postgresql'
  const versions = existsSync(postgres) ? readdirSync(postgres).sort().reverse() : []
  return [
    '/usr/sbin',
    '/usr/local/sbin',
    '/sbin',
    ...versions.map((one) => join(postgres, one, 'bin')),
  ]
}
const onPath = (program: string): string | undefined => {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...wellKnownFolders()]
  // A wrapper script in /usr/local/bin may stand before the server itself: prefer Debian's own layout for PostgreSQL.
  const ordered = program === 'postgres' ? folders.reverse() : folders
  for (const folder of ordered) {
    const path = join(folder, program)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not here.
    }
  }
  return undefined
}

const aptOptions = (apt: string): string[] => [
  '-o',
  `Dir::State::Lists=${apt}/lists`,
  '-o',
  `Dir::Cache=${apt}/cache`,
  '-o',
  'APT::Sandbox::User=root',
  '-o',
  'Debug::NoLocking=1',
]
const run = (command: string, args: string[], cwd?: string): string =>
  execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 << 20,
    ...(cwd ? { cwd } : {}),
  })

/** A folder of the cache that `fill` makes where it is missing; it is whole, or not there. */
export const cached = (name: string, fill: (folder: string) => void): string => {
  const folder = join(cacheFolder(), name)
  if (existsSync(join(folder, '.complete'))) return folder
  const partial = `${folder}.partial-${process.pid}`
  process.stderr.write(`tests: making ${folder} (once)\n`)
  mkdirSync(dirname(folder), { recursive: true })
  try {
    fill(partial)
    writeFileSync(join(partial, '.complete'), '')
    rmSync(folder, { recursive: true, force: true })
    renameSync(partial, folder)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
  return folder
}

/** Unpacks a package and what it needs beyond this host into one folder of the cache; once per package. */
export const unpack = (packageName: string): string =>
  cached(`debian/${packageName}`, (folder) => {
    const apt = join(cacheFolder(), 'apt')
    mkdirSync(join(apt, 'lists', 'partial'), { recursive: true })
    mkdirSync(join(apt, 'cache', 'archives', 'partial'), { recursive: true })
    const lists = readdirSync(join(apt, 'lists')).length
    if (lists < 3) run('apt-get', [...aptOptions(apt), '-qq', 'update'])
    const plan = run('apt-get', [
      ...aptOptions(apt),
      'install',
      '-s',
      '--no-install-recommends',
      packageName,
    ])
    const names = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] as string)
    // Installed on the host, yet not on the PATH: its own archive is still needed.
    if (!names.includes(packageName)) names.push(packageName)
    const archives = `${folder}/archives`
    mkdirSync(archives, { recursive: true })
    run('apt-get', [...aptOptions(apt), 'download', ...names], archives)
    for (const file of readdirSync(archives)) run('dpkg', ['-x', join(archives, file), folder])
    rmSync(archives, { recursive: true })
  })

/** Servers run as an unprivileged user, who may not look into root's home: then they run from a copy elsewhere. */
const reachable = (root: string): string => {
  if (process.getuid?.() !== 0) return root
  for (let folder = root; folder !== '/'; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o005) === 0o005) continue
    const copy = temporaryFolder('tools')
    try {
      // Hard links where the file system is the same: some packages are large.
      run('cp', ['-al', `${root}/.`, copy])
    } catch {
      cpSync(root, copy, { recursive: true, verbatimSymlinks: true })
    }
    run('chmod', ['-R', 'a+rX', copy])
    return copy
  }
  return root
}

const foundByName = new Map<string, Tool>()
/** `place` is where the program stands inside the unpacked package. Throws when Debian's packages cannot be had. */
export const findTool = (
  program: string,
  packageName: string,
  place = `/usr/sbin/${program}`,
): Tool => {
  const known = foundByName.get(program)
  if (known) return known
  const path = onPath(program)
  let tool: Tool
  if (path) tool = { path, env: {}, origin: 'path' }
  else {
    const root = reachable(unpack(packageName))
    const libraries = [
      '/usr/lib/x86_64-linux-gnu',
      '/usr/lib/aarch64-linux-gnu',
      '/lib/x86_64-linux-gnu',
    ].map((one) => root + one)
    tool = { path: root + place, env: { LD_LIBRARY_PATH: libraries.join(':') }, origin: 'unpacked' }
  }
  foundByName.set(program, tool)
  return tool
}
