/**
 * What systemd knows of the agent's unit, and what to do about it: how it last ended decides, not that it did.
 * Pure but for `lookAtUnit`.
 */
import { bad, type Finding, good, unknown, warning } from './finding.ts'
import { said } from './said.ts'

export type UnitFields = Readonly<Record<string, string>>
export interface Unit {
  readonly finding: Finding
  readonly pid: number | null
}
const fields = [
  ...['LoadState', 'UnitFileState', 'ActiveState', 'SubState', 'ConditionResult'],
  ...['Result', 'NRestarts', 'ExecMainCode', 'ExecMainStatus', 'MainPID'],
].join()
const restartsMany = 5

/** How it ended, in words, and what to do. `journal`: warnings and errors of the unit, oldest first. */
interface Ending {
  readonly text: string
  readonly fix: string
}
const log = (name: string) => `journalctl -u ${name} -n 50 says why.`
/** systemd.exec(5): it could not be started at all. */
const setupStatus: Readonly<Record<string, string>> = {
  200: 'its working folder is not there',
  203: 'its program cannot be run',
  216: 'its group is not there',
  217: 'its user is not there',
  226: 'its sandbox cannot be made',
  233: 'its runtime folder cannot be made',
  238: 'its state folder cannot be made',
  243: 'a credential of the unit (LoadCredential=) cannot be read',
}
/** Exit 78: only a person can help, and the last error says with what. */
const atConfig = (name: string, journal: string): Ending => {
  const codes = [...journal.matchAll(/\b(HF-[CS]\d{3})\b/g)].map(([, code]) => code)
  if (codes.at(-1) === 'HF-S003')
    return {
      text: 'exit 78, HF-S003: its spool was written by a newer version',
      fix: 'Install the version that wrote the spool, or a newer one; no configuration helps.',
    }
  const seen = codes.length > 0 ? `, ${codes.at(-1)}` : ''
  return {
    text: `exit 78${seen}: it is not started again by itself`,
    fix: `holdfast check says what is wrong; where it finds nothing, ${log(name)} Then: systemctl restart ${name}`,
  }
}
const byResult: Readonly<Record<string, (name: string, is: UnitFields) => Ending>> = {
  watchdog: (name) => ({
    text: 'killed by the watchdog: its event loop, or its spool, stood still',
    fix: `Look at the disk (flush, dmesg); ${log(name)} Else it is a bug: holdfast support-bundle.`,
  }),
  'oom-kill': (name) => ({
    text: 'killed for want of memory (oom-kill)',
    fix: `Free memory on this machine, or raise MemoryMax= where the unit's own limit was met: systemctl edit ${name}`,
  }),
  timeout: (name) => ({
    text: 'it took longer to start or to stop than the unit allows (timeout)',
    fix: `Look at the disk: flush, dmesg. ${log(name)}`,
  }),
  'start-limit-hit': (name) => ({
    text: 'it was started too often in a short time (start-limit-hit)',
    fix: `${log(name)} Then: systemctl reset-failed ${name}; systemctl start ${name}`,
  }),
  signal: (name, { ExecMainStatus }) => ({
    text: `killed by signal ${ExecMainStatus}`,
    fix: `Whoever sent it (kill, the kernel: dmesg)? ${log(name)}`,
  }),
  'core-dump': (name, { ExecMainStatus }) => ({
    text: `crashed by signal ${ExecMainStatus}`,
    fix: `It is a bug, or bad memory: holdfast support-bundle. ${log(name)}`,
  }),
  resources: (name) => ({
    text: 'systemd had not the means to start it (resources)',
    fix: `Memory, tasks, or a folder that cannot be made: ${log(name)}`,
  }),
}
export const endingOf = (name: string, is: UnitFields, journal: string): Ending => {
  const { Result: result = '', ExecMainStatus: status = '' } = is
  const special = byResult[result]
  if (special !== undefined) return special(name, is)
  const setup = setupStatus[status]
  if (setup !== undefined) return { text: `exit ${status}: ${setup}`, fix: log(name) }
  if (status === '78') return atConfig(name, journal)
  if (status === '74')
    return {
      text: 'exit 74: trouble with the disk',
      fix: `Look at flush and room, and at dmesg. ${log(name)}`,
    }
  if (status === '75')
    return {
      text: 'exit 75: something it needs was not to be had yet',
      fix: `It is tried again by itself. ${log(name)}`,
    }
  return { text: `${result || 'ended'}, exit ${status}`, fix: log(name) }
}

/** An active unit's own Result is "success": how it ended before stands in the journal alone. */
const lastResultIn = (journal: string): string | undefined =>
  [...journal.matchAll(/Failed with result '([a-z-]+)'/g)].at(-1)?.[1]

export const unitFinding = (name: string, is: UnitFields, journal: string): Finding => {
  if (is.LoadState === 'masked')
    return warning('unit', `${name} is masked: nothing can start it`, `systemctl unmask ${name}`)
  if (is.LoadState === 'not-found') return unknown('unit', `there is no unit ${name}`)
  if (is.LoadState !== 'loaded')
    return bad(
      'unit',
      `${name} cannot be loaded (${is.LoadState})`,
      `systemd-analyze verify ${name}`,
    )
  const restarts = Number(is.NRestarts)
  const often = restarts === 1 ? '1 restart' : `${restarts} restarts`
  const text = `${name}: ${is.ActiveState} (${is.SubState}), ${often}`
  const ended = (): Finding => {
    const { text: why, fix } = endingOf(name, is, journal)
    return bad('unit', `${text}; ${why}`, fix)
  }
  switch (is.ActiveState) {
    case 'failed':
      return ended()
    case 'activating':
      if (is.SubState?.startsWith('auto-restart')) return ended()
      return warning(
        'unit',
        `${text}: it is starting`,
        `Wait: a large spool takes a while to open. What it does: journalctl -fu ${name}`,
      )
    case 'deactivating':
      return warning('unit', `${text}: it is being stopped`, `systemctl start ${name}`)
    case 'inactive': {
      if (is.Result !== 'success') return ended()
      if (is.ConditionResult === 'no')
        return warning(
          'unit',
          `${text}: what it needs to start is not there (condition)`,
          `systemctl status ${name} names it.`,
        )
      return is.UnitFileState === 'enabled'
        ? warning('unit', `${text}: stopped`, `systemctl start ${name}`)
        : warning('unit', `${text}: not enabled`, `systemctl enable --now ${name}`)
    }
    default: {
      const last = restarts > 0 ? lastResultIn(journal) : undefined
      const known = last === 'watchdog' || last === 'oom-kill' ? byResult[last] : undefined
      if (known !== undefined) {
        const { text: why, fix } = known(name, is)
        return warning('unit', `${text}; last ${why}`, fix)
      }
      return restarts > restartsMany ? warning('unit', text, log(name)) : good('unit', text)
    }
  }
}

export const lookAtUnit = async (name: string): Promise<Unit> => {
  const answer = await said('systemctl', 'show', name, '-p', fields)
  if (answer === null) return { finding: unknown('unit', 'no systemd answers here'), pid: null }
  const is = Object.fromEntries(answer.split('\n').map((line) => line.split('=', 2))) as Record<
    string,
    string
  >
  const asked = ['-u', name, '-b', '-p', 'warning', '-n', '100', '-o', 'cat', '--no-pager']
  const told = is.ActiveState === 'failed' || Number(is.NRestarts) > 0
  const journal = told ? ((await said('journalctl', ...asked)) ?? '') : ''
  return { finding: unitFinding(name, is, journal), pid: Number(is.MainPID) || null }
}
