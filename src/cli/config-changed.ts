/** Whether a running agent's configuration file is still the one it began with. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { AgentStatus } from '../control/view.ts'

/** False also where nobody can tell: this user may not read the file. */
export const hasChanged = ({ file, digest }: AgentStatus['config']): boolean => {
  try {
    return createHash('sha256').update(readFileSync(file)).digest('hex') !== digest
  } catch {
    return false
  }
}
