/**
 * What the bundle leaves out of its packages, and what of Node it loads only when it is used. Source text and modules of
 * Node are memory, in each thread (measured: `docs/decisions/0014-memory.md`).
 *
 * Invariant: what is left out is either never asked for (`test/unit/bundle.test.ts`), or says so when it is.
 */
import { builtinModules, createRequire } from 'node:module'
import { join } from 'node:path'
import type { Plugin } from 'esbuild'

const resolveDir = join(import.meta.dirname, '..')

/** Of undici: not its fetch, mocks, caches and second HTTP parser. */
export const undiciParts = {
  Agent: 'dispatcher/agent',
  Pool: 'dispatcher/pool',
  ProxyAgent: 'dispatcher/proxy-agent',
  buildConnector: 'core/connect',
} as const
/** Of prom-client: not its cluster, its push gateway and its summaries, which load half of Node. */
export const promClientParts = {
  Registry: 'registry',
  Counter: 'counter',
  Gauge: 'gauge',
  Histogram: 'histogram',
  collectDefaultMetrics: 'defaultMetrics',
} as const

/**
 * Of fastify: not ajv, nor what makes serializers and false requests. No route has a schema, and both servers say so by
 * compilers of their own.
 */
const notLoaded =
  /^(@fastify\/ajv-compiler|@fastify\/fast-json-stringify-compiler|light-my-request)$/

export const withoutUnused: Plugin = {
  name: 'without unused',
  setup: (given) => {
    // Of zod: not its messages in fifty languages.
    given.onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: `export { default as en } from './en.js'`,
    }))
    given.onLoad({ filter: /^undici$/, namespace: 'lazy' }, () => ({
      contents: [
        ...Object.entries(undiciParts).map(
          ([name, file]) => `export { default as ${name} } from 'undici/lib/${file}.js'`,
        ),
        // As undici's entry point does, for the one way of asking that is used here.
        `import Dispatcher from 'undici/lib/dispatcher/dispatcher.js'`,
        `import request from 'undici/lib/api/api-request.js'`,
        'Dispatcher.prototype.request = request',
      ].join('\n'),
      resolveDir,
    }))
    given.onLoad({ filter: /\/prom-client\/index\.js$/ }, () => ({
      contents: Object.entries(promClientParts)
        .map(([name, file]) => `exports.${name} = require('prom-client/lib/${file}.js')`)
        .join('\n'),
      resolveDir,
    }))
    given.onResolve({ filter: notLoaded }, ({ path }) => ({ path, namespace: 'left out' }))
    given.onLoad({ filter: /.*/, namespace: 'left out' }, ({ path }) => ({
      contents: `throw new Error('${path} is not in this bundle')`,
    }))
  },
}

/** Whoever imports one of these as a module gets all its names at once, and with them what those load. */
const required = new Set(['process', 'util'])
/** These are loaded when one of their names is used for the first time. */
const whenUsed = new Set(['child_process', 'http', 'http2', 'https', 'tls'])

/**
 * A module that imports `node:http` gets all its names at once, `WebSocket` among them, which loads a second undici:
 * 16 MB and 60 ms for nothing; packages ask for parts of Node that they use in cases that never come here.
 */
export const builtinsWhenUsed: Plugin = {
  name: 'builtins when used',
  setup: (given) => {
    const filter = new RegExp(`^(node:)?(${builtinModules.join('|').replaceAll('.', '\\.')})$`)
    given.onResolve({ filter }, ({ kind, namespace, path }) => {
      if (namespace === 'builtin' || namespace === 'required') return undefined
      const name = path.replace(/^node:/, '')
      if (whenUsed.has(name)) return { path: name, namespace: 'builtin' }
      if (!required.has(name) || kind === 'require-call') return undefined
      return { path: name, namespace: 'required' }
    })
    given.onLoad({ filter: /.*/, namespace: 'required' }, ({ path }) => ({
      contents: `module.exports = require('node:${path}')`,
    }))
    given.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => {
      const names = Object.keys(createRequire(import.meta.url)(path) as object)
      return {
        contents: [
          `for (const name of ${JSON.stringify(names)})`,
          '  Object.defineProperty(exports, name, {',
          `    enumerable: true, configurable: true, get: () => require('node:${path}')[name],`,
          '  })',
        ].join('\n'),
      }
    })
  },
}
