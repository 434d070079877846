/**
 * `npm run package:deb -- --verify`: a built package is what it says, and its program runs.
 *
 * Invariants: whatever could not be tried on this machine is said, never counted as good; leaves no file and no process.
 * `HOLDFAST_RUNNER` (such as `qemu-aarch64-static -L SYSROOT`) stands before Node where the package is for another machine;
 * the release tests bring their own.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { maintainer } from './package-documents.ts'
import { type Architecture, nativeArchitecture } from './package-parts.ts'

const bytesMax = 45e6
const runMs = 10_000
const points = 3

interface Trial {
  readonly arch: Architecture
  readonly file: string
  /** Where the package is unpacked. */
  readonly root: string
  readonly folder: string
  /** What runs programs of another machine; none: they are skipped. */
  readonly runner: readonly string[]
  readonly rebuild: ((output: string) => Promise<string>) | undefined
}
/** Text: what was seen; `skipped` where this machine cannot try it; throws when it is wrong. */
type Check = (trial: Trial) => string | Skipped | Promise<string | Skipped>
interface Skipped {
  readonly skipped: string
}

const expect = (good: boolean, text: string): void => {
  if (!good) throw new Error(text)
}
const tool = (command: string, args: readonly string[], more: object = {}): string =>
  execFileSync(command, args, { encoding: 'utf8', timeout: 120_000, stdio: 'pipe', ...more })
const hasTool = (name: string): boolean =>
  (process.env.PATH ?? '').split(':').some((folder) => globSync(join(folder, name)).length > 0)
/** The command that runs the packaged program, or why there is none. */
const runner = ({ arch, root, runner: given }: Trial): readonly string[] | Skipped => {
  const library = join(root, 'usr/lib/holdfast')
  if (arch === nativeArchitecture) return [join(root, 'usr/bin/holdfast')]
  return given.length > 0
    ? [...given, join(library, 'bin/node'), join(library, 'agent.mjs')]
    : { skipped: `this machine does not run ${arch}; HOLDFAST_RUNNER is not set` }
}
const isSkipped = (value: unknown): value is Skipped =>
  typeof value === 'object' && value !== null && 'skipped' in value

const size: Check = ({ file }) => {
  const { size } = statSync(file)
  expect(size <= bytesMax, `${size} bytes, more than ${bytesMax}`)
  return `${(size / 1e6).toFixed(1)} MB`
}
const sameBytes: Check = async ({ file, folder, rebuild }) => {
  if (rebuild === undefined) return { skipped: 'not asked for' }
  const again = await rebuild(join(folder, 'again'))
  expect(readFileSync(again).equals(readFileSync(file)), 'two builds differ')
  return 'two builds, the same bytes'
}
/** What `Depends` promises to be there: glibc 2.34 and the libstdc++ of GCC 11. */
const librariesMax = { GLIBC: '2.34', GLIBCXX: '3.4.29' } as const
const isLater = (one: string, than: string): boolean =>
  one.localeCompare(than, undefined, { numeric: true }) > 0
/** The binaries ask for no symbol of a later library than that; at least one asks for that. */
const libraries: Check = ({ root }) => {
  const files = globSync(['**/*.node', 'usr/lib/holdfast/bin/node'], { cwd: root })
  const asked = { GLIBC: '0', GLIBCXX: '0' }
  for (const file of files) {
    const text = readFileSync(join(root, file), 'latin1')
    for (const [, library, version = ''] of text.matchAll(/\b(GLIBC|GLIBCXX)_(\d+(?:\.\d+)+)\0/g)) {
      const name = library as keyof typeof asked
      expect(!isLater(version, librariesMax[name]), `${file} asks for ${name} ${version}`)
      if (isLater(version, asked[name])) asked[name] = version
    }
  }
  expect(isDeepStrictEqual(asked, librariesMax), `asked for: ${JSON.stringify(asked)}`)
  return `glibc ${asked.GLIBC}, libstdc++ ${asked.GLIBCXX}, and no later`
}
const contents: Check = ({ arch, file, root }) => {
  const control = tool('dpkg-deb', ['-I', file])
  for (const line of [`Architecture: ${arch}`, `Maintainer: ${maintainer}`])
    expect(control.includes(` ${line}\n`), `control does not say ${line}`)
  const lines = tool('dpkg-deb', ['-c', file]).trim().split('\n')
  const odd = lines.filter((line) => !/^(drwxr-xr-x|-rwxr-xr-x|-rw-r--r--) root\/root /.test(line))
  expect(odd.length === 0, `not root's, or odd rights:\n${odd.join('\n')}`)
  const natives = globSync('**/*.node', { cwd: root })
  expect(natives.length === 2, `native modules: ${natives.join(', ')}`)
  tool('bash', ['-n', join(root, 'usr/share/bash-completion/completions/holdfast')])
  return `${lines.length} entries, 2 native modules`
}
const manualPage: Check = ({ root }) => {
  if (!hasTool('man')) return { skipped: 'no man here' }
  for (const page of ['man1/holdfast.1.gz', 'man5/holdfast.yaml.5.gz']) {
    const shown = `man --warnings -l ${join(root, 'usr/share/man', page)} 2>&1 >/dev/null`
    const seen = tool('sh', ['-c', `LC_ALL=C.UTF-8 MANWIDTH=200 ${shown}`])
    expect(seen === '', seen)
  }
  return '2 pages, no warnings'
}
const exposure: Check = ({ root }) => {
  if (!hasTool('systemd-analyze')) return { skipped: 'no systemd-analyze here' }
  const levels = ['holdfast', 'holdfast-regional'].map((name) => {
    const unit = join(root, `usr/lib/systemd/system/${name}.service`)
    const said = tool('systemd-analyze', ['security', '--offline=true', '--threshold=15', unit])
    return /level for .*: ([\d.]+)/.exec(said)?.[1]
  })
  return `agent ${levels[0]}, regional ${levels[1]} (at most 1.5)`
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}
const program: Check = (trial) => {
  const command = runner(trial)
  if (isSkipped(command)) return command
  const [first = '', ...rest] = command
  const config = join(trial.root, 'etc/holdfast/holdfast.yaml')
  const env = { ...process.env, STATE_DIRECTORY: join(trial.folder, 'checked') }
  const verdict = tool(first, [...rest, 'check', '--json', '--config', config], { env })
  expect((JSON.parse(verdict) as { ok: boolean }).ok, verdict)
  return `${tool(first, [...rest, 'version']).trim()}; its configuration is valid`
}

