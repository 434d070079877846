/**
 * A real QuestDB from Maven Central in a temporary folder on loopback: a jar with a main class, run by the Java of this
 * machine. Without `java`, or without `mvn` and the jar, its tests say so and are skipped.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, type Running, start } from './processes.ts'
import { ownFile, ownFolder, type Server, serve } from './servers.ts'

export const questdbVersion = '9.3.4'
const jar = join(
  homedir(),
  `.m2/repository/org/questdb/questdb/${questdbVersion}/questdb-${questdbVersion}.jar`,
)
const isOnPath = (program: string) =>
  (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)))
/** What keeps a real one from being met; false: nothing. For `skip`. */
export const questdbMissing: string | false = !isOnPath('java')
  ? 'NOT TESTED, no real QuestDB: there is no java on the PATH'
  : !existsSync(jar) && !isOnPath('mvn')
    ? 'NOT TESTED, no real QuestDB: there is no mvn on the PATH to get it with'
    : false
/** By Maven itself, into its own cache. */
const fetchJar = () => {
  if (existsSync(jar)) return
  const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get'
  const artifact = `-Dartifact=org.questdb:questdb:${questdbVersion}`
  execFileSync('mvn', ['-B', '-q', '-ntp', plugin, artifact, '-Dtransitive=false'], {
    stdio: 'ignore',
    timeout: 300_000,
  })
}

/** What a person pastes into its console, one by one. */
export const statementsOf = (plan: string): readonly string[] =>
  plan
    .replaceAll(/^--.*$/gm, '')
    .split(';')
    .map((one) => one.trim())
    .filter((one) => one !== '')

export interface Questdb extends Server {
  readonly url: string
  readonly user: { readonly username: string; readonly password: string }
  /** Rows of an answer, after everything written is visible. */
  readonly query: (text: string) => Promise<readonly (readonly unknown[])[]>
  readonly points: () => Promise<number>
}
export const startQuestdb = async (): Promise<Questdb> => {
  fetchJar()
  const folder = ownFolder('questdb')
  const port = await freePort()
  const user = { username: 'holdfast', password: 'holdfast-test-password' }
  mkdirSync(join(folder, 'conf'))
  ownFile(
    join(folder, 'conf/server.conf'),
    [
      `http.bind.to=127.0.0.1:${port}`,
      `http.user=${user.username}\nhttp.password=${user.password}`,
      'http.min.enabled=false\npg.enabled=false\nline.tcp.enabled=false\ntelemetry.enabled=false',
      'shared.worker.count=1\ncairo.max.uncommitted.rows=50000',
      '',
    ].join('\n'),
  )
  const url = `http://127.0.0.1:${port}`
  const authorization = `Basic ${btoa(`${user.username}:${user.password}`)}`
  const ask = (text: string) =>
    fetch(`${url}/exec?${new URLSearchParams({ query: text })}`, { headers: { authorization } })
  const launch = () =>
    start('java', ['-Xmx512m', '-p', jar, '-m', 'io.questdb/io.questdb.ServerMain', '-d', folder], {
      env: { HOME: folder },
      cwd: folder,
    })
  const served = await serve(port, folder, launch, async (running: Running) => {
    for (let tries = 0; ; tries++) {
      const good = await ask('select 1').then(
        ({ ok }) => ok,
        () => false,
      )
      if (good) return
      if (tries > 600) throw new Error(`QuestDB does not answer: ${running.output()}`)
      await sleep(100)
    }
  })
  const query = async (text: string): Promise<readonly (readonly unknown[])[]> => {
    const answer = (await (await ask(text)).json()) as {
      error?: string
      dataset?: unknown[][]
    }
    if (answer.error !== undefined) throw new Error(`${text}: ${answer.error}`)
    return answer.dataset ?? []
  }
  /** Writes become visible once the log is applied. */
  const applied = async () => {
    const behind = 'select name from wal_tables() where writerTxn < sequencerTxn'
    for (let tries = 0; (await query(behind)).length > 0; tries++) {
      if (tries > 300) throw new Error('QuestDB does not apply its log')
      await sleep(50)
    }
  }
  return {
    ...served,
    url,
    user,
    query: async (text) => {
      await applied()
      return await query(text)
    },
    points: async () => {
      await applied()
      return Number((await query('select count() from points'))[0]?.[0])
    },
  }
}
