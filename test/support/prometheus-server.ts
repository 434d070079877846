/** A real Prometheus on a free loopback port, taking remote writes, and what it holds. */
import { join } from 'node:path'
import { findTool } from './debian.ts'
import { answers } from './influx-servers.ts'
import { freePort, start } from './processes.ts'
import { ownFile, ownFolder, type Server, serve } from './servers.ts'

export const prometheusUser = { username: 'holdfast', password: 'holdfast-test-password' } as const
const authorization = `Basic ${btoa(`${prometheusUser.username}:${prometheusUser.password}`)}`
/** bcrypt of that password. */
const passwordHash = '$2b$04$irDlOel5Il7gXN4YGgjLMOgDLQmKwEbPrQSM0JC6DBTOegTcWaWFS'

export interface Prometheus extends Server {
  readonly url: string
  /** Every sample of the series that match: labels, milliseconds, the value's text. */
  readonly samples: (
    match: string,
  ) => Promise<readonly { labels: Record<string, string>; ms: number; value: string }[]>
}
export interface PrometheusOptions {
  /** Such as `1h`; without it samples must come in order. */
  readonly outOfOrderWindow?: string
  /** False: remote write is not switched on. */
  readonly receiver?: boolean
  /** Only `prometheusUser` may do anything. */
  readonly login?: boolean
}
/** Far enough for any test's times, near enough for a range query. */
const lookBackMs = 3_600_000

export const startPrometheus = async (options: PrometheusOptions = {}): Promise<Prometheus> => {
  const tool = findTool('prometheus', 'prometheus', '/usr/bin/prometheus')
  const folder = ownFolder('prom')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const window = options.outOfOrderWindow
  const config = ownFile(
    join(folder, 'prometheus.yml'),
    window === undefined
      ? 'global: {}\n'
      : `storage:\n  tsdb:\n    out_of_order_time_window: ${window}\n`,
  )
  const web = ownFile(
    join(folder, 'web.yml'),
    `basic_auth_users: {${prometheusUser.username}: '${passwordHash}'}\n`,
  )
  const launch = () =>
    start(
      tool.path,
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${folder}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=error',
        ...(options.login ? [`--web.config.file=${web}`] : []),
        ...(options.receiver === false ? [] : ['--web.enable-remote-write-receiver']),
      ],
      { env: { ...tool.env, HOME: folder }, unprivileged: true, cwd: folder },
    )
  const served = await serve(port, folder, launch, answers(`${url}/-/ready`, { authorization }))
  return {
    ...served,
    url,
    samples: async (match) => {
      const query = `${match}[${Math.ceil(lookBackMs / 1_000)}s]`
      const time = String(Date.now() / 1_000 + 60)
      const answer = await fetch(`${url}/api/v1/query`, {
        method: 'POST',
        headers: { authorization },
        body: new URLSearchParams({ query, time }),
      })
      const body = (await answer.json()) as {
        data?: { result: { metric: Record<string, string>; values: [number, string][] }[] }
        error?: string
      }
      if (body.data === undefined) throw new Error(`${query}: ${body.error}`)
      return body.data.result.flatMap(({ metric, values }) =>
        values.map(([seconds, value]) => ({
          labels: metric,
          ms: Math.round(seconds * 1_000),
          value,
        })),
      )
    },
  }
}
