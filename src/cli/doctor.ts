/**
 * `holdfast doctor`: looks at everything between the disk and the far sides, and says what to do about what it finds.
 * Invariants: works with and without a running agent, and never opens its spool; changes nothing (the flush probe
 * removes its file); exit 0 all good, 3 something to look at, 4 something is wrong.
 */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { catalog } from '../config/catalog.ts'
import { defaultStateDir, loadConfig } from '../config/load.ts'
import type { Config, DestinationConfig } from '../config/schema.ts'
import type { AgentStatus } from '../control/view.ts'
import { probeLink } from '../destinations/link.ts'
import { exitCodes, isFailure } from '../errors.ts'
import { silentLog, systemClock } from '../host.ts'
import { printable } from '../observability/printable.ts'
import { type CliContext, type Style, stateDirOf } from './context.ts'
import { lookAtDisk, lookAtWear } from './doctor/disk.ts'
import { bad, type Finding, good, unknown, warning } from './doctor/finding.ts'
import {
  agentFinding,
  configFindings,
  lookAtCertificates,
  lookAtClock,
  lookAtUnit,
  versionsOf,
} from './doctor/machine.ts'

interface DoctorOptions {
  readonly cardTbw: number
  readonly unit: string
}
const credentials = '/run/credentials'
/** By hand there is no $CREDENTIALS_DIRECTORY; the unit's own is used where this user may. */
export const credentialsOf = (environment: CliContext['environment'], unit: string) => {
  const folder = `${credentials}/${unit}.service`
  if (environment.CREDENTIALS_DIRECTORY || !existsSync(folder)) return environment
  return { ...environment, CREDENTIALS_DIRECTORY: folder }
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

/** The way to one far side; and what it said of the time. */
const lookAtLink = async (
  { of, settings, name }: DestinationConfig,
  agent: string,
  signal: AbortSignal,
): Promise<{ findings: Finding[]; offsetUs: number | null }> => {
  const check = `to ${name}`
  if (of.link === undefined)
    return {
      findings: [unknown(check, `no look at a destination of type ${of.type}`)],
      offsetUs: null,
    }
  const host = { clock: systemClock, log: silentLog }
  const { steps, offsetUs } = await probeLink(of.link(settings, agent), host, signal)
  const findings = steps.map(({ step, ms, text, code, hint, good: well }): Finding => {
    const line = `${step.padEnd(5)} ${`${ms.toFixed(1)} ms`.padStart(10)}  ${printable(text)}`
    const found = well ? good(check, line) : bad(check, line, hint)
    return { ...found, ms, ...(code === '' ? {} : { code }) }
  })
  return { findings, offsetUs }
}
const lookAtLinks = async (config: Config, signal: AbortSignal) => {
  const all = await Promise.all(
    config.destinations.map((one) => lookAtLink(one, config.agent.name, signal)),
  )
  const offsetUs = all.find((one) => one.offsetUs !== null)?.offsetUs ?? null
  return { findings: all.flatMap((one) => one.findings), offsetUs }
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
  const nowUs = systemClock.nowUs()
  return [
    versionsOf(status),
    ...configFindings(path, loaded.ok ? loaded.warnings : loaded.problems),
    agentFinding(status, 'verdict' in asked ? good('agent', '') : asked),
    unit.finding,
    ...lookAtDisk(resolve(dirname(resolve(path)), stateDir), config, status, systemClock),
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
