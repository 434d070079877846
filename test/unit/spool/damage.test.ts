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

/** A spool whose older epoch used `name`; then what it gives out when the image is changed by `change`. */
const afterRestart = (name: string, change: (image: Buffer) => void) => {
  const rig = createRig()
  const first = rig.open()
  store(first, floats(rig.series, 1, 200, 'another'))
  store(first, floats(rig.series, 201, 100, name))
  const image = Buffer.from(first.image())
  change(image)
  const spool = rig.look(image)
  const items = readAll(spool)
  const [epoch] = spool.epochs()
  return { items, entries: spool.dictionary(epoch?.epoch ?? '', 0, 10) }
}

test('any one flipped bit of a stored series is put right', () => {
  const name = 'boiler temperature'
  for (let bit = 0; bit < name.length * 8; bit++) {
    const { items, entries } = afterRestart(name, (image) => {
      const at = image.indexOf(name)
      assert.ok(at > 0 && image.indexOf(name, at + 1) === -1)
      image[at + (bit >> 3)] = (image[at + (bit >> 3)] as number) ^ (1 << (bit & 7))
    })
    assert.ok(items.every((item) => item.type === 'segment'))
    assert.deepEqual(
      entries.map((entry) => entry.name),
      ['another', name],
    )
  }
})

test('of a series damaged beyond that no segment is given out, those before it are', () => {
  const { items, entries } = afterRestart('boiler temperature', (image) =>
    image.write('cooler', image.indexOf('boiler temperature')),
  )
  assert.deepEqual(
    items.map((item) => (item.type === 'tombstone' ? item.gap.reason : 'segment')),
    ['segment', 'segment', 'damaged'],
  )
  assert.deepEqual(
    entries.map((entry) => entry.name),
    ['another'],
  )
})

for (const [table, column] of [
  ['cursors', 'delivered'],
  ['cursors', 'start'],
  ['lanes', 'accepted'],
] as const) {
  test(`a column of ${table} that a flipped bit has renamed (${column}) is damage, not a row without it`, () => {
    const rig = createRig()
    const spool = rig.open()
    spool.openReader('raw', 'region', 'oldest')
    store(spool, floats(rig.series, 1, 400))
    const db = new Database(Buffer.from(spool.image()))
    db.unsafeMode(true)
    db.pragma('writable_schema = ON')
    const renamed = `${column.slice(0, -1)}x `
    db.prepare('UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?').run(
      ...[`  ${column} `, `  ${renamed}`, table],
    )
    assert.throws(() => rig.look(db.serialize()), { code: 'HF-S005' })
  })
}
