/** What runs and where: versions, configuration and its files, the clock, certificates. Looks only. */
import { readFileSync, statSync } from 'node:fs'
import { release } from 'node:os'
import type { ConfigProblem } from '../../config/problems.ts'
import type { Config } from '../../config/schema.ts'
import type { AgentStatus } from '../../control/view.ts'
import { textOf } from '../../errors.ts'
import { printable } from '../../observability/printable.ts'
import { releasedAtUs, version } from '../../release.ts'
import { certificatesIn } from '../../tls.ts'
import { closingOf } from '../../unit-user.ts'
import { spanText } from '../format.ts'
import { bad, type Finding, good, notForUs, unknown, warning } from './finding.ts'
import { said } from './said.ts'

export const versionsOf = (status: AgentStatus | undefined): Finding => {
  const machine = `${process.platform}-${process.arch}, kernel ${release()}`
  const text = `holdfast ${version}, node ${process.versions.node}, ${machine}`
  if (status === undefined || status.version === version) return good('version', text)
  return warning(
    'version',
    `${text}; the running agent is ${status.version}`,
    'Restart the agent to run what is installed.',
  )
}

/**
 * Every error and warning of `holdfast check`, by its own code. `stranger`: this user is neither root nor the agent's,
 * so that what is closed to it says nothing of the agent.
 */
export const configFindings = (
  file: string,
  problems: readonly ConfigProblem[],
  stranger: boolean,
): Finding[] => {
  const of = (severity: ConfigProblem['severity']) =>
    problems.filter((one) => one.severity === severity)
  // Certificates have a check of their own here.
  const told = [...of('error'), ...of('warning').filter(({ code }) => code !== 'HF-C042')]
  if (told.length === 0) return [good('config', `${file} is good`)]
  return told.map(({ severity, code, line, text, hint, denied, unitOnly }) =>
    unitOnly
      ? { ...unknown('config', `${file}:${line}: ${text}`, hint), code }
      : denied && stranger
        ? { ...notForUs('config', `${file}:${line}: ${text}`), code }
        : {
            check: 'config',
            state: severity === 'error' ? 'bad' : 'warning',
            code,
            text: `${file}:${line}: ${text}`,
            fix: hint || 'See it in full with: holdfast check',
          },
  )
}

export const agentFinding = (status: AgentStatus | undefined, error: Finding): Finding => {
  if (status === undefined) return error
  const { state, code, reason, fix } = status.verdict
  const text = `${status.agent} runs, up ${spanText(status.upForUs / 1_000)}: ${state}, ${printable(reason)}`
  if (state === 'ok') return good('agent', text)
  return { check: 'agent', state: state === 'degraded' ? 'warning' : 'bad', code, text, fix }
}

/** Rules and windows that rest, where something worse is what the agent says of itself. */
export const stageFindings = (status: AgentStatus | undefined): Finding[] =>
  (status?.verdict.issues ?? [])
    .filter(({ code, reason }) => code === 'HF-H013' && reason !== status?.verdict.reason)
    .map(({ code, reason, fix }) => ({ ...warning('stages', printable(reason), fix), code }))

const offsetText = (offsetUs: number) =>
  `${offsetUs < 0 ? 'ahead of' : 'behind'} the far side by ${spanText(Math.abs(offsetUs) / 1_000)}`
const offsetUsMax = 5_000_000
/** `farUs`: what a far side's answer said of the time just now, to a second. */
export const lookAtClock = async (
  status: AgentStatus | undefined,
  nowUs: number,
  farUs: number | null,
): Promise<Finding> => {
  const now = new Date(nowUs / 1_000).toISOString().slice(0, 19)
  const fix = 'Start a time service (systemd-timesyncd, chrony), or set the time: date -s.'
  if (nowUs < releasedAtUs)
    return bad('clock', `it says ${now}Z, before this program was made`, fix)
  const offsetUs = status?.clock.offsetUs ?? farUs
  const parts = [`${now}Z`]
  if (offsetUs !== null && Math.abs(offsetUs) > 1_500_000) parts.push(offsetText(offsetUs))
  const synchronized = (
    await said('timedatectl', 'show', '-p', 'NTPSynchronized', '--value')
  )?.trim()
  if (synchronized === 'yes') parts.push('kept by a time service')
  if (status?.clock.trusted === false)
    return bad('clock', `${parts.join(', ')}; the agent does not trust it: points wait`, fix)
  if (offsetUs !== null && Math.abs(offsetUs) > offsetUsMax)
    return warning('clock', parts.join(', '), fix)
  if (synchronized === 'no')
    return warning('clock', `${parts.join(', ')}, no time service keeps it`, fix)
  return good('clock', parts.join(', '))
}

const dayUs = 86_400e6
const soonDays = 14
const certificate = (use: string, path: string, nowUs: number): Finding => {
  const check = 'certificate'
  try {
    const all = certificatesIn(readFileSync(path, 'utf8'))
    const times = (of: 'validFromDate' | 'validToDate') =>
      all.map((one) => one[of].getTime() * 1_000)
    if (all.length === 0) return bad(check, `${path} (${use}) holds none`, 'PEM form is needed.')
    const [beginsUs, endsUs] = [
      Math.max(...times('validFromDate')),
      Math.min(...times('validToDate')),
    ]
    const [age, left] = [
      Math.floor((nowUs - beginsUs) / dayUs),
      Math.floor((endsUs - nowUs) / dayUs),
    ]
    const renew = 'Renew it; a changed file is taken without a restart.'
    if (left < 0) return bad(check, `${path} (${use}) has ended ${-left} days ago`, renew)
    if (age < 0)
      return bad(check, `${path} (${use}) is not valid yet`, 'Is the clock of this machine right?')
    const text = `${path} (${use}): ${age} days old, ends in ${left} days`
    return left < soonDays ? warning(check, text, renew) : good(check, text)
  } catch (error) {
    return notForUs(check, `${path} (${use}): ${textOf(error)}`)
  }
}
const keyRights = (use: string, path: string): Finding[] => {
  try {
    const seen = statSync(path)
    if ((seen.mode & 0o007) === 0) return []
    return [bad('rights', `${path} (key of ${use}) is open to everybody`, closingOf(path, seen))]
  } catch {
    // That it cannot be read is said with its certificate, or by the configuration.
    return []
  }
}
type Files = { readonly ca?: string; readonly cert?: string; readonly key?: string }
export const lookAtCertificates = (config: Config, nowUs: number): Finding[] =>
  [...config.destinations, ...config.sources].flatMap(({ name, settings }) => {
    const { tls } = settings as { readonly tls?: Files }
    if (typeof tls !== 'object' || tls === null) return []
    return [
      ...(tls.cert === undefined ? [] : [certificate(name, tls.cert, nowUs)]),
      ...(tls.ca === undefined ? [] : [certificate(`CA of ${name}`, tls.ca, nowUs)]),
      ...(tls.key === undefined ? [] : keyRights(name, tls.key)),
    ]
  })
