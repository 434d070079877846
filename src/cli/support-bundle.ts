/**
 * `holdfast support-bundle`: one plain text file that says how this gateway is, for whoever helps from afar.
 *
 * Invariants: what it holds is listed before it is written; no secret is in it: values of secret names, everything the
 * configuration or the environment calls a secret, users in URLs and keys are masked, whichever part they turn up in;
 * no points and no samples of messages; what is not whole says so, in the list too; it changes nothing else.
 */
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, freemem, hostname, loadavg, release, totalmem, uptime } from 'node:os'
import { dirname, resolve } from 'node:path'
import { catalog } from '../config/catalog.ts'
import { loadConfig, openSource } from '../config/load.ts'
import type { AgentStatus } from '../control/view.ts'
import { exitCodes, Failure, isFailure, textOf } from '../errors.ts'
import { systemClock } from '../host.ts'
import { printable } from '../observability/printable.ts'
import { isSecretName, type Redactor } from '../observability/redact.ts'
import { version } from '../release.ts'
import { addKeyLines, configText, masked, secretsIn } from './bundle/mask.ts'
import { type CliContext, credentialsOf, isoText, stateDirOf } from './context.ts'
import { configNamed } from './doctor/apart.ts'
import type { Finding } from './doctor/finding.ts'
import { hear, said } from './doctor/said.ts'
import { examine } from './doctor.ts'
import { bytesText, table } from './format.ts'

interface BundleOptions {
  readonly output?: string
  readonly yes?: boolean
  readonly unit: string
}
export interface Part {
  readonly name: string
  readonly about: string
  readonly text: string
  /** What of it is missing, and where; absent when it is whole. */
  readonly cut?: string
}
const partBytesMax = 2 * 1024 * 1024
const journalLines = 1_000
/** Before anything is masked: a thousand lines of 16 KB. */
const logBytesMax = 16 * 1024 * 1024
const logMs = 20_000

const listing = (folder: string): string => {
  try {
    const rows = readdirSync(folder)
      .sort()
      .slice(0, 1_000)
      .map((name) => {
        const { size, mode, mtimeMs, uid, gid } = lstatSync(`${folder}/${name}`)
        return [
          (mode & 0o7777).toString(8),
          `${uid}:${gid}`,
          bytesText(size),
          isoText(mtimeMs),
          name,
        ]
      })
    return `${table([['MODE', 'OWNER', 'SIZE', 'CHANGED', folder], ...rows]).join('\n')}\n`
  } catch (error) {
    return `${folder}: ${textOf(error)}\n`
  }
}
const machineText = (nowMs: number): string => {
  let os = ''
  try {
    os = /^PRETTY_NAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? ''
  } catch {
    // Not a Linux with that file: the kernel's name must do.
  }
  return [
    `made      ${isoText(nowMs)}`,
    `host      ${hostname()}`,
    `holdfast  ${version}, node ${process.versions.node}, ${process.platform}-${process.arch}`,
    `system    ${os} kernel ${release()}, up ${Math.round(uptime() / 3_600)} h`,
    `memory    ${bytesText(freemem())} of ${bytesText(totalmem())} free`,
    `cpus      ${cpus().length}, load ${loadavg()
      .map((one) => one.toFixed(2))
      .join(' ')}`,
    '',
  ].join('\n')
}
/** Values stay where they are: a name says enough. */
const environmentText = (environment: CliContext['environment']): string =>
  `${Object.keys(environment).sort().join('\n')}\n`

