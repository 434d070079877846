/**
 * `npm test [-- SUITE…]`: runs exactly the suites named (all of them without a name), says first what it will do, last what it did.
 * An unknown name or a suite without tests fails; a skip is listed loudly, and fails where HOLDFAST_TEST_STRICT=1.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { join } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { cacheFolder, findTool } from '../test/support/debian.ts'
import { prepareMachines } from '../test/support/machine.ts'

interface Suite {
  readonly about: string
  /** Cold, on a quiet machine of two cores. */
  readonly seconds: number
  /** Programs of Debian packages the suite meets: [program, package, place inside the package]. */
  readonly tools: readonly (readonly [string, string, string?])[]
  /** Test files at once: heavy suites measure nothing, but share two cores. */
  readonly concurrency: number
  /** Folders under test/ whose tests it runs beside those of its own. */
  readonly also?: readonly string[]
  /** Fetches what else it needs, before its tests begin. */
  readonly prepare?: () => void
}
const postgres = ['postgres', 'postgresql-15', '/usr/lib/postgresql/15/bin/postgres'] as const
const pgbouncer = ['pgbouncer', 'pgbouncer'] as const
const mosquitto = ['mosquitto', 'mosquitto'] as const
const influxd = ['influxd', 'influxdb', '/usr/bin/influxd'] as const
const promtool = ['promtool', 'prometheus', '/usr/bin/promtool'] as const
const etcd = ['etcd', 'etcd-server', '/usr/bin/etcd'] as const
const patroni = ['patroni', 'patroni', '/usr/bin/patroni'] as const
const shells = [
  ['zsh', 'zsh', '/bin/zsh'],
  ['fish', 'fish', '/usr/bin/fish'],
  ['mandoc', 'mandoc', '/usr/bin/mandoc'],
] as const
const victoria = ['victoria-metrics', 'victoria-metrics', '/usr/bin/victoria-metrics'] as const
const prometheus = ['prometheus', 'prometheus', '/usr/bin/prometheus'] as const
const suites: Readonly<Record<string, Suite>> = {
  unit: {
    about: 'types, style, every room alone',
    seconds: 100,
    tools: [mosquitto],
    concurrency: 2,
  },
  contract: {
    about:
      'stores, destinations, alerts, shells: real PostgreSQL, PgBouncer, InfluxDB 1, VictoriaMetrics, Prometheus, zsh, fish; stand-ins for InfluxDB 2 and 3, GreptimeDB, TDengine',
    seconds: 240,
    tools: [postgres, pgbouncer, influxd, victoria, prometheus, promtool, ...shells],
    concurrency: 2,
    also: ['standins'],
  },
  model: {
    about: 'the spool in lockstep with a naive twin',
    seconds: 15,
    tools: [],
    concurrency: 2,
  },
  reduce: {
    about:
      'rules, windows and routes against naive ones, in any order, restarted anywhere; their mutants. A release tries ten times as many signals',
    seconds: 110,
    tools: [],
    concurrency: 2,
  },
  sim: { about: '2,000 simulated lives and the mutants', seconds: 245, tools: [], concurrency: 1 },
  fault: {
    about:
      'full disks, failing fsync, killed brokers, a Patroni cluster that fails over, safe mode, doctor, bundle',
    seconds: 310,
    tools: [mosquitto, postgres, etcd, patroni],
    concurrency: 2,
  },
  promises: {
    about: 'every sentence of the promise, and both demos, end to end',
    seconds: 310,
    tools: [postgres, pgbouncer, mosquitto],
    concurrency: 2,
  },
  systemd: {
    about:
      'the Debian package in a real systemd, booted by systemd-nspawn: its whole life, a technician, trouble (root). A release boots the arm64 one too, emulated',
    seconds: 200,
    tools: [],
    concurrency: 1,
    prepare: prepareMachines,
  },
}

const strict = process.env.HOLDFAST_TEST_STRICT === '1'
const say = (text: string) => process.stdout.write(`${text}\n`)
const fail = (text: string): never => {
  process.stderr.write(`${text}\n`)
  process.exit(1)
}

const startedAt = process.hrtime.bigint()
const names = process.argv.slice(2).filter((one) => !one.startsWith('--'))
const release = process.argv.includes('--release')
for (const name of names) {
  if (!(name in suites)) fail(`no suite "${name}"; there are: ${Object.keys(suites).join(' ')}`)
}
if (release) {
  process.env.HOLDFAST_TEST_RELEASE = '1'
  process.env.HOLDFAST_TEST_SEED ??= 'random'
}
const chosen = Object.entries(suites).filter(([name]) => names.length === 0 || names.includes(name))