const writePoints = async (port: number, deadlineMs: number): Promise<void> => {
  const lines = Array.from({ length: points }, (_, at) => `plant value=${at} ${at + 1}000000`)
  const given = { method: 'POST', body: lines.join('\n') }
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/write`, given).catch(() => undefined)
    if (answer?.ok) return
    if (performance.now() > deadlineMs) throw new Error(`no ack: ${answer?.status}`)
    await sleep(100)
  }
}
/** Ten seconds with a source and lz4, so that both native modules are used; then SIGTERM, and what lies in the spool. */
const run: Check = async (trial) => {
  const command = runner(trial)
  if (isSkipped(command)) return command
  const { folder, root } = trial
  const [port, state] = [await freePort(), join(folder, 'state')]
  mkdirSync(state)
  const config = join(folder, 'run.yaml')
  const text = readFileSync(join(root, 'etc/holdfast/holdfast.yaml'), 'utf8')
    .replace('sources: []', `sources: [{name: http, type: http, listen: '127.0.0.1:${port}'}]`)
    .replace(/^spool:$/m, 'spool:\n  compression: lz4')
  writeFileSync(config, text)
  const [first = '', ...rest] = command
  const env = { ...process.env, STATE_DIRECTORY: state }
  const begunMs = performance.now()
  const agent = spawn(first, [...rest, 'run', '--config', config], {
    env,
    stdio: ['ignore', 2, 'pipe'],
  })
  const ended = once(agent, 'exit')
  let said = ''
  agent.stderr?.on('data', (bytes: Buffer) => {
    said += bytes.toString()
  })
  try {
    await writePoints(port, begunMs + 60_000)
    const tookMs = Math.round(performance.now() - begunMs)
    await sleep(runMs)
    agent.kill('SIGTERM')
    const [code] = await Promise.race([ended, sleep(20_000, ['no end'], { ref: false })])
    expect(code === 0, `exit ${code}\n${said}`)
    expect(!/"level":"(error|fatal)"/.test(said), said)
    const library = join(root, 'usr/lib/holdfast')
    const node =
      trial.arch === nativeArchitecture ? [join(library, 'bin/node')] : command.slice(0, -1)
    const [bin = '', ...before] = node
    const unsent = tool(bin, [...before, join(library, 'unsent.mjs'), config, state])
    expect(Number(unsent) === points, `unsent: ${unsent.trim()}, not ${points}`)
    return `first ack after ${tookMs} ms, exit 0, ${points} points in the spool`
  } finally {
    agent.kill('SIGKILL')
  }
}
const lifeCycle: Check = async ({ arch, file }) => {
  if (arch !== nativeArchitecture) return { skipped: `this machine does not install ${arch}` }
  if (process.getuid?.() !== 0) return { skipped: 'needs root' }
  const script = join(import.meta.dirname, 'package-life.sh')
  const port = String(await freePort())
  tool('unshare', ['--mount', '--propagation=private', 'sh', script, file, port])
  return 'install, kill, upgrade, remove, purge refused, purge; systemd did not run'
}

const checks: readonly (readonly [string, Check])[] = [
  ['size', size],
  ['contents', contents],
  ['libraries', libraries],
  ['manual', manualPage],
  ['exposure', exposure],
  ['program', program],
  ['run', run],
  ['life cycle', lifeCycle],
  ['reproducible', sameBytes],
]

export interface Seen {
  readonly name: string
  readonly outcome: 'ok' | 'SKIPPED' | 'FAILED'
  readonly text: string
}
const outcomeOf = async (name: string, check: Check, trial: Trial): Promise<Seen> => {
  try {
    const seen = await check(trial)
    if (isSkipped(seen)) return { name, outcome: 'SKIPPED', text: seen.skipped }
    return { name, outcome: 'ok', text: seen }
  } catch (error) {
    const { message, stderr = '' } = error as Error & { stderr?: string }
    return { name, outcome: 'FAILED', text: `${message}\n${stderr}` }
  }
}

/** Runs the checks named (all unless given), prints a line each, and says what was seen. */
export const verifyDeb = async (
  arch: Architecture,
  file: string,
  options: Partial<Pick<Trial, 'runner' | 'rebuild'>> & { readonly only?: readonly string[] },
): Promise<readonly Seen[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-verify-'))
  const root = join(folder, 'root')
  const runner = options.runner ?? process.env.HOLDFAST_RUNNER?.split(' ') ?? []
  const all: Seen[] = []
  try {
    tool('dpkg-deb', ['-x', file, root])
    for (const [name, check] of checks) {
      if (options.only?.includes(name) === false) continue
      const trial = { arch, file, root, folder, runner, rebuild: options.rebuild }
      const seen = await outcomeOf(name, check, trial)
      process.stdout.write(`${seen.outcome.padEnd(8)} ${name.padEnd(13)} ${seen.text}\n`)
      all.push(seen)
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  return all
}
