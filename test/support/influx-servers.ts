/** Real InfluxDB 1 and VictoriaMetrics on free loopback ports, in temporary folders, and what they hold. */
import { join } from 'node:path'
import { gapsMeasurement } from '../../src/destinations/influx-losses.ts'
import { findTool } from './debian.ts'
import { freePort, type Running, start } from './processes.ts'
import { ownFile, ownFolder, type Server, serve } from './servers.ts'

export const answers =
  (url: string, headers: Record<string, string> = {}) =>
  async (running: Running) => {
    for (let tries = 0; ; tries++) {
      const good = await fetch(url, { headers }).then(
        ({ ok }) => ok,
        () => false,
      )
      if (good) return
      if (tries > 400) throw new Error(`${url} does not answer: ${running.output()}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

export const influxUser = { username: 'holdfast', password: 'holdfast-test-password' } as const
const authorization = `Basic ${btoa(`${influxUser.username}:${influxUser.password}`)}`

export interface Influx extends Server {
  readonly url: string
  /** Rows of the first series of the answer, times in microseconds. */
  readonly query: (text: string, database?: string) => Promise<readonly (readonly unknown[])[]>
  /** Measurement, time and value of every point with a field `value`. */
  readonly points: (database: string) => Promise<readonly (readonly [string, number, unknown])[]>
  /** Points of all fields of a database, gap records apart. */
  readonly count: (database: string) => Promise<number>
}
/** With one user, who may do everything; without a password nobody may write. */
export const startInflux = async (bodyBytesMax = 25_000_000): Promise<Influx> => {
  const tool = findTool('influxd', 'influxdb', '/usr/bin/influxd')
  const folder = ownFolder('influx')
  const [port, rpc] = [await freePort(), await freePort()]
  const config = ownFile(
    join(folder, 'influxdb.conf'),
    [
      'reporting-disabled = true',
      `bind-address = "127.0.0.1:${rpc}"`,
      `[meta]\n  dir = "${folder}/meta"`,
      `[data]\n  dir = "${folder}/data"\n  wal-dir = "${folder}/wal"`,
      `[http]\n  bind-address = "127.0.0.1:${port}"\n  auth-enabled = true\n  log-enabled = false`,
      `  max-body-size = ${bodyBytesMax}`,
      '[monitor]\n  store-enabled = false',
      '',
    ].join('\n'),
  )
  const url = `http://127.0.0.1:${port}`
  const launch = () =>
    start(tool.path, ['run', '-config', config], {
      env: { ...tool.env, HOME: folder },
      unprivileged: true,
      cwd: folder,
    })
  const served = await serve(port, folder, launch, answers(`${url}/ping`))
  const results = async (q: string, db = '') => {
    const answer = await fetch(`${url}/query?${new URLSearchParams({ db, epoch: 'u' })}`, {
      method: 'POST',
      headers: { authorization },
      body: new URLSearchParams({ q }),
    })
    const body = (await answer.json()) as {
      error?: string
      results?: { error?: string; series?: { name: string; values: unknown[][] }[] }[]
    }
    const [first] = body.results ?? []
    const error = body.error ?? first?.error
    if (error !== undefined) throw new Error(`${q}: ${error}`)
    return first?.series ?? []
  }
  await results(
    `CREATE USER ${influxUser.username} WITH PASSWORD '${influxUser.password}' WITH ALL PRIVILEGES`,
  )
  return {
    ...served,
    url,
    query: async (text, database) => (await results(text, database))[0]?.values ?? [],
    points: async (database) => {
      const all = await results('SELECT "value" FROM /.*/', database)
      return all.flatMap(({ name, values }) =>
        values.map(([timeUs, value]) => [name, Number(timeUs), value] as const),
      )
    },
    count: async (database) => {
      const all = await results('SELECT count(*) FROM /.*/', database)
      return all
        .filter(({ name }) => name !== gapsMeasurement)
        .flatMap(({ values }) => values.flatMap(([, ...counts]) => counts))
        .reduce<number>((sum, one) => sum + Number(one), 0)
    },
  }
}

export interface Victoria extends Server {
  readonly url: string
  /** Every sample of a database: name, milliseconds, value. */
  readonly samples: (database: string) => Promise<readonly (readonly [string, number, number])[]>
  /** Every series, whatever its database: labels and times in milliseconds. */
  readonly series: () => Promise<readonly VictoriaSeries[]>
}
export interface VictoriaSeries {
  readonly metric: Readonly<Record<string, string>>
  readonly timestamps: readonly number[]
  readonly values: readonly number[]
}
export const startVictoria = async (): Promise<Victoria> => {
  const tool = findTool('victoria-metrics', 'victoria-metrics', '/usr/bin/victoria-metrics')
  const folder = ownFolder('vm')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const launch = () =>
    start(
      tool.path,
      [
        `-storageDataPath=${folder}/data`,
        `-httpListenAddr=127.0.0.1:${port}`,
        '-retentionPeriod=100y',
        '-dedup.minScrapeInterval=1ms',
        '-memory.allowedBytes=128MB',
      ],
      { env: tool.env, unprivileged: true, cwd: folder },
    )
  const served = await serve(port, folder, launch, answers(`${url}/health`))
  const series = async (match: string): Promise<readonly VictoriaSeries[]> => {
    await fetch(`${url}/internal/force_flush`)
    // Else it ends now.
    const end = String(Date.now() / 1_000 + 1_000_000)
    const query = new URLSearchParams({ 'match[]': match, end })
    const text = await (await fetch(`${url}/api/v1/export?${query}`)).text()
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }
  return {
    ...served,
    url,
    series: () => series('{__name__!=""}'),
    samples: async (database) =>
      (await series(`{db="${database}"}`)).flatMap(({ metric, values, timestamps }) =>
        values.map(
          (value, at) => [metric.__name__ as string, timestamps[at] as number, value] as const,
        ),
      ),
  }
}