const tools = new Map(
  chosen.flatMap(([, suite]) => suite.tools.map((tool) => [tool[0], tool] as const)),
)
const minutes = Math.ceil(chosen.reduce((sum, [, suite]) => sum + suite.seconds, 0) / 60)
const inputs = process.env.HOLDFAST_TEST_DATA
  ? `recordings in ${process.env.HOLDFAST_TEST_DATA}`
  : 'generated input (HOLDFAST_TEST_DATA is unset)'
say(
  `holdfast tests: ${chosen.map(([name]) => name).join(' ')}; about ${release ? 'hours' : `${minutes} minutes`}; ${inputs}; servers used: ${[...tools.keys()].join(' ') || 'none'}, ` +
    `those not on the PATH are unpacked from Debian's packages into ${cacheFolder()} (up to 170 MB, once), for systemd a Debian root too (60 MB to fetch, 250 MB on disk); nothing is installed`,
)
for (const [name, suite] of chosen) say(`  ${name.padEnd(10)} ${suite.about}`)

const skipped: string[] = []
for (const [program, packageName, place] of tools.values()) {
  try {
    findTool(program, packageName, place)
  } catch (error) {
    // Its tests will skip, loudly.
    say(
      `  ${program} could not be had: ${error instanceof Error ? error.message.split('\n')[0] : error}`,
    )
  }
}

for (const [name, { prepare }] of chosen) {
  try {
    prepare?.()
  } catch (error) {
    say(`  ${name}: ${error instanceof Error ? error.message.split('\n')[0] : error}`)
  }
}

let passed = 0
let failed = 0
const runSuite = async (name: string, suite: Suite): Promise<void> => {
  const files = [name, ...(suite.also ?? [])]
    .flatMap((folder) => globSync(`test/${folder}/**/*.test.ts`))
    .sort()
  if (files.length === 0) fail(`suite ${name} has no tests`)
  const before = passed
  const events = run({
    files: files.map((file) => join(process.cwd(), file)),
    concurrency: suite.concurrency,
    timeout: 40 * 60_000,
    execArgv: ['--import', join(process.cwd(), 'test/support/seed.ts')],
  })
  events.on('test:pass', ({ name: title, skip, details, file }) => {
    if (skip !== undefined && skip !== false)
      skipped.push(`${name}: ${title}${typeof skip === 'string' ? ` (${skip})` : ''}`)
    else if (details.type !== 'suite' && title !== file) passed++
  })
  events.on('test:fail', ({ details }) => {
    if (details.type !== 'suite') failed++
  })
  events.compose(new spec()).pipe(process.stdout, { end: false })
  await new Promise((resolve) => events.once('end', resolve))
  if (passed === before && failed === 0) fail(`suite ${name} ran no test`)
}

if (chosen.some(([name]) => name === 'unit')) {
  for (const [command, args] of [
    ['tsc', ['--noEmit']],
    ['biome', ['check', '.']],
  ] as const) {
    if (!existsSync(`node_modules/.bin/${command}`)) fail(`${command} is not installed`)
    try {
      execFileSync(`node_modules/.bin/${command}`, args, { stdio: 'inherit' })
      passed++
    } catch {
      failed++
      say(`✖ ${command} ${args.join(' ')}`)
    }
  }
}
const elapsed = () => Math.round(Number(process.hrtime.bigint() - startedAt) / 1e9)
const times: string[] = []
for (const [name, suite] of chosen) {
  const from = elapsed()
  await runSuite(name, suite)
  times.push(`${name} ${elapsed() - from} s`)
}

if (skipped.length > 0) {
  say(`\n!! ${skipped.length} NOT RUN:`)
  for (const one of skipped) say(`!!   ${one}`)
  if (strict) say('!! HOLDFAST_TEST_STRICT=1: a skipped test is a failure')
}
const verdict = failed === 0 && (skipped.length === 0 || !strict)
say(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped`)
say(
  `holdfast tests: ${verdict ? 'green' : 'RED'}; ${inputs}; ${times.join(', ')}; ${elapsed()} s in all`,
)
process.exitCode = verdict ? 0 : 1
