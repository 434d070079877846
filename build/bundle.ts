/**
 * `npm run bundle [-- FOLDER]`: the program as a few files for packages, without its sources: `agent.mjs` (the command),
 * `spool-worker.mjs` (the spool's thread), and the parts that verbs load when they are used, in `dist/`.
 *
 * Invariants: better-sqlite3 and lz4-napi stay outside, they are native and stand in `node_modules` beside the bundle;
 * all files lie in one folder, since the spool finds its thread's program beside itself.
 */
import { rmSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build, type Plugin } from 'esbuild'

const root = join(import.meta.dirname, '..')
/** CommonJS among the dependencies asks for Node's own modules by `require`, which a module does not have. */
const banner = [
  "import { createRequire as __createRequire } from 'node:module'",
  'const require = __createRequire(import.meta.url)',
].join(';')

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

/**
 * A module that imports `node:http` gets all its names at once, `WebSocket` among them, which loads a second undici:
 * 16 MB and 60 ms for nothing. Required instead, a name is looked up when it is used.
 */
const httpByName: Plugin = {
  name: 'http by name',
  setup: (given) => {
    given.onResolve({ filter: /^node:https?$/ }, ({ kind, path }) =>
      kind === 'require-call' ? undefined : { path, namespace: 'required' },
    )
    given.onLoad({ filter: /.*/, namespace: 'required' }, ({ path }) => ({
      contents: `module.exports = require('${path}')`,
    }))
  },
}

/** Bundles into `folder`, replacing what is there, with `more` programs by name; returns the path of the command. */
export const bundle = async (
  folder = join(root, 'dist'),
  more: Readonly<Record<string, string>> = {},
): Promise<string> => {
  rmSync(folder, { recursive: true, force: true })
  await build({
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
    banner: { js: `${banner};` },
    plugins: [namesOfLazyPackages, httpByName],
    external: ['better-sqlite3', 'lz4-napi', 'pg-native'],
    // Names stay, so that a stack says where; the rest is memory.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'warning',
  })
  return join(folder, 'agent.mjs')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  process.stdout.write(`${await bundle(process.argv[2])}\n`)
