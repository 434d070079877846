/**
 * The control API of `api.ts` on a Unix socket, for the command line and local tools.
 *
 * Invariants: only the agent's user and group may open it (0660); a socket left behind by a dead
 * agent is replaced, one
 * with a living agent behind it is not; the number of connections and taps is bounded; a slow tap
 * loses lines and never
 * slows the agent.
 */
import { once } from 'node:events'
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Failure, isFailure, textOf } from '../errors.ts'
import type { Log } from '../host.ts'
import { meansSeries } from '../pipeline/globs.ts'
import { schemaController } from '../schemaless.ts'
import type { TapPoint } from '../spool-port.ts'
import { type Given, type Route, routes } from './api.ts'
import type { AgentView } from './view.ts'
import { tapJson } from './wire.ts'

export interface ControlSocket extends AsyncDisposable {
  readonly path: string
}
export interface ControlSocketOptions {
  readonly path: string
  readonly view: AgentView
  readonly log: Log
}

/** `sun_path` holds 108 bytes on Linux and 104 elsewhere, with the closing zero. */
export const socketPathBytesMax = process.platform === 'linux' ? 107 : 103
const connectionsMax = 64
const tapsMax = 8
const tapBytesWaitingMax = 1 << 20
const bodyBytesMax = 64 * 1024

/** systemd's runtime folder where there is one, else the state folder. */
export const controlSocketPath = (
  stateDir: string,
  environment: Readonly<Record<string, string | undefined>>,
): string => join(environment.RUNTIME_DIRECTORY?.split(':')[0] || stateDir, 'control.sock')

const statusOf = (error: unknown): number => {
  if (!isFailure(error)) return 500
  if (error.code === 'HF-X404') return 404
  if (error.code === 'HF-X006') return 400
  return error.code.startsWith('HF-S') ? 503 : 409
}
const fail = (reply: FastifyReply, status: number, code: string, text: string, hint = '') =>
  reply.code(status).send({ error: { code, text, hint } })

const givenTo = (route: Route, request: FastifyRequest): Given => {
  const read = (part: 'params' | 'query' | 'body') => {
    const result = route[part].safeParse(request[part] ?? {})
    if (result.success) return result.data
    const [issue] = result.error.issues
    const where = issue?.path.length ? `${issue.path.join('.')}: ` : ''
    throw new Failure('HF-X006', `${where}${issue?.message ?? 'not understood'}`)
  }
  return { params: read('params'), query: read('query'), body: read('body') }
}

/** Writes until the far side hangs up. The head goes out at once: a silent plant is not a silent agent. */
const startTap = (view: AgentView, pattern: string, out: ServerResponse, done: () => void) => {
  out.writeHead(200, { 'content-type': 'application/x-ndjson' })
  out.flushHeaders()
  let skipped = 0
  const end = view.tap((points: readonly TapPoint[]) => {
    let lines = ''
    for (const point of points) {
      if (!meansSeries(pattern, point)) continue
      if (out.writableLength + lines.length > tapBytesWaitingMax) skipped++
      else lines += `${JSON.stringify(tapJson(point))}\n`
    }
    if (skipped > 0 && out.writableLength === 0) {
      lines += `${JSON.stringify({ skipped })}\n`
      skipped = 0
    }
    if (lines !== '') out.write(lines)
  })
  out.once('close', () => {
    end()
    done()
  })
}

const addRoutes = (app: FastifyInstance, { view, log }: ControlSocketOptions) => {
  let taps = 0
  for (const route of routes) {
    const { work } = route
    app.route({
      method: route.method.toUpperCase() as 'GET' | 'POST',
      url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
      exposeHeadRoute: false,
      bodyLimit: route.bodyBytesMax ?? bodyBytesMax,
      handler: async (request, reply) => {
        const given = givenTo(route, request)
        if (work !== null) {
          const answer = await work(view, given)
          if (route.answer === 'text') reply.type('text/plain; version=0.0.4; charset=utf-8')
          return answer
        }
        if (taps >= tapsMax)
          throw new Failure('HF-X007', `${tapsMax} taps are open already`, 'close one')
        taps++
        reply.hijack()
        startTap(view, String(given.query.series), reply.raw, () => taps--)
        return reply
      },
    })
  }
  app.setNotFoundHandler((request, reply) =>
    fail(
      reply,
      404,
      'HF-X404',
      `there is no ${request.method} ${request.url}`,
      'see /openapi.json',
    ),
  )
  app.setErrorHandler((error, _request, reply) => {
    if (isFailure(error)) return fail(reply, statusOf(error), error.code, error.message, error.hint)
    const status = (error as { statusCode?: number }).statusCode ?? 500
    if (status >= 500) log.error('control request failed', { error })
    return fail(reply, status, status < 500 ? 'HF-X006' : 'HF-X008', textOf(error))
  })
}

const someoneAnswers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    const answer = (alive: boolean) => () => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', answer(true))
    socket.once('error', answer(false))
  })

export const openControlSocket = async (options: ControlSocketOptions): Promise<ControlSocket> => {
  const { path } = options
  if (Buffer.byteLength(path) > socketPathBytesMax)
    throw new Failure(
      'HF-X009',
      `the control socket's path is longer than ${socketPathBytesMax} bytes: ${path}`,
      'set agent.state_dir to a shorter path',
    )
  mkdirSync(dirname(path), { recursive: true })
  if (await someoneAnswers(path))
    throw new Failure(
      'HF-X010',
      `another agent answers on ${path}`,
      'stop it, or give this one its own agent.state_dir',
    )
  rmSync(path, { force: true })
  const app = fastify({
    logger: false,
    bodyLimit: bodyBytesMax,
    forceCloseConnections: true,
    schemaController,
  })
  addRoutes(app, options)
  await app.ready()
  app.server.maxConnections = connectionsMax
  // The socket never exists with wider rights: the mask holds from bind on.
  const mask = process.umask(0o117)
  try {
    app.server.listen({ path })
  } finally {
    process.umask(mask)
  }
  await once(app.server, 'listening')
  chmodSync(path, 0o660)
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await app.close()
      rmSync(path, { force: true })
    },
  }
}
