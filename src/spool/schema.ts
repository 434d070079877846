/**
 * The spool file's tables, a comment per column, and how old files are brought up to date.
 *
 * Invariants: `user_version` = schema version + 65536 * the oldest schema version whose program may still
 * write the file;
 * a file this program may not write is refused before a connection touches it (`versionOnDisk` reads raw bytes, the
 * write-ahead log's page 1 included). Keys of lane rows are `lane * 2^44 + seq`; no table has a secondary index.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import type Database from 'better-sqlite3'
import { Failure } from '../errors.ts'

export const schemaVersion = 2
/** A program of this schema version or newer may open the file this one writes. */
const oldestWriter = 1
const applicationId = 0x48464c44

const tables = `
CREATE TABLE meta (
  key TEXT PRIMARY KEY,            -- spoolId, format, agent, configDigest, quarantineId
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lanes (
  id INTEGER PRIMARY KEY,          -- 1..511, never reused
  name TEXT NOT NULL,
  head INTEGER NOT NULL,           -- highest seq used
  floor INTEGER NOT NULL,          -- lowest seq still held; below it stubs and gaps answer
  hash TEXT NOT NULL,              -- digest of the newest segment, zeros before the first
  accepted INTEGER NOT NULL,       -- points and losses in all seqs <= head (the journal's come on top)
  bytes INTEGER NOT NULL,          -- stored bytes of the segments held
  waiting INTEGER NOT NULL,        -- points in the table of that name
  seal_number INTEGER NOT NULL,    -- the spool's, when this row was last written
  commit_number INTEGER NOT NULL,  -- the spool's, when this row was last written
  uptime_ms INTEGER NOT NULL,      -- accumulated uptime of the spool, likewise
  wall_us INTEGER NOT NULL,        -- last trusted wall time, likewise
  crc INTEGER NOT NULL             -- rowCrc of all columns before: SQLite's pages carry no checksum
) STRICT;

CREATE TABLE journal (
  key INTEGER PRIMARY KEY,         -- lane * 2^44 + commit number
  epoch INTEGER NOT NULL,          -- ordinal of the epoch whose dictionary the points use
  points INTEGER NOT NULL,
  bytes BLOB NOT NULL              -- encodeJournal
) STRICT;

CREATE TABLE waiting (
  key INTEGER PRIMARY KEY,         -- lane * 2^44 + commit number: monotonic times, waiting for a clock
  epoch INTEGER NOT NULL,
  boot TEXT NOT NULL,              -- the boot whose monotonic time they carry
  points INTEGER NOT NULL,
  bytes BLOB NOT NULL
) STRICT;

CREATE TABLE segments (
  key INTEGER PRIMARY KEY,         -- lane * 2^44 + seq
  epoch INTEGER NOT NULL,          -- ordinal
  points INTEGER NOT NULL,
  time_us_min INTEGER NOT NULL,
  time_us_max INTEGER NOT NULL,
  bytes BLOB NOT NULL              -- made once: stored, sent, checked, decoded as it is
) STRICT;

CREATE TABLE stubs (
  key INTEGER PRIMARY KEY,         -- lane * 2^44 + last seq: what was delivered and trimmed
  seq INTEGER NOT NULL,            -- first seq
  epoch INTEGER NOT NULL,
  points INTEGER NOT NULL,
  lost INTEGER NOT NULL,           -- counts of gap rows folded into this stub
  time_us_min INTEGER NOT NULL,
  time_us_max INTEGER NOT NULL
) STRICT;

CREATE TABLE gaps (
  key INTEGER PRIMARY KEY,         -- lane * 2^44 + last seq: a tombstone
  seq INTEGER NOT NULL,            -- first seq
  epoch INTEGER NOT NULL,
  reason TEXT NOT NULL,
  count INTEGER NOT NULL,          -- points (messages where malformed)
  source TEXT NOT NULL,
  time_us_min INTEGER NOT NULL,
  time_us_max INTEGER NOT NULL,
  delivered_to TEXT NOT NULL       -- JSON array of readers that had passed it while it still was a segment
) STRICT;

CREATE TABLE cursors (
  lane INTEGER NOT NULL,
  reader TEXT NOT NULL,
  backlog INTEGER NOT NULL,        -- everything <= is acked
  live_start INTEGER,              -- the second cursor: (live_start, live_up_to] is acked too
  live_up_to INTEGER,
  delivered INTEGER NOT NULL,      -- points in segments passed, less those in reader_gaps
  lost INTEGER NOT NULL,           -- counts of tombstones passed, and of reader_gaps
  reduced INTEGER NOT NULL,        -- points a stage read and did not give out (0 for destinations)
  start INTEGER NOT NULL,          -- the seq after which the reader began
  accepted_before INTEGER NOT NULL, -- the lane's accepted in seqs <= start
  crc INTEGER NOT NULL,            -- rowCrc of all columns before
  PRIMARY KEY (lane, reader)
) STRICT, WITHOUT ROWID;

CREATE TABLE reader_gaps (
  lane INTEGER NOT NULL,
  reader TEXT NOT NULL,
  seq_last INTEGER NOT NULL,
  reason TEXT NOT NULL,
  seq INTEGER NOT NULL,            -- first seq; below seq_last only where rows were folded
  count INTEGER NOT NULL,          -- points of segments passed that this reader's far side can never hold
  source TEXT NOT NULL,            -- series, '' when many
  time_us_min INTEGER NOT NULL,
  time_us_max INTEGER NOT NULL,
  PRIMARY KEY (lane, reader, seq_last, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE refused (
  id INTEGER PRIMARY KEY,          -- of the quarantine, see there
  lane INTEGER NOT NULL,
  reader TEXT NOT NULL,
  seq INTEGER NOT NULL,            -- the segment that was stored without these points
  reason TEXT NOT NULL,            -- of their row in reader_gaps
  why TEXT NOT NULL,               -- a Refusal
  text TEXT NOT NULL,              -- in words
  at_us INTEGER NOT NULL,          -- wall clock, for people
  points INTEGER NOT NULL,
  series TEXT NOT NULL,            -- JSON: the series that numbers in bytes are places of
  crc INTEGER NOT NULL,            -- rowCrc of all columns before
  bytes BLOB NOT NULL              -- the points, sealed
) STRICT;

CREATE TABLE stages (
  lane INTEGER NOT NULL,           -- the lane it reads
  reader TEXT NOT NULL,
  checkpoint INTEGER NOT NULL,     -- the state is the stage's after this seq
  hold TEXT NOT NULL,              -- JSON: what that state may still ask for, see hold.ts
  state_crc INTEGER NOT NULL,      -- CRC32 of the bytes in state
  crc INTEGER NOT NULL,            -- rowCrc of all columns before
  state BLOB NOT NULL,             -- a zstd frame, or as the stage gave it (version 1)
  PRIMARY KEY (lane, reader)
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
  key INTEGER PRIMARY KEY,         -- lane * 2^44 + seq: every reader had passed seq ...
  uptime_ms INTEGER NOT NULL       -- ... at this accumulated uptime
) STRICT;

CREATE TABLE epochs (
  ordinal INTEGER PRIMARY KEY,     -- grows by one an opening
  epoch TEXT NOT NULL,             -- 128 random bits, hex
  parent TEXT                      -- the epoch that was the newest in the file
) STRICT;

CREATE TABLE epoch_lanes (
  key INTEGER PRIMARY KEY,         -- ordinal * 512 + lane
  base INTEGER NOT NULL,           -- the parent's last seq in the lane
  base_hash TEXT NOT NULL          -- and its hash
) STRICT;

CREATE TABLE dictionary (
  key INTEGER PRIMARY KEY,         -- epoch ordinal * 2^24 + index
  series INTEGER NOT NULL          -- series id
) STRICT;

CREATE TABLE series (
  id INTEGER PRIMARY KEY,          -- 63 bits of SHA-256
  name TEXT NOT NULL,
  tags TEXT NOT NULL,              -- JSON, sorted pairs
  unit TEXT NOT NULL,
  contract TEXT NOT NULL,          -- JSON of a Contract: how its points were thinned; '' when they were not
  crc INTEGER NOT NULL             -- CRC32 of all columns before, see series-rows.ts
) STRICT;

CREATE TABLE kept (
  key TEXT PRIMARY KEY,            -- a source's own memory
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY,          -- never used again, nor in refused: the last one stands in meta
  lane INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  source TEXT NOT NULL,
  text TEXT NOT NULL,
  at_us INTEGER NOT NULL,          -- wall clock, for people
  sample BLOB NOT NULL
) STRICT;
`

