/**
 * `unsent.mjs CONFIGURATION`: prints how many accepted points lie unsent on this gateway: in the unit's own state folder,
 * and in the one that the configuration names.
 *
 * Invariants: changes nothing; whatever it cannot vouch for (a configuration or a spool that it cannot read, one that was
 * set aside and not yet salvaged) makes it fail, never answer 0. The last acks before a crash are not in the file: then it
 * says too many, never too few.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import Database from 'better-sqlite3'
import { parse } from 'yaml'
import { setAsideIn } from '../../src/spool/set-aside.ts'
import { unsentPoints } from '../../src/spool/unsent.ts'

const [, , configuration = '/etc/holdfast/holdfast.yaml', standard = '/var/lib/holdfast'] =
  process.argv

/** Not there is an answer, not to be read is none. */
const orAbsent = <T>(read: () => T): T | undefined => {
  try {
    return read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
const unsentIn = (folder: string): number => {
  const names = orAbsent(() => readdirSync(folder)) ?? []
  const left = setAsideIn(names, folder).find(({ dealtWith }) => !dealtWith)
  if (left !== undefined) throw new Error(`${left.file} was set aside`)
  if (!names.includes('spool.db')) return 0
  const db = new Database(join(folder, 'spool.db'), {
    readonly: true,
    fileMustExist: true,
    timeout: 0,
  })
  try {
    return unsentPoints(db)
  } finally {
    db.close()
  }
}

const text = orAbsent(() => readFileSync(configuration, 'utf8'))
const other: unknown = text === undefined ? undefined : parse(text)?.agent?.state_dir
const elsewhere =
  typeof other === 'string' ? resolve(dirname(resolve(configuration)), other) : standard
const counts = [...new Set([standard, elsewhere])].map((folder) => ({
  folder,
  points: unsentIn(folder),
}))
const total = counts.reduce((sum, { points }) => sum + points, 0)
const where = counts.filter(({ folder, points }) => points > 0 && folder !== standard)
process.stdout.write(`${[total, ...where.map(({ folder }) => `(in ${folder})`)].join(' ')}\n`)
