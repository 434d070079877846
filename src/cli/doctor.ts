/**
 * `holdfast doctor`: looks at everything between the disk and the far sides, and says what to do about what it finds.
 * Invariants: works with and without a running agent, and never opens its spool; changes nothing (the flush probe
 * removes its file); exit 0 all good, 3 something to look at, 4 something is wrong.
 */
import { readdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { catalog } from '../config/catalog.ts'
import { defaultStateDir, loadConfig } from '../config/load.ts'
import type { Config, DestinationConfig } from '../config/schema.ts'
import type { AgentStatus } from '../control/view.ts'
import { isOpen, type LinkStep, probeLinks } from '../destinations/link.ts'
import { exitCodes, isFailure } from '../errors.ts'
import { createSystemHost, systemClock } from '../host.ts'
import { printable } from '../observability/printable.ts'
import { setAsideIn } from '../spool/set-aside.ts'
import { hasChanged } from './config-changed.ts'
import { type CliContext, credentialsOf, type Style, stateDirOf } from './context.ts'
import { lookAtDisk, lookAtWear } from './doctor/disk.ts'
import { bad, type Finding, good, unknown, warning } from './doctor/finding.ts'
import {
  agentFinding,
  configFindings,
  lookAtCertificates,
  lookAtClock,
  lookAtUnit,
  stageFindings,
  versionsOf,
} from './doctor/machine.ts'

interface DoctorOptions {
  readonly cardTbw: number
  readonly unit: string
}

const askAgent = async (context: CliContext): Promise<AgentStatus | Finding> => {
  try {
    return await (await context.client()).get<AgentStatus>('/v1/status')
  } catch (error) {
    if (!isFailure(error)) throw error
    const { code, message, hint } = error
    if (code === 'HF-X077') return { ...unknown('agent', message, hint), code }
    return { ...warning('agent', message, hint), code }
  }
}

const stepFinding = (check: string, found: LinkStep): Finding => {
  const { step, ms, text, code, hint, host, bearable } = found
  const at = host === undefined ? '' : `${host}: `
  const line = `${step.padEnd(5)} ${`${ms.toFixed(1)} ms`.padStart(10)}  ${at}${printable(text)}`
  const finding = found.good
    ? good(check, line)
    : bearable
      ? warning(check, `${line}; another host is good`, hint)
      : bad(check, line, hint)
  return { ...finding, ms, ...(code === '' ? {} : { code }) }
}
/** The way to one far side; and what it said of the time. Nothing is written there: that is `destination test`. */
const lookAtLink = async (
  { of, settings, name, type }: DestinationConfig,
  agent: string,
  signal: AbortSignal,
): Promise<{ findings: Finding[]; offsetUs: number | null }> => {
  const check = `to ${name}`
  const host = createSystemHost()
  const links = [of.link?.(settings, agent) ?? []].flat()
  const { steps, offsetUs } = await probeLinks(links, host, signal)
  const more =
    typeof of.tryOut === 'function' && isOpen(steps) ? await of.tryOut(settings, host) : []
  const findings = [...steps, ...more].map((one) => stepFinding(check, one))
  if (findings.length === 0)
    findings.push(unknown(check, `no look at a destination of type ${type}`))
  return { findings, offsetUs }
}
const lookAtLinks = async (config: Config, signal: AbortSignal) => {
  const all = await Promise.all(
    config.destinations.map((one) => lookAtLink(one, config.agent.name, signal)),
  )
  const offsetUs = all.find((one) => one.offsetUs !== null)?.offsetUs ?? null
  return { findings: all.flatMap((one) => one.findings), offsetUs }
}

const asideFindings = (stateDir: string): Finding[] => {
  let names: readonly string[] = []
  try {
    names = readdirSync(stateDir)
  } catch {
    // The rights of the folder are a finding of their own.
  }
  return setAsideIn(names, stateDir)
    .filter(({ dealtWith }) => !dealtWith)
    .map(({ file, kind }) => {
      const why = kind === 'suspect' ? 'after five crashes in a minute' : 'because it was damaged'
      const fix = `bring back what it holds with: holdfast spool salvage ${file}`
      const code = kind === 'suspect' ? 'HF-H011' : 'HF-H012'
      return { ...warning('spool', `${file} was set aside ${why}`, fix), code }
    })
}

export const examine = async (context: CliContext, options: DoctorOptions): Promise<Finding[]> => {
  const path = context.configPath()
  const environment = credentialsOf(context.environment, options.unit)
  const loaded = loadConfig(path, { environment, catalog })
  const config = loaded.ok ? loaded.config : undefined
  for (const secret of config?.secrets ?? []) context.redactor.add(secret)
  const asked = await askAgent(context)
  const status = 'verdict' in asked ? asked : undefined
  const stateDir =
    config?.agent.state_dir ?? (await stateDirOf(path)) ?? defaultStateDir(environment)
  const unit = await lookAtUnit(`${options.unit}.service`)
  const links =
    config === undefined
      ? { findings: [], offsetUs: null }
      : await lookAtLinks(config, context.signal)
  const folder = resolve(dirname(resolve(path)), stateDir)
  const nowUs = systemClock.nowUs()
  return [
    versionsOf(status),
    ...configFindings(path, loaded.ok ? loaded.warnings : loaded.problems),
    ...(status !== undefined && hasChanged(status.config)
      ? [
          warning(
            'config',
            `${status.config.file} has changed since the agent began`,
            'Restart the agent to use it.',
          ),
        ]
      : []),
    agentFinding(status, 'verdict' in asked ? good('agent', '') : asked),
    ...stageFindings(status),
    unit.finding,
    ...lookAtDisk(folder, config, status, systemClock),
    ...asideFindings(folder),
    lookAtWear(status, unit.pid, options.cardTbw),
    await lookAtClock(status, nowUs, links.offsetUs),
    ...(config === undefined ? [] : lookAtCertificates(config, nowUs)),
    ...links.findings,
  ]
}

const marks = { good: 'ok', warning: 'LOOK', bad: 'BAD', unknown: '?' } as const
const styles: Readonly<Record<Finding['state'], Style>> = {
  good: 'green',
  warning: 'yellow',
  bad: 'red',
  unknown: 'dim',
}
const show = (context: CliContext, findings: readonly Finding[]) => {
  const { out, paint } = context
  const width = Math.max(...findings.map(({ check }) => check.length))
  for (const { state, check, text, fix, code } of findings) {
    if (context.flags.quiet && (state === 'good' || state === 'unknown')) continue
    const mark = paint(styles[state], marks[state].padEnd(4))
    out(`${mark}  ${check.padEnd(width)}  ${code ? `${code} ` : ''}${text}`)
    if (fix !== '') out(`${' '.repeat(8 + width)}= ${fix}`)
  }
}

export const doctor = async (context: CliContext, options: DoctorOptions): Promise<number> => {
  const raw = await examine(context, options)
  const { hide } = context.redactor
  const findings = raw.map((one) => ({ ...one, text: hide(one.text), fix: hide(one.fix) }))
  const has = (state: Finding['state']) => findings.some((one) => one.state === state)
  const verdict = has('bad') ? 'bad' : has('warning') ? 'warning' : 'good'
  if (context.flags.json) context.json({ verdict, findings })
  else show(context, findings)
  if (verdict === 'bad') return exitCodes.unhealthy
  return verdict === 'warning' ? exitCodes.degraded : exitCodes.good
}