const stageLog = `
CREATE TABLE stage_log (
  lane INTEGER NOT NULL,           -- with reader: the row of stages it follows
  reader TEXT NOT NULL,
  number INTEGER NOT NULL,         -- 0, 1, 2 ... since that state was saved
  seq INTEGER NOT NULL,            -- decided after this seq
  hold TEXT NOT NULL,              -- as in stages, where it went back further than was saved; else ''
  state_crc INTEGER NOT NULL,      -- of the state it follows: others are left over from a program that knows no log
  decided_crc INTEGER NOT NULL,    -- CRC32 of decided
  crc INTEGER NOT NULL,            -- rowCrc of all columns before
  decided BLOB NOT NULL,           -- what a tick decided; empty where only hold moved
  PRIMARY KEY (lane, reader, number)
) STRICT, WITHOUT ROWID;
`

/** Step n brings version n to n + 1. Additive only, so that one version back can still write. Comments stay here. */
const migrations: readonly string[] = [tables, stageLog].map((sql) =>
  sql.replaceAll(/ *--.*$/gm, ''),
)

/*
 * A column read as the type its table declares: a flipped bit in the row's own header can change a
 * value's type, and no
 * constraint looks when reading.
 */
export const blob = (column: string): string =>
  `CASE typeof(${column}) WHEN 'blob' THEN ${column} ELSE x'' END AS ${column}`
