/**
 * The user that the package's units run as: whether this machine has it, and how a file is closed to everybody else
 * without being closed to it. Looks only.
 */
import { readFileSync, type Stats, statSync } from 'node:fs'

export const unitUser = 'holdfast'

/** The id of its group; undefined where the package is not. */
export const unitGroupOf = (groups = '/etc/group'): number | undefined => {
  try {
    const [, id] =
      new RegExp(`^${unitUser}:[^:]*:(\\d+):`, 'm').exec(readFileSync(groups, 'utf8')) ?? []
    return id === undefined ? undefined : Number(id)
  } catch {
    return undefined
  }
}

/** Others than its owner can read it; the unit's own group is no other. */
export const isOpen = ({ mode, gid }: Pick<Stats, 'mode' | 'gid'>, group = unitGroupOf()) =>
  (mode & 0o004) !== 0 || ((mode & 0o040) !== 0 && gid !== group)

/** The command that takes a file from all others, and leaves it to whoever is to read it. */
export const closingOf = (
  path: string,
  { uid, gid }: Pick<Stats, 'uid' | 'gid'> = statSync(path),
  group = unitGroupOf(),
): string => {
  // Root's, and the unit is no root: closed to all others it would be closed to the unit as well.
  if (uid === 0 && group !== undefined)
    return gid === group ? `chmod 640 ${path}` : `chgrp ${unitUser} ${path}; chmod 640 ${path}`
  return `chmod 600 ${path}`
}
