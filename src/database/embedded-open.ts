/**
 * Opening the embedded store's file so that an answered commit is durable, migrating it, and sorting SQLite's
 * troubles.
 *
 * Invariant: `synchronous=FULL` is asserted after the first write (better-sqlite3 would lower it in WAL mode).
 */
import { lstatSync } from 'node:fs'
import Database from 'better-sqlite3'
import { Failure, isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import { embeddedMigrations } from './schema-embedded.ts'
import type { StoreTrouble } from './store.ts'

/** A process that was killed has let go of the file by then; one that runs will not. */
const lockWaitMs = 500
const walBytesMax = 8 * 1024 * 1024
/** PRAGMA synchronous: 2 is FULL. */
const full = 2

export const openDatabase = (source: string | Uint8Array): Database.Database => {
  if (typeof source === 'string' && lstatSync(source, { throwIfNoEntry: false })?.isSymbolicLink())
    throw new Failure('HF-D006', `${source} is a link, and none is followed`, 'Remove it.')
  const image = typeof source === 'string' ? source : Buffer.from(source)
  // The types know only file names; the library takes an image as well.
  const db = new Database(image as string, { timeout: lockWaitMs })
  try {
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('wal_autocheckpoint = 500')
    db.pragma(`journal_size_limit = ${walBytesMax}`)
  } catch (error) {
    db.close()
    throw error
  }
  return db
}

/** Runs the migrations that are missing, and makes the region's identity once. */
export const migrate = (
  db: Database.Database,
  host: Pick<Host, 'randomBytes'>,
  promoted: boolean,
): void => {
  const found = db.pragma('user_version', { simple: true }) as number
  if (found > embeddedMigrations.length) {
    const text = `the region's database has schema ${found}, this version knows up to ${embeddedMigrations.length}`
    throw new Failure('HF-D002', text, 'Start the newer version again.')
  }
  db.transaction(() => {
    embeddedMigrations.slice(found).forEach((sql, at) => {
      db.exec(sql)
      db.pragma(`user_version = ${found + at + 1}`)
    })
    const region = Buffer.from(host.randomBytes(16)).toString('hex')
    db.prepare('insert or ignore into region values (1, ?, 1)').run(region)
    if (promoted && found > 0) db.prepare('update region set timeline = timeline + 1').run()
  }).immediate()
  if (db.pragma('synchronous', { simple: true }) !== full)
    throw new Failure('HF-D003', 'SQLite does not keep synchronous=FULL', 'Report this: a bug.')
}

/** Expected trouble as an answer; anything else is a bug and goes on up. */
export const embeddedTroubleOf = (error: unknown): StoreTrouble => {
  const code = error instanceof Database.SqliteError ? error.code : ''
  const text = textOf(error)
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return { kind: 'later', text }
  if (code === 'SQLITE_FULL')
    return { kind: 'blocked', code: 'HF-D010', text, hint: 'Free space on the region’s disk.' }
  if (/^SQLITE_(IOERR|CORRUPT|NOTADB|CANTOPEN|READONLY)/.test(code))
    return {
      kind: 'blocked',
      code: 'HF-D011',
      text,
      hint: 'Check the region’s disk, then restart.',
    }
  if (isFailure(error, 'HF-D002'))
    return { kind: 'blocked', code: 'HF-D002', text, hint: error.hint }
  throw error
}