export const integer = (column: string, name = column): string =>
  `CASE typeof(${column}) WHEN 'integer' THEN ${column} ELSE 0 END AS ${name}`

/** Of the rows that decide what is sent and what is trimmed. */
export const rowCrc = (values: readonly unknown[]): number =>
  crc32(Buffer.from(JSON.stringify(values)))

const readable = (userVersion: number): boolean => {
  const [version, oldest] = [userVersion & 0xffff, userVersion >>> 16]
  // A number that no version can have written is damage, not a newer program.
  const plausible = version < 10_000 && oldest <= version
  return version <= schemaVersion || oldest <= schemaVersion || !plausible
}

const newer = (path: string, userVersion: number) =>
  new Failure(
    'HF-S003',
    `spool ${path} was written by a newer version (schema ${userVersion & 0xffff}, not ${schemaVersion})`,
    'Start the newer version again, or let it drain first. Nothing in the file was changed.',
  )

const walHeadBytes = 32
const frameHeadBytes = 24
/** SQLite's running checksum of its write-ahead log, over `bytes[from, to)`. */
const addToSum = (
  sum: [number, number],
  words: DataView,
  from: number,
  to: number,
  littleEndian: boolean,
) => {
  let [a, b] = sum
  for (let at = from; at < to; at += 8) {
    a = (a + words.getUint32(at, littleEndian) + b) | 0
    b = (b + words.getUint32(at + 4, littleEndian) + a) | 0
  }
  sum[0] = a
  sum[1] = b
}

/**
 * The highest `user_version` that the log commits, as SQLite itself would read it: what a power cut tore is not
 * believed, or old bytes under a new frame's head would pass for a newer program's.
 */
const versionInLog = (wal: Buffer): number => {
  if (wal.length < walHeadBytes) return 0
  const words = new DataView(wal.buffer, wal.byteOffset, wal.length)
  const littleEndian = (words.getUint32(0) & 1) === 0
  const pageSize = words.getUint32(8)
  const sum: [number, number] = [0, 0]
  const holds = (at: number) => words.getInt32(at) === sum[0] && words.getInt32(at + 4) === sum[1]
  addToSum(sum, words, 0, 24, littleEndian)
  if (pageSize < 512 || !holds(24)) return 0
  let [written, committed] = [0, 0]
  for (let at = walHeadBytes; at + frameHeadBytes + pageSize <= wal.length; ) {
    const page = at + frameHeadBytes
    addToSum(sum, words, at, at + 8, littleEndian)
    addToSum(sum, words, page, page + pageSize, littleEndian)
    if (wal.compare(wal, 16, 24, at + 8, at + 16) !== 0 || !holds(at + 16)) break
    if (words.getUint32(at) === 1) written = Math.max(written, words.getUint32(page + 60))
    if (words.getUint32(at + 4) !== 0) committed = written
    at = page + pageSize
  }
  return committed
}

/** The highest `user_version` in the file's header or in its write-ahead log; 0 when there is none. */
const versionOnDisk = (path: string): number => {
  const read = (file: string, length: number): Buffer => {
    const fd = openSync(file, 'r')
    try {
      const bytes = Buffer.alloc(Math.min(length, fstatSync(fd).size))
      readSync(fd, bytes, 0, bytes.length, 0)
      return bytes
    } finally {
      closeSync(fd)
    }
  }
  if (!existsSync(path)) return 0
  const header = read(path, 100)
  const ours = header.length === 100 && header.toString('latin1', 0, 15) === 'SQLite format 3'
  const version = ours ? header.readUInt32BE(60) : 0
  const wal = existsSync(`${path}-wal`) ? read(`${path}-wal`, 64 * 1024 * 1024) : Buffer.alloc(0)
  return Math.max(version, versionInLog(wal))
}

/** Throws HF-S003 when the file belongs to a newer program. Changes no byte. */
export const refuseNewer = (path: string): void => {
  const version = versionOnDisk(path)
  if (!readable(version)) throw newer(path, version)
}

/** Runs the missing migrations, each in one transaction. */
export const migrate = (db: Database.Database, path: string): void => {
  const found = db.pragma('user_version', { simple: true }) as number
  if (!readable(found)) throw newer(path, found)
  for (let version = found & 0xffff; version < schemaVersion; version++) {
    db.transaction(() => {
      db.exec(migrations[version] as string)
      db.pragma(`user_version = ${version + 1 + oldestWriter * 65536}`)
      db.pragma(`application_id = ${applicationId}`)
    }).immediate()
  }
}
