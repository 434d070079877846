/** Which fields name files and folders, and from where relative ones start. */
import { resolve } from 'node:path'
import type { Path } from './source-text.ts'

/** `tls: {ca, cert, key}`, `…_file` and `…_dir` are paths; relative ones start at the configuration's folder. */
export const isPathField = (path: Path): boolean => {
  const name = String(path.at(-1))
  return (
    /_(file|dir)$/.test(name) || (/^(ca|cert|key)$/.test(name) && String(path.at(-2)) === 'tls')
  )
}
export const absolutePaths = (root: unknown, folder: string, path: Path = []): unknown => {
  if (typeof root === 'string')
    return isPathField(path) && root !== '' ? resolve(folder, root) : root
  if (Array.isArray(root))
    return root.map((one, index) => absolutePaths(one, folder, [...path, index]))
  if (typeof root !== 'object' || root === null) return root
  return Object.fromEntries(
    Object.entries(root).map(([key, one]) => [key, absolutePaths(one, folder, [...path, key])]),
  )
}
