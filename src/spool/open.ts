/**
 * Opening the file: settings asserted, one process at a time, newer versions refused untouched, a damaged
 * file set aside.
 *
 * Invariants: synchronous is FULL on every connection and checked after the first write (better-sqlite3 is built with
 * NORMAL for write-ahead logs); nothing is opened twice; a file set aside is renamed, never deleted.
 */
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  renameSync,
  rmSync,
  statfsSync,
} from 'node:fs'
import { dirname } from 'node:path'
import Database from 'better-sqlite3'
import { Failure, isFailure, textOf } from '../errors.ts'
import type { Host } from '../host.ts'
import type { SeriesTable } from '../model.ts'
import { type AnchorFile, createMemoryAnchor, openAnchor, openAnchorFile } from './anchor.ts'
import { findEnding } from './contracts.ts'
import { derive } from './derive.ts'
import { createDictionary } from './dictionary.ts'
import { loadEpochs } from './epochs.ts'
import { beginEpoch, createLanes, loadLanes } from './recover.ts'
import { pageBytes, pagesMax, prepareBallast } from './room.ts'
import { migrate, refuseNewer } from './schema.ts'
import { sealOpen } from './seal.ts'
import { suspectMark } from './set-aside.ts'
import { attachStages, leaveAtOpening, type Remake } from './stage-changes.ts'
import type { StageReader } from './stages.ts'
import {
  asFailure,
  damageMark,
  type EpochRow,
  type SpoolOptions,
  type SpoolState,
} from './state.ts'
import { write } from './write.ts'

export interface SpoolParts {
  /** A file, or a database image kept in memory (null: an empty one). */
  readonly at: { readonly path: string } | { readonly image: Uint8Array | null }
  readonly host: Pick<Host, 'clock' | 'randomBytes' | 'bootId' | 'log'>
  readonly series: Pick<SeriesTable, 'entry'>
  readonly options: SpoolOptions
  readonly stages?: readonly StageReader[]
  /** Without it a stage that another definition replaces just ends. */
  readonly remake?: Remake
  /** In place of the file beside the database. */
  readonly anchorFile?: AnchorFile
  readonly diskFreeBytes?: () => number
  /** Crash after crash: the file is set aside unopened, a new one goes on (`lives.ts`). */
  readonly suspect?: boolean
  /** Called at named points; the simulation crashes by throwing from it, and keeps the image of what stands. */
  readonly failpoint?: (name: string, image: () => Uint8Array) => void
}

const walAutocheckpointPages = 256
const walBytesMax = 2 * 1024 * 1024
/** better-sqlite3 would take 16 MiB in time; the kernel keeps the rest, and takes it back when memory is short. */
const pageCacheKiB = 2 * 1024

const connect = (path: string): Database.Database => {
  let db: Database.Database | null = null
  try {
    // Asked of the folder: on a read-only disk SQLite itself only reports an I/O error.
    accessSync(dirname(path), constants.W_OK)
    db = new Database(path, { timeout: 0 })
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma(`page_size = ${pageBytes}`)
    db.pragma('auto_vacuum = NONE')
    if (db.pragma('journal_mode = WAL', { simple: true }) !== 'wal') {
      throw new Failure('HF-S001', `the disk under ${path} takes no write-ahead log`)
    }
    db.pragma('synchronous = FULL')
    db.pragma('fullfsync = ON')
    db.pragma('checkpoint_fullfsync = ON')
    db.pragma(`wal_autocheckpoint = ${walAutocheckpointPages}`)
    db.pragma(`journal_size_limit = ${walBytesMax}`)
    db.pragma('temp_store = MEMORY')
    db.pragma(`cache_size = -${pageCacheKiB}`)
    migrate(db, path)
    // A write of our own: it takes the lock for good, and shows a read-only disk now rather than later.
    db.transaction(() => db?.exec('UPDATE meta SET value = value WHERE 0')).immediate()
    db.prepare('SELECT count(*) FROM lanes').get()
    return db
  } catch (error) {
    db?.close()
    const code = (error as { code?: string }).code ?? ''
    if (code === 'SQLITE_BUSY' || code === 'SQLITE_LOCKED') {
      throw new Failure(
        'HF-S002',
        `another process has the spool ${path} open`,
        'One agent per spool: stop the other one, or give this one a path of its own.',
      )
    }
    if (['SQLITE_CANTOPEN', 'ENOENT', 'EACCES'].includes(code)) {
      throw new Failure(
        'HF-S001',
        `spool ${path} cannot be opened: ${textOf(error)}`,
        'Check the folder and its owner.',
      )
    }
    throw asFailure({ path }, error)
  }
}