const lines = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`

/** What a running agent says of itself; nothing when there is none. */
const agentParts = async (context: CliContext): Promise<Part[]> => {
  const ask = async (name: string, about: string, work: () => Promise<string>): Promise<Part> => {
    try {
      return { name, about, text: await work() }
    } catch (error) {
      if (!isFailure(error)) throw error
      return { name, about, text: `${error.code} ${error.message}\n` }
    }
  }
  const client = await context.client()
  return [
    await ask('status', 'verdict, sources, lanes, destinations, spool, clock', async () =>
      lines(await client.get<AgentStatus>('/v1/status')),
    ),
    await ask('gaps', 'recorded losses', async () => lines(await client.get('/v1/gaps?limit=200'))),
    await ask('quarantine', 'what could not be taken, without the samples', async () => {
      type Rows = {
        readonly quarantine: readonly { readonly sample: string; readonly text: string }[]
      }
      const { quarantine } = await client.get<Rows>('/v1/quarantine?limit=200')
      return lines(
        quarantine.map(({ sample, text: _, ...rest }) => ({ ...rest, sampleChars: sample.length })),
      )
    }),
    await ask('metrics', 'all counters', () => client.text('/v1/metrics')),
  ]
}

const kernelWords = /mmc|nvme|sd[a-z]\b|ext4|xfs|btrfs|f2fs|I\/O error|out of memory|oom|holdfast/i
const unitFields = [
  ...['ActiveState', 'SubState', 'Result', 'NRestarts', 'ExecMainStatus', 'TasksCurrent'],
  ...['MemoryCurrent', 'MemoryMax', 'CPUUsageNSec', 'FragmentPath', 'DropInPaths'],
]
const none = 'not to be had here\n'
const lineTime = /^\d{4}-\d\d-\d\dT[\d:,.+Z-]{8,24}/gm
/** Where a log begins and ends, by the times of its lines; nothing else of a line, which may hold a secret. */
const timesOf = (text: string) => {
  const times = [...text.matchAll(lineTime)].map(([time]) => time)
  return { first: times[0] ?? 'a line without a time', last: times.at(-1) ?? 'its beginning' }
}
/** As much of a log as could be read; a line that is not whole might hold half a secret, and is left out. */
const heardPart = async (
  part: Omit<Part, 'text'>,
  program: string,
  args: readonly string[],
): Promise<Part> => {
  const heard = await hear(program, args, { ms: logMs, bytesMax: logBytesMax })
  if (heard === null) return { ...part, text: none }
  const { text, code, cut } = heard
  if (cut === '' && code === 0) return { ...part, text }
  if (cut === '') return { ...part, text: text || none, cut: `${program} ended with ${code}` }
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  const missing = `what follows ${timesOf(whole).last} is missing`
  return { ...part, text: whole, cut: `reading it was given up ${cut}: ${missing}` }
}
const systemParts = async (unit: string): Promise<Part[]> => {
  const journal = { name: 'journal', about: `its last ${journalLines} lines` }
  const args = ['-u', unit, '-n', String(journalLines), '--no-pager', '-o', 'short-iso']
  const about = 'what the kernel said of disks and memory'
  const kernel = await heardPart({ name: 'kernel', about }, 'dmesg', ['--time-format', 'iso'])
  const lines = kernel.text.split('\n').filter((line) => kernelWords.test(line))
  const state = await said('systemctl', 'show', unit, '-p', unitFields.join())
  return [
    { name: 'unit', about: `state of ${unit}`, text: state ?? none },
    await heardPart(journal, 'journalctl', args),
    { ...kernel, text: kernel.text === none ? none : `${lines.slice(-200).join('\n')}\n` },
  ]
}

const findingText = ({ state, check, code, text, fix }: Finding): string => {
  const line = `${state.padEnd(8)} ${check}: ${code ? `${code} ` : ''}${text}`
  return fix === '' ? line : `${line}\n         = ${fix}`
}

/** What is known of the configuration; from here on nothing secret in it, or named by it, is shown. */
const ofConfig = async (context: CliContext, unit: string) => {
  const { redactor } = context
  const path = context.configPath()
  const environment = credentialsOf(context.environment, unit)
  const source = openSource(path, environment)
  if (!Array.isArray(source)) {
    for (const secret of source.secrets) redactor.add(secret)
    addKeyLines(source.root, redactor.add)
  }
  let raw: string | null = null
  try {
    raw = readFileSync(path, 'utf8')
    for (const secret of secretsIn(raw, environment)) redactor.add(secret)
  } catch {
    // The part about the configuration says so.
  }
  const loaded = loadConfig(path, { environment, catalog, surroundings: false })
  if (loaded.ok) addKeyLines(loaded.config, redactor.add)
  const stateDir = loaded.ok
    ? loaded.config.agent.state_dir
    : ((await stateDirOf(path)) ?? '/var/lib/holdfast')
  const config = raw === null ? `${path} cannot be read\n` : configText(raw, redactor.hide)
  return { stateDir, config }
}

/** Everything, masked; in the order of the file. */
export const gather = async (context: CliContext, unit: string): Promise<Part[]> => {
  const { redactor, environment } = context
  for (const [name, value] of Object.entries(environment))
    if (isSecretName(name) && value) redactor.add(value)
  const findings: Finding[] = []
  const { configReadable, diskAnswers } = await examine(
    context,
    { cardTbw: 10, unit },
    (...found) => void findings.push(...found),
  )
  const stuck = 'not looked at: its disk is stuck\n'
  const path = configReadable ? context.configPath() : (configNamed(context) ?? 'the configuration')
  const { stateDir, config } = configReadable
    ? await ofConfig(context, unit)
    : { stateDir: null, config: stuck }
  const parts: Part[] = [
    {
      name: 'machine',
      about: 'versions, memory, load',
      text: machineText(systemClock.nowUs() / 1_000),
    },
    {
      name: 'doctor',
      about: 'what holdfast doctor finds',
      text: `${findings.map(findingText).join('\n')}\n`,
    },
    { name: 'config', about: `${path} without comments, own keys and secrets`, text: config },
    {
      name: 'files',
      about: 'names, sizes and rights; no contents',
      text:
        stateDir !== null && diskAnswers
          ? listing(stateDir) + listing(dirname(resolve(path)))
          : stuck,
    },
    {
      name: 'environment',
      about: 'names of the variables; no values',
      text: environmentText(environment),
    },
    ...(configReadable || context.flags.socket !== undefined ? await agentParts(context) : []),
    ...(await systemParts(`${unit}.service`)),
  ]
  return parts.map((part) => clean(part, redactor))
}
/** Masked first, as a whole: half a secret would not be known. */
const clean = (part: Part, redactor: Redactor): Part => {
  const hidden = masked(part.text, redactor)
  const over = hidden.length - partBytesMax
  const newest = over > 0 ? hidden.slice(hidden.indexOf('\n', over) + 1) : hidden
  const size = bytesText(hidden.length - newest.length)
  const left = `the first ${size} are left out, up to ${timesOf(newest).first}`
  const cut = [part.cut, over > 0 ? left : undefined].filter((one) => one !== undefined)
  return {
    ...part,
    text: newest.split('\n').map(printable).join('\n'),
    ...(cut.length > 0 ? { cut: cut.join('; ') } : {}),
  }
}
const aboutOf = ({ about, cut }: Part) => (cut === undefined ? about : `${about}; CUT: ${cut}`)

const bundleText = (parts: readonly Part[]): string =>
  parts.map((part) => `===== ${part.name}: ${aboutOf(part)}\n${part.text}\n`).join('')

const agreed = async (context: CliContext, yes: boolean, path: string): Promise<void> => {
  if (yes) return
  if (!context.interactive)
    throw new Failure(
      'HF-X016',
      'nothing was written',
      'read the list above, then say so with --yes',
    )
  const answer = await context.ask(`Write this to ${path}?`, 'no')
  if (!/^y(es)?$/i.test(answer)) throw new Failure('HF-X012', 'nothing was written')
}

export const supportBundle = async (
  context: CliContext,
  options: BundleOptions,
): Promise<number> => {
  const parts = await gather(context, options.unit)
  const stamp = isoText(systemClock.nowUs() / 1_000)
    .slice(0, 19)
    .replaceAll(/[:-]/g, '')
  const path = options.output ?? `holdfast-support-${hostname()}-${stamp}.txt`
  const sizeOf = ({ text }: Part) => Buffer.byteLength(text)
  const listed = parts.map(({ text, ...rest }) => ({ ...rest, bytes: Buffer.byteLength(text) }))
  const rows = parts.map((part) => [part.name, bytesText(sizeOf(part)), aboutOf(part)])
  const json = context.flags.json === true
  if (json && path !== '-') context.json({ output: path, parts: listed })
  for (const line of table([['PART', 'SIZE', ''], ...rows])) context.warn(line)
  await agreed(context, options.yes === true, path)
  const text = bundleText(parts)
  if (path === '-') {
    if (json) context.json({ output: path, parts })
    else context.out(text)
    return exitCodes.good
  }
  try {
    writeFileSync(path, text, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    throw new Failure(
      'HF-X014',
      `${path} cannot be written: ${textOf(error)}`,
      'Name another file with --output.',
    )
  }
  context.say(`${path} is written. Read it before you send it.`)
  return exitCodes.good
}
