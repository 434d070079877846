/**
 * What a package holds that this project did not write, for people (notices) and for scanners (CycloneDX 1.5): Node with
 * the libraries inside it, SQLite, and every npm package of which something is in the program.
 * Invariant: nothing in it differs from build to build.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import {
  type Architecture,
  locate,
  nativeParts,
  nodeLicence,
  nodeVersion,
  root,
} from './package-parts.ts'

interface Part {
  readonly name: string
  readonly version: string
  readonly licence: string
  /** As the lock file has it: `sha512-…`. */
  readonly integrity: string
  readonly folder: string
}
interface Locked {
  readonly version: string
  readonly license?: string
  readonly integrity?: string
}
/** Packages by their folders, as the lock file has them. */
const partsOf = (folders: readonly string[]): readonly Part[] => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, Locked>>
  }
  return folders
    .map((path) => {
      const { version, license, integrity } = packages[path] ?? {}
      if (version === undefined || license === undefined || integrity === undefined)
        throw new Error(`${path} is not in the lock file with version, licence and digest`)
      const name = path.replace(/^.*node_modules\//, '')
      return { name, version, licence: license, integrity, folder: join(root, path) }
    })
    .sort((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1))
}

/** Licences and notices of everything in the package. */
export const notices = (folders: readonly string[]): string => {
  const of = ({ name, version, licence, folder }: Part) => {
    const files = globSync('{LICEN[SC]E,licen[sc]e,NOTICE}*', { cwd: folder }).sort()
    const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim())
    return [`${name} ${version} (${licence})`, ...texts].join('\n\n')
  }
  const node = `Node.js ${nodeVersion}\n\n${readFileSync(locate(nodeLicence), 'utf8').trim()}`
  return `${[node, ...partsOf(folders).map(of)].join(`\n\n${'='.repeat(78)}\n\n`)}\n`
}

/** What Node says it was made of; its data (time zones, Unicode) and interfaces are no libraries. */
const notLibraries = new Set(['node', 'modules', 'napi', 'tz', 'unicode', 'cldr'])
const insideNode = (): readonly object[] => {
  if (process.versions.node !== nodeVersion)
    throw new Error(`Node ${process.versions.node} builds this, and ${nodeVersion} goes into it`)
  return Object.entries(process.versions)
    .filter(([name, version]) => !notLibraries.has(name) && version !== '')
    .map(([name, version]) => ({ type: 'library', 'bom-ref': `node/${name}`, name, version }))
}
const sqliteVersion = (): string => {
  const database = new Database(':memory:')
  const row = database.prepare('select sqlite_version() as version').get()
  database.close()
  return (row as { version: string }).version
}

export const billOfMaterials = (
  arch: Architecture,
  version: string,
  folders: readonly string[],
): string => {
  const hash = (alg: string, content: string) => [{ alg, content }]
  const libraries = partsOf(folders).map(({ name, version, licence, integrity }) => {
    const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`
    const digest = Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex')
    const common = { type: 'library', 'bom-ref': purl, name, version, purl }
    return { ...common, licenses: [{ expression: licence }], hashes: hash('SHA-512', digest) }
  })
  const binaries = nativeParts(arch).map(({ path, npm, sha256 }) => ({
    type: 'file',
    'bom-ref': path,
    name: path,
    version: npm.slice(npm.lastIndexOf('@') + 1),
    hashes: hash('SHA-256', sha256),
  }))
  const node = {
    type: 'application',
    'bom-ref': 'node',
    name: 'node',
    version: nodeVersion,
    purl: `pkg:github/nodejs/node@v${nodeVersion}`,
    cpe: `cpe:2.3:a:nodejs:node.js:${nodeVersion}:*:*:*:lts:*:*:*`,
    components: insideNode(),
  }
  const sqlite = { type: 'library', 'bom-ref': 'sqlite', name: 'sqlite', version: sqliteVersion() }
  const component = { type: 'application', 'bom-ref': 'holdfast', name: 'holdfast', version }
  const bill = {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: { component },
    components: [node, sqlite, ...binaries, ...libraries],
  }
  return `${JSON.stringify(bill, null, 1)}\n`
}
