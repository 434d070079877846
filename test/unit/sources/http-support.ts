/** The HTTP door in a test: a real server on a free loopback port, with a spool that the test releases. */
import { EventEmitter, once } from 'node:events'
import { connect } from 'node:net'
import type { TestContext } from 'node:test'
import { valueAt } from '../../../src/batch.ts'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { createSystemHost, silentLog } from '../../../src/host.ts'
import type { GapReason, Intake, Loss, Value } from '../../../src/model.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import { httpSource } from '../../../src/sources/http.ts'

export interface Taken {
  readonly name: string
  readonly tags: readonly (readonly [string, string])[]
  readonly value: Value
  readonly timeUs: number
  readonly quality: number
}
export interface Door {
  readonly port: number
  readonly url: string
  readonly points: Taken[]
  readonly losses: Loss<GapReason>[]
  readonly errors: unknown[]
  /** What `emit` waits for; replaced by tests. */
  commit: (intake: Intake) => Promise<void>
  blocked: boolean
  /** Resolves when the door next logs this event. */
  readonly heard: (event: string) => Promise<unknown>
  readonly stop: () => Promise<void>
  readonly post: (
    path: string,
    body: string | Uint8Array<ArrayBuffer>,
    headers?: Record<string, string>,
  ) => Promise<Response>
}

export const openTestDoor = async (t: TestContext, config: object = {}): Promise<Door> => {
  const series = createSeriesTable({ agent: 'gw', seriesIdOf })
  const signal = new AbortController()
  const errors: unknown[] = []
  const events = new EventEmitter()
  const listening = once(events, 'source_listening').then(([{ port }]) => Number(port))
  const log = {
    ...silentLog,
    info: (event: string, fields: object = {}) => void events.emit(event, fields),
    error: (event: string, fields?: object) => errors.push({ event, ...fields }),
  }
  const source = httpSource.create(
    {
      ...{ host: createSystemHost({ log }), name: 'http', agent: 'gw', series },
      clock: () => ({ nowUs: 1, bootId: 'b', monotonicUs: 1, trusted: true }),
      kept: async () => null,
      blocked: () => door.blocked,
    },
    httpSource.config.parse({ type: 'http', listen: '127.0.0.1:0', ...config }),
  )
  const door: Door = {
    ...{ port: 0, url: '', points: [], losses: [], errors, blocked: false },
    commit: async () => {},
    heard: (event) => once(events, event),
    stop: async () => {
      signal.abort()
      await running
    },
    post: (path, body, headers = {}) =>
      fetch(`${door.url}${path}`, { method: 'POST', body, headers }),
  }
  const running = source.run(async (intake) => {
    await door.commit(intake)
    const { points, losses = [] } = intake
    for (let at = 0; at < points.count; at++) {
      const { name, tags } = series.entry(points.series[at] as number)
      const [timeUs, quality] = [points.timeUs[at] as number, points.qualities[at] as number]
      door.points.push({ name, tags, value: valueAt(points, at), timeUs, quality })
    }
    door.losses.push(...losses)
  }, signal.signal)
  const port = await Promise.race([listening, running.then(() => 0)])
  t.after(door.stop)
  const scheme = 'tls' in config ? 'https' : 'http'
  return Object.assign(door, { port, url: `${scheme}://127.0.0.1:${port}` })
}

/** Sends exactly these bytes; answers all that comes back until the far side, or `end`, closes. */
export const raw = (port: number, text: string, end = false): Promise<string> =>
  new Promise((resolve) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(text, 'latin1')
      if (end) socket.end()
    })
    socket.setEncoding('latin1')
    socket.on('data', (part) => {
      answer += part
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(answer))
  })
/** A promise and its key. */
export const gate = () => {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open: () => open() }
}
