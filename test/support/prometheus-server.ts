/** A real Prometheus on a free loopback port, taking remote writes or scraping, and what it holds. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
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
  /** What its API answers to a path below /api/v1: `data` of the answer; rejects with its error. */
  readonly ask: (path: string, given: Readonly<Record<string, string>>) => Promise<unknown>
}
export interface PrometheusOptions {
  /** Such as `1h`; without it samples must come in order. */
  readonly outOfOrderWindow?: string
  /** False: remote write is not switched on. */
  readonly receiver?: boolean
  /** Only `prometheusUser` may do anything. */
  readonly login?: boolean
  /** Asked for their metrics every second: HOST:PORT by the name of the job. */
  readonly scrape?: Readonly<Record<string, string>>
  /** A file of rules, evaluated every second. */
  readonly rules?: string
}
/** Far enough for any test's times, near enough for a range query. */
const lookBackMs = 3_600_000

export const startPrometheus = async (options: PrometheusOptions = {}): Promise<Prometheus> => {
  const tool = findTool('prometheus', 'prometheus', '/usr/bin/prometheus')
  const folder = ownFolder('prom')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const window = options.outOfOrderWindow
  const jobs = Object.entries(options.scrape ?? {}).map(([name, target]) => ({
    job_name: name,
    static_configs: [{ targets: [target] }],
  }))
  const config = ownFile(
    join(folder, 'prometheus.yml'),
    stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      ...(options.rules === undefined
        ? {}
        : {
            rule_files: [ownFile(join(folder, 'rules.yaml'), readFileSync(options.rules, 'utf8'))],
          }),
      ...(jobs.length === 0 ? {} : { scrape_configs: jobs }),
      ...(window === undefined ? {} : { storage: { tsdb: { out_of_order_time_window: window } } }),
    }),
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
  const ask: Prometheus['ask'] = async (path, given) => {
    const at = `${url}/api/v1/${path}`
    const body = new URLSearchParams(given)
    const answer = path.startsWith('query')
      ? await fetch(at, { method: 'POST', headers: { authorization }, body })
      : await fetch(`${at}?${body}`, { headers: { authorization } })
    const { data, error } = (await answer.json()) as { data?: unknown; error?: string }
    if (data === undefined) throw new Error(`${JSON.stringify(given)}: ${error}`)
    return data
  }
  return {
    ...served,
    url,
    ask,
    samples: async (match) => {
      const query = `${match}[${Math.ceil(lookBackMs / 1_000)}s]`
      const { result } = (await ask('query', {
        query,
        time: String(Date.now() / 1_000 + 60),
      })) as { result: { metric: Record<string, string>; values: [number, string][] }[] }
      return result.flatMap(({ metric, values }) =>
        values.map(([seconds, value]) => ({
          labels: metric,
          ms: Math.round(seconds * 1_000),
          value,
        })),
      )
    },
  }
}