const assertDurable = (db: Database.Database) => {
  const found = db.pragma('synchronous', { simple: true })
  if (found !== 2) {
    throw new Failure(
      'HF-S006',
      `SQLite runs with synchronous=${found}: an ack would not be durable`,
    )
  }
}

/**
 * The file and its log keep their bytes under a new name; the answer. The file first: should this be broken off, a file
 * that is gone is noticed by its anchor, one without its log would only be older.
 */
const setAside = (parts: SpoolParts, path: string, mark: string, others: readonly string[]) => {
  const aside = `${path}${mark}${Buffer.from(parts.host.randomBytes(4)).toString('hex')}`
  for (const part of ['', '-wal', ...others]) {
    if (existsSync(path + part)) renameSync(path + part, aside + part)
  }
  rmSync(`${path}-shm`, { force: true })
  return aside
}

const epochsInherited = 64
const epochRow = /^[0-9a-f]{32}$/
/**
 * The new file goes on from the openings of the one set aside, so that the region sees a descendant and not a stranger
 * that copied a name; what of it cannot be read is done without.
 */
const inherit = (db: Database.Database, aside: string) => {
  let from: Database.Database | undefined
  try {
    from = new Database(aside, { readonly: true, fileMustExist: true, timeout: 0 })
    const found = from
      .prepare('SELECT epoch FROM epochs ORDER BY ordinal DESC LIMIT ?')
      .pluck()
      .all(epochsInherited) as readonly string[]
    const epochs = found.filter((one) => epochRow.test(one)).reverse()
    const add = db.prepare('INSERT INTO epochs VALUES (?, ?, ?)')
    db.transaction(() => {
      for (const [at, epoch] of epochs.entries()) add.run(at + 1, epoch, epochs[at - 1] ?? null)
    }).immediate()
  } catch {
    // The region takes the new file for a stranger then, and lets it in after ten minutes.
  } finally {
    from?.close()
  }
}

/** A run that met damage left a mark: the whole file is looked at, once. */
const lookAtMark = (path: string, db: Database.Database) => {
  if (!existsSync(damageMark(path))) return
  rmSync(damageMark(path))
  const verdict = db.pragma('quick_check(1)', { simple: true })
  if (verdict !== 'ok') throw new Failure('HF-S005', `spool ${path} is damaged: ${verdict}`)
}

const openChecked = (path: string): Database.Database => {
  const db = connect(path)
  try {
    lookAtMark(path, db)
    return db
  } catch (error) {
    db.close()
    throw asFailure({ path }, error)
  }
}

const openImage = (image: Uint8Array | null) => {
  const bytes = image === null ? null : Buffer.from(image)
  // An image taken from a file in write-ahead mode: in memory there is no such log.
  if (bytes !== null && bytes.length > 20) bytes[18] = bytes[19] = 1
  const db = bytes === null || bytes.length === 0 ? new Database(':memory:') : new Database(bytes)
  db.pragma(`page_size = ${pageBytes}`)
  migrate(db, 'image')
  return db
}

const statements = (db: Database.Database): SpoolState['sql'] => {
  const known = new Map<string, Database.Statement>()
  return (text) => {
    let statement = known.get(text)
    if (statement === undefined) {
      statement = db.prepare(text)
      known.set(text, statement)
    }
    return statement
  }
}

const identityOf = (sql: SpoolState['sql'], host: SpoolParts['host']): string => {
  const found = sql("SELECT value FROM meta WHERE key = 'spoolId'").pluck().get() as
    | string
    | undefined
  if (found !== undefined) return found
  const spoolId = Buffer.from(host.randomBytes(16)).toString('hex')
  sql("INSERT INTO meta VALUES ('spoolId', ?)").run(spoolId)
  return spoolId
}

