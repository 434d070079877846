/** Columns whose type a flipped bit has changed: SQLite reads them as they are, whatever the table declares. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { createRig, floats, readAll, store } from './support.ts'

/** The image with `column` NULL in the rows of odd seq, behind the table's back. */
const withNull = (image: Uint8Array, table: string, column: string): Uint8Array => {
  const declared = `${column} ${column === 'bytes' ? 'BLOB' : 'INTEGER'} NOT NULL`
  const redeclare = (bytes: Uint8Array, from: string, to: string): Database.Database => {
    const db = new Database(Buffer.from(bytes))
    db.unsafeMode(true)
    db.pragma('writable_schema = ON')
    db.prepare('UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?').run(
      ...[from, to, table],
    )
    return db
  }
  const loose = declared.replace(' NOT NULL', '')
  const changed = new Database(redeclare(image, declared, loose).serialize())
  const { changes } = changed
    .prepare(`UPDATE ${table} SET ${column} = NULL WHERE key & 1 = 1`)
    .run()
  assert.ok(changes > 0)
  return redeclare(changed.serialize(), loose, declared).serialize()
}

for (const column of ['bytes', 'points', 'epoch', 'time_us_min']) {
  test(`segments whose ${column} is of another type are read or answered by a tombstone`, () => {
    const rig = createRig()
    const spool = rig.open()
    store(spool, floats(rig.series, 1, 400))
    const items = readAll(rig.look(withNull(spool.image(), 'segments', column)))
    assert.deepEqual(
      items.map((item) => item.seq),
      [1, 2, 3, 4],
    )
    if (column !== 'bytes') return
    assert.deepEqual(
      items.map((item) => item.type),
      ['tombstone', 'segment', 'tombstone', 'segment'],
    )
  })
}

test('journal rows whose bytes are of another type are declared lost', () => {
  const rig = createRig()
  const spool = rig.open()
  for (let first = 1; first <= 40; first += 10) store(spool, floats(rig.series, first, 10))
  const damaged = rig.look(withNull(spool.image(), 'journal', 'bytes'))
  assert.equal(damaged.lanes()[0]?.accepted, 40)
  assert.equal(damaged.gaps(10)[0]?.count, 20)
})
