/**
 * What trouble with a folder means; pure. Invariant: all of it needs a person, is tried again once a minute, and drops
 * nothing.
 */
import { isFailure, textOf } from '../errors.ts'
import type { Outcome } from '../model.ts'
import { blocked } from './relay-outcome.ts'

/** Codes of this destination, all in docs/operate/codes.md. */
export const fileCodes = {
  noFolder: 'HF-F150',
  full: 'HF-F151',
  noPermission: 'HF-F152',
  medium: 'HF-F153',
} as const

const codeByError: Readonly<Record<string, keyof typeof fileCodes>> = {
  ENOENT: 'noFolder',
  ENOTDIR: 'noFolder',
  ENOSPC: 'full',
  EDQUOT: 'full',
  EFBIG: 'full',
  EACCES: 'noPermission',
  EPERM: 'noPermission',
  EROFS: 'noPermission',
}
const hints: Readonly<Record<keyof typeof fileCodes, string>> = {
  noFolder: 'Mount the medium, or make the folder: it is never made by the agent.',
  full: 'Carry finished files away and remove them, or free space. It goes on within a minute.',
  noPermission: 'Give the agent’s user the right to write there; is it mounted read-only?',
  medium: 'Look at the medium and the kernel’s log. It is tried again once a minute.',
}

export const folderTrouble = (
  error: unknown,
  folder: string,
): Extract<Outcome, { kind: 'blocked' }> => {
  if (isFailure(error)) return blocked(error.code, error.message, error.hint)
  const { code } = error as NodeJS.ErrnoException
  // Anything without a system's code is a bug.
  if (typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) throw error
  const kind = codeByError[code] ?? 'medium'
  return blocked(fileCodes[kind], `cannot write to ${folder}: ${textOf(error)}`, hints[kind])
}
export const tooLittleFree = (folder: string, freeBytes: number, needed: number) =>
  blocked(
    fileCodes.full,
    `${folder} has ${Math.round(freeBytes / 1e6)} MB free, less than disk_free_min (${Math.round(needed / 1e6)} MB)`,
    hints.full,
  )
