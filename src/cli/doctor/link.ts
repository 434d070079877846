/** What `holdfast doctor` says of one step of the way to a far side, and to whom a closed file says anything. */
import { readFileSync, statSync } from 'node:fs'
import type { LinkStep } from '../../destinations/link.ts'
import { printable } from '../../observability/printable.ts'
import { unitUser } from '../../unit-user.ts'
import { bad, type Finding, good, notForUs, warning } from './finding.ts'

const unitUserId = (): number | undefined => {
  try {
    const [, id] =
      new RegExp(`^${unitUser}:[^:]*:(\\d+):`, 'm').exec(readFileSync('/etc/passwd', 'utf8')) ?? []
    return id === undefined ? undefined : Number(id)
  } catch {
    return undefined
  }
}
/** Neither root nor the agent's user: what is closed to it may well be open to the agent. */
export const isStranger = (stateDir: string): boolean => {
  const own = process.geteuid?.()
  if (own === undefined || own === 0 || own === unitUserId()) return false
  try {
    return statSync(stateDir).uid !== own
  } catch {
    return true
  }
}

export const stepFinding = (check: string, found: LinkStep, stranger: boolean): Finding => {
  const { step, ms, text, code, hint, host, bearable, denied } = found
  const at = host === undefined ? '' : `${host}: `
  const line = `${step.padEnd(5)} ${`${ms.toFixed(1)} ms`.padStart(10)}  ${at}${printable(text)}`
  const finding = found.good
    ? good(check, line)
    : denied && stranger
      ? notForUs(check, line)
      : bearable
        ? warning(check, `${line}; another host is good`, hint)
        : bad(check, line, hint)
  return { ...finding, ms, ...(code === '' ? {} : { code }) }
}
