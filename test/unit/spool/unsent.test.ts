import assert from 'node:assert/strict'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { unsentPoints } from '../../../src/spool/unsent.ts'
import { createRig, floats, laneOptions, store } from './support.ts'

const unsentIn = (image: Uint8Array, damage = ''): number => {
  const db = new Database(Buffer.from(image))
  try {
    db.exec(damage)
    return unsentPoints(db)
  } finally {
    db.close()
  }
}

test('unsent: sealed, journalled and never read points count; the reader furthest behind decides', () => {
  const rig = createRig({ lanes: [laneOptions('raw'), laneOptions('alarms')] })
  const spool = rig.open()
  assert.equal(unsentIn(spool.image()), 0)
  store(spool, floats(rig.series, 0, 10), 'alarms', true)
  assert.equal(unsentIn(spool.image()), 10)

  for (const reader of ['region', 'second']) spool.openReader('raw', reader, 'oldest')
  store(spool, floats(rig.series, 0, 100), 'raw', true)
  store(spool, floats(rig.series, 100, 5))
  assert.equal(unsentIn(spool.image()), 115)
  spool.ack('raw', 'region', { which: 'backlog', upTo: 1 })
  store(spool, floats(rig.series, 105, 1))
  assert.equal(unsentIn(spool.image()), 116)
  spool.ack('raw', 'second', { which: 'backlog', upTo: 1 })
  store(spool, floats(rig.series, 106, 1))
  assert.equal(unsentIn(spool.image()), 17)

  spool.openReader('alarms', 'region', 'oldest')
  spool.ack('alarms', 'region', { which: 'backlog', upTo: 1 })
  store(spool, floats(rig.series, 107, 93), 'raw', true)
  for (const reader of ['region', 'second'])
    spool.ack('raw', reader, { which: 'backlog', upTo: spool.lanes()[0]?.head ?? 0 })
  store(spool, floats(rig.series, 200, 1))
  spool.ack('raw', 'region', { which: 'backlog', upTo: 1 })
  assert.equal(unsentIn(spool.image()), 1)
})

test('unsent: a file it cannot vouch for is no 0', () => {
  const rig = createRig()
  const spool = rig.open()
  spool.openReader('raw', 'region', 'oldest')
  store(spool, floats(rig.series, 0, 100), 'raw', true)
  const image = spool.image()
  assert.equal(unsentIn(image), 100)
  assert.throws(() => unsentIn(image, 'UPDATE cursors SET delivered = 100'), /cursors are damaged/)
  assert.throws(() => unsentIn(image, 'UPDATE lanes SET accepted = 0'), /lanes are damaged/)
  assert.throws(() => unsentIn(image, 'PRAGMA user_version = 7'), /schema 7/)
})
