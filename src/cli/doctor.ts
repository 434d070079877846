/**
 * `holdfast doctor`: looks at everything between the disk and the far sides, and says what to do about what it finds.
 * Invariants: works with and without a running agent, and never opens its spool; changes nothing (the flush probe
 * removes its file); says each thing as it is found, and ends whatever hangs; exit 0 all good, 3 something to look at,
 * 4 something is wrong; what this user may not see makes it no worse.
 */
import { catalog } from '../config/catalog.ts'
import { loadConfig } from '../config/load.ts'
import type { Config, DestinationConfig } from '../config/schema.ts'
import type { AgentStatus } from '../control/view.ts'
import { isOpen, probeLinks } from '../destinations/link.ts'
import { exitCodes, interrupted, isFailure } from '../errors.ts'
import { createSystemHost, systemClock } from '../host.ts'
import { hasChanged } from './config-changed.ts'
import { type CliContext, credentialsOf, type Style } from './context.ts'
import { lookApart, runApart } from './doctor/apart.ts'
import { lookAtWear } from './doctor/disk.ts'
import { type Finding, good, unknown, warning } from './doctor/finding.ts'
import { isStranger, stepFinding } from './doctor/link.ts'
import { agentFinding, lookAtClock, stageFindings, versionsOf } from './doctor/machine.ts'
import { lookAtUnit } from './doctor/unit.ts'

interface DoctorOptions {
  readonly cardTbw: number
  readonly unit: string
  /** Steps that this process is to look at for another (`doctor/apart.ts`). */
  readonly apart?: string
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

/** The way to one far side; and what it said of the time. Nothing is written there: that is `destination test`. */
const lookAtLink = async (
  { of, settings, name, type }: DestinationConfig,
  agent: string,
  stranger: boolean,
  signal: AbortSignal,
): Promise<{ findings: Finding[]; offsetUs: number | null }> => {
  const check = `to ${name}`
  const host = createSystemHost()
  const links = [of.link?.(settings, agent) ?? []].flat()
  const { steps, offsetUs } = await probeLinks(links, host, signal)
  const more =
    of.link !== undefined && typeof of.tryOut === 'function' && isOpen(steps)
      ? await of.tryOut(settings, host)
      : []
  const findings = [...steps, ...more].map((one) => stepFinding(check, one, stranger))
  // One that is a folder is looked at apart.
  if (findings.length === 0 && typeof of.tryOut !== 'function')
    findings.push(unknown(check, `no look at a destination of type ${type}`))
  return { findings, offsetUs }
}
/** Whether the way there begins with files: certificates, and what signed the far side's. */
const namesFiles = ({ settings }: DestinationConfig): boolean => {
  const { tls } = settings as { readonly tls?: unknown }
  return typeof tls === 'object' && Object.values(tls ?? {}).some((one) => typeof one === 'string')
}
const lookAtLinks = async (
  config: Config,
  { stranger, filesAnswer }: { readonly stranger: boolean; readonly filesAnswer: boolean },
  signal: AbortSignal,
  tell: Tell,
) => {
  const all = await Promise.all(
    config.destinations.map(async (one) => {
      if (!filesAnswer && namesFiles(one)) {
        tell(unknown(`to ${one.name}`, 'not looked at: its certificates may be on the stuck disk'))
        return null
      }
      const { findings, offsetUs } = await lookAtLink(one, config.agent.name, stranger, signal)
      tell(...findings)
      return offsetUs
    }),
  )
  return all.find((one) => one !== null) ?? null
}
const changed = ({ config }: AgentStatus): Finding[] => {
  if (!hasChanged(config)) return []
  const text = `${config.file} has changed since the agent began`
  return [warning('config', text, 'Restart the agent to use it.')]
}

type Tell = (...findings: readonly Finding[]) => void
/**
 * Tells each finding as it is found. What touches a disk is looked at apart; here only the configuration is read, once
 * it is known that it can be.
 */
export const examine = async (
  context: CliContext,
  { unit: name, cardTbw }: Pick<DoctorOptions, 'unit' | 'cardTbw'>,
  told: Tell,
): Promise<{ readonly configReadable: boolean; readonly diskAnswers: boolean }> => {
  const tell: Tell = (...findings) => {
    // What was broken off by hand found nothing out.
    if (!context.signal.aborted) told(...findings)
  }
  const apart = lookApart(context, name, tell)
  const readable = await apart.over('config')
  const environment = credentialsOf(context.environment, name)
  const loaded = readable
    ? loadConfig(context.configPath(), { environment, catalog, surroundings: false })
    : undefined
  const config = loaded?.ok ? loaded.config : undefined
  for (const secret of config?.secrets ?? []) context.redactor.add(secret)
  const asked =
    readable || context.flags.socket !== undefined
      ? await askAgent(context)
      : unknown('agent', 'its socket is named in the configuration', 'Name it with --socket.')
  const status = 'verdict' in asked ? asked : undefined
  tell(versionsOf(status), agentFinding(status, 'verdict' in asked ? good('agent', '') : asked))
  if (status !== undefined && readable) tell(...changed(status))
  tell(...stageFindings(status))
  const unit = await lookAtUnit(`${name}.service`)
  tell(unit.finding, lookAtWear(status, unit.pid, cardTbw))
  // Asked of the disk only where it has answered.
  const filesAnswer = await apart.over('surroundings')
  const stranger = filesAnswer && isStranger(config?.agent.state_dir ?? '')
  const seen = { stranger, filesAnswer }
  const farUs = config === undefined ? null : await lookAtLinks(config, seen, context.signal, tell)
  tell(await lookAtClock(status, systemClock.nowUs(), farUs))
  await apart.all
  if (context.signal.aborted) throw interrupted()
  return { configReadable: readable, diskAnswers: await apart.over('disk') }
}

const marks = { good: 'ok', warning: 'LOOK', bad: 'BAD', unknown: '?' } as const
const styles: Readonly<Record<Finding['state'], Style>> = {
  good: 'green',
  warning: 'yellow',
  bad: 'red',
  unknown: 'dim',
}
/** Columns as wide as the widest so far: a line that is printed stays. */
const createShow = ({ out, paint, flags }: CliContext) => {
  let width = 'certificate'.length
  return ({ state, check, text, fix, code }: Finding) => {
    width = Math.max(width, check.length)
    if (flags.quiet && (state === 'good' || state === 'unknown')) return
    const mark = paint(styles[state], marks[state].padEnd(4))
    out(`${mark}  ${check.padEnd(width)}  ${code ? `${code} ` : ''}${text}`)
    if (fix !== '') out(`${' '.repeat(8 + width)}= ${fix}`)
  }
}

export const doctor = async (context: CliContext, options: DoctorOptions): Promise<number> => {
  if (options.apart !== undefined) {
    await runApart(context, options.unit, options.apart)
    return exitCodes.good
  }
  const findings: Finding[] = []
  const show = createShow(context)
  await examine(context, options, (...found) => {
    const { hide } = context.redactor
    for (const one of found) {
      const hidden = { ...one, text: hide(one.text), fix: hide(one.fix) }
      findings.push(hidden)
      if (!context.flags.json) show(hidden)
    }
  })
  const has = (state: Finding['state']) => findings.some((one) => one.state === state)
  const verdict = has('bad') ? 'bad' : has('warning') ? 'warning' : 'good'
  if (context.flags.json) context.json({ verdict, findings })
  if (verdict === 'bad') return exitCodes.unhealthy
  return verdict === 'warning' ? exitCodes.degraded : exitCodes.good
}