const buildState = (
  parts: SpoolParts,
  path: string,
  db: Database.Database,
  anchorFile: AnchorFile,
) => {
  const { host, options } = parts
  const sql = statements(db)
  const { spoolId, isNew } = db
    .transaction(() => {
      const isNew = sql('SELECT id FROM lanes LIMIT 1').get() === undefined
      createLanes(sql, options.lanes)
      return { spoolId: identityOf(sql, host), isNew }
    })
    .immediate()
  db.pragma(`max_page_count = ${pagesMax(options.bytesMax)}`)
  const loaded = loadLanes(sql, options.lanes)
  const epochs = loadEpochs(sql)
  const parent = epochs[epochs.length - 1]
  const row: EpochRow = {
    ordinal: (parent?.ordinal ?? 0) + 1,
    epoch: Buffer.from(host.randomBytes(16)).toString('hex'),
    parent: parent?.epoch ?? null,
    bases: new Map(),
  }
  const state: SpoolState = {
    db,
    path,
    host,
    series: parts.series,
    anchor: openAnchor(anchorFile),
    spoolId,
    epoch: row.epoch,
    ordinal: row.ordinal,
    dictionary: createDictionary(parts.series.entry),
    lanes: loaded.lanes,
    sql,
    diskFreeBytes: parts.diskFreeBytes ?? diskFreeUnder(path),
    failpoint: (name) => parts.failpoint?.(name, () => db.serialize()),
    uptimeBeforeMs: loaded.uptimeMs,
    openedMs: host.clock.monotonicMs(),
    options,
    now: loaded.totals,
    clock: { nowUs: 0, bootId: host.bootId, monotonicUs: 0, trusted: false },
    lastWallUs: loaded.wallUs,
    stampedBoots: new Map(),
    dead: null,
    pagesGranted: db.pragma('page_count', { simple: true }) as number,
    epochs: [...epochs, row],
    dictionariesSeen: new Map(),
    commitMs: [],
    commits: 0,
    bytesWritten: 0,
    fill: { sinceMs: host.clock.monotonicMs(), bytes: 0, perSecond: 0 },
    stages: [],
    ending: { ids: new Set(), afterUs: 0 },
    ballast: false,
  }
  return { state, row, isNew }
}

const diskFreeUnder = (path: string) => (): number => {
  if (path === '') return Number.MAX_SAFE_INTEGER
  const { bavail, bsize } = statfsSync(dirname(path))
  return bavail * bsize
}

/** Its order among the segments of all lanes is what decides which of two values of a point stands. */
const sealForConfig = (state: SpoolState) => {
  const { configDigest } = state.options
  const known = state.sql("SELECT value FROM meta WHERE key = 'configDigest'").pluck().get()
  if (configDigest === undefined || configDigest === known) return
  write(state, 'sync', () => {
    for (const lane of state.lanes.values()) if (lane.open.count() > 0) sealOpen(state, lane, true)
    state.sql("INSERT OR REPLACE INTO meta VALUES ('configDigest', ?)").run(configDigest)
  })
}

const openOnce = (parts: SpoolParts, aside: string | null): SpoolState => {
  const path = 'path' in parts.at ? parts.at.path : ''
  const db = 'path' in parts.at ? openChecked(path) : openImage(parts.at.image)
  if (aside !== null) inherit(db, aside)
  const anchorFile =
    parts.anchorFile ?? (path === '' ? createMemoryAnchor() : openAnchorFile(`${path}-anchor`))
  try {
    const { state, row, isNew } = buildState(parts, path, db, anchorFile)
    beginEpoch(state, row, aside !== null ? 'set-aside' : isNew ? 'new' : 'no')
    sealForConfig(state)
    attachStages(state, parts.stages ?? [], parts.remake)
    if (path !== '') {
      assertDurable(db)
      prepareBallast(state)
    }
    leaveAtOpening(state, () => derive(state))
    findEnding(state)
    return state
  } catch (error) {
    if (parts.anchorFile === undefined) anchorFile.close()
    db.close()
    throw asFailure({ path }, error)
  }
}

/** Whoever plants a link in place of one of our files would have us write to where it leads. */
const refuseLinks = (path: string) => {
  for (const part of ['', '-wal', '-shm', '-journal', '-anchor', '-ballast', '-damaged'])
    if (lstatSync(path + part, { throwIfNoEntry: false })?.isSymbolicLink())
      throw new Failure(
        'HF-S001',
        `${path}${part} is a link, and the spool follows none`,
        'Remove it. A spool on another disk is named by agent.state_dir.',
      )
}

/** Opens, repairs, begins an epoch. Throws a Failure HF-S001…S006, HF-S074. */
export const openState = (parts: SpoolParts): SpoolState => {
  if (!('path' in parts.at)) return openOnce(parts, null)
  const { path } = parts.at
  refuseLinks(path)
  if (parts.suspect === true && existsSync(path)) {
    // Its anchor goes with it: nothing is lost yet that would have to be declared.
    const aside = setAside(parts, path, suspectMark, ['-anchor'])
    const why = 'the agent crashed again and again over it'
    parts.host.log.error('spool_set_aside', { path: aside, why })
    return openOnce(parts, aside)
  }
  refuseNewer(path)
  try {
    return openOnce(parts, null)
  } catch (error) {
    if (!isFailure(error, 'HF-S005')) throw error
    const aside = setAside(parts, path, '.damaged-', [])
    parts.host.log.error('spool_set_aside', { path: aside, why: error.message })
    return openOnce(parts, aside)
  }
}
