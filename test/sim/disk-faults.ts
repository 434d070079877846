/**
 * What a disk does to what lies on it: bits that fall over in segments and in the states of stages, and when. Behind
 * SQLite's back, while no process runs.
 */
import Database from 'better-sqlite3'
import { stageRows } from '../../src/spool/stage-rows.ts'
import type { Disk } from './disk.ts'
import type { PlannedEvent } from './plan.ts'
import { createChance } from './random.ts'
import { rememberDamaged } from './recorded.ts'

/** Of a stream of their own: what other seeds go through stays as it was. */
export const drawStageFaults = (seed: number, faultsMs: number): readonly PlannedEvent[] => {
  const chance = createChance(seed, 'stage-faults')
  const kind = chance.pick(['stage-damage', 'stage-damage', 'lost-tail', null, null] as const)
  if (kind === null) return []
  return Array.from({ length: kind === 'lost-tail' ? 1 : chance.int(1, 2) }, () => ({
    kind,
    atMs: chance.between(faultsMs / 4, faultsMs),
    forMs: chance.between(50, 2_000),
    draw: chance.next(),
  }))
}
export const drawSyncFailures = (seed: number): number => {
  const chance = createChance(seed, 'sync-failures')
  return chance.hit(0.15) ? chance.int(100, 600) : 0
}

/** A bit of one stored segment. */
export const damageSegment = (disk: Disk, draw: number): void => {
  if (disk.image === null) return
  const db = new Database(Buffer.from(disk.image))
  const rows = db.prepare('SELECT key, bytes FROM segments ORDER BY key').all() as {
    key: number
    bytes: Buffer
  }[]
  const row = rows[Math.floor(draw * rows.length)]
  if (row !== undefined) {
    const at = Math.floor(((draw * 7919) % 1) * row.bytes.length)
    row.bytes[at] = (row.bytes[at] as number) ^ (1 << Math.floor((draw * 104_729) % 8))
    db.prepare('UPDATE segments SET bytes = ? WHERE key = ?').run(row.bytes, row.key)
    disk.image = db.serialize()
  }
  db.close()
}

const places = [
  ['stages', 'state'],
  ['stages', 'state'],
  ['stages', 'checkpoint'],
  ['stages', 'hold'],
  ['stages', 'state_crc'],
  ['stage_log', 'decided'],
  ['stage_log', 'seq'],
] as const
type Place = (typeof places)[number]
/** A bit of one stage's row, or of its log. */
export const damageStage = (disk: Disk, draw: number): boolean => {
  if (disk.image === null) return false
  const db = new Database(Buffer.from(disk.image))
  const rows = stageRows((sql) => db.prepare(sql))
  const row = rows[Math.floor(draw * rows.length)]
  if (row === undefined) return false
  const of = 'WHERE lane = ? AND reader = ?'
  const who = [row.lane, row.reader]
  const cursor = db.prepare(`SELECT backlog FROM cursors ${of}`).pluck().get(who) as number
  rememberDamaged(disk.archive, row, cursor)
  const found = ([table, column]: Place) =>
    db.prepare(`SELECT ${column} FROM ${table} ${of}`).pluck().get(who) as Flippable | undefined
  const drawn = places[Math.floor(((draw * 7919) % 1) * places.length)] ?? places[0]
  const place = found(drawn) === undefined ? places[0] : drawn
  const value = flipped(found(place) ?? 0, (draw * 104_729) % 1)
  db.prepare(`UPDATE ${place[0]} SET ${place[1]} = ? ${of}`).run(value, who)
  disk.image = db.serialize()
  db.close()
  return true
}
type Flippable = number | string | Buffer
const flipped = (value: Flippable, draw: number): Flippable => {
  if (typeof value === 'number') return value ^ (1 << Math.floor(draw * 12))
  const bytes = Buffer.from(value)
  const at = Math.floor(draw * bytes.length)
  bytes[at] = (bytes[at] as number) ^ 1
  return typeof value === 'string' ? bytes.toString() : bytes
}
