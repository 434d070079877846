/**
 * `npm run bundle [-- FOLDER]`: the program as a few files for packages, without its sources: `agent.mjs` (the command),
 * `spool-worker.mjs` (the spool's thread), and the parts that verbs load when they are used, in `dist/`.
 *
 * Invariants: better-sqlite3 and lz4-napi stay outside, they are native and stand in `node_modules` beside the bundle;
 * all files lie in one folder, since the spool finds its thread's program beside itself.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build, type Metafile, type Plugin } from 'esbuild'
import { builtinsWhenUsed, withoutUnused } from './bundle-parts.ts'

const root = join(import.meta.dirname, '..')
/** CommonJS among the dependencies asks for Node's own modules by `require`, which a module does not have. */
const banner = [
  "import { createRequire as __createRequire } from 'node:module'",
  'const require = __createRequire(import.meta.url);',
].join(';')
/** All parts are given one, fifty of them: those that never ask do not make it. */
const dropBanner = (file: string): void => {
  const text = readFileSync(file, 'utf8')
  const rest = text.replace(`${banner}\n`, '')
  if (!/(?<![\w$.])require(?![\w$])/.test(rest)) writeFileSync(file, rest)
}

/** A CommonJS package that is loaded lazily would lose its names as a part of its own: it gets those that Node sees. */
const namesOfLazyPackages: Plugin = {
  name: 'names of lazy packages',
  setup: (given) => {
    given.onResolve({ filter: /^[^.]/ }, ({ kind, path }) =>
      kind === 'dynamic-import' && !isBuiltin(path) ? { path, namespace: 'lazy' } : undefined,
    )
    given.onLoad({ filter: /.*/, namespace: 'lazy' }, async ({ path }) => {
      const names = Object.keys((await import(path)) as object)
      const own = names.filter((name) => name !== 'default' && name !== 'module.exports')
      return { contents: `export { ${own.join(', ')} } from '${path}'`, resolveDir: root }
    })
  },
}

/** Folders of npm packages, relative to the clone, of which something is in the bundle. */
const packagesIn = ({ outputs }: Metafile): readonly string[] => {
  const files = Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0),
  )
  const folders = files.map(([path]) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
  return [...new Set(folders.filter((one) => one !== undefined))].sort()
}

export interface Bundle {
  /** Path of the command. */
  readonly command: string
  /** `node_modules/pino`, of every npm package that is in it. */
  readonly packages: readonly string[]
}
/** Bundles into `folder`, replacing what is there, with `more` programs by name. */
export const bundleWithParts = async (
  folder: string,
  more: Readonly<Record<string, string>> = {},
): Promise<Bundle> => {
  rmSync(folder, { recursive: true, force: true })
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: { agent: 'src/cli/main.ts', 'spool-worker': 'src/spool-worker.ts', ...more },
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    chunkNames: 'part-[hash]',
    bundle: true,
    // What a verb loads lazily stays lazy: start-up reads only what it needs.
    splitting: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    banner: { js: banner },
    plugins: [withoutUnused, namesOfLazyPackages, builtinsWhenUsed],
    external: ['better-sqlite3', 'lz4-napi', 'pg-native'],
    // Names stay, so that a stack says where; the rest is memory.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
  })
  for (const file of Object.keys(metafile.outputs)) dropBanner(join(root, file))
  return { command: join(folder, 'agent.mjs'), packages: packagesIn(metafile) }
}
/** Bundles into `folder`; returns the path of the command. */
export const bundle = async (folder = join(root, 'dist')): Promise<string> =>
  (await bundleWithParts(folder)).command

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  process.stdout.write(`${await bundle(process.argv[2])}\n`)
