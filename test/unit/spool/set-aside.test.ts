/** A suspected spool is put beside unopened; the new file names its openings to the region until that knows them. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { createSystemHost } from '../../../src/host.ts'
import { openSpool } from '../../../src/spool/spool.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { floats, newSeries, spoolOptions, store } from './support.ts'

const host = createSystemHost()
const createFolder = () => {
  const path = join(temporaryFolder('aside'), 'spool.db')
  const series = newSeries()
  const open = (suspect = false) =>
    openSpool({ at: { path }, host, series, options: spoolOptions(), suspect })
  const aside = () => readdirSync(dirname(path)).filter((name) => name.includes('.suspect-'))
  return { path, series, open, aside }
}
const names = (spool: ReturnType<typeof openSpool>) => spool.epochs().map(({ epoch }) => epoch)

test('the new file begins empty, declares nothing lost, and descends from the old one', () => {
  const { path, series, open, aside } = createFolder()
  const before: string[] = []
  for (let nth = 0; nth < 3; nth++) {
    const spool = open()
    before.push(spool.epoch)
    store(spool, floats(series, nth * 100, 10))
    spool.close()
  }
  const bytes = readFileSync(path)
  const fresh = open(true)
  assert.deepEqual(
    fresh.lanes().map(({ head, accepted }) => [head, accepted]),
    [[0, 0]],
  )
  assert.deepEqual(fresh.gaps(10), [])
  assert.deepEqual(names(fresh), [...before, fresh.epoch])
  assert.equal(fresh.epochs().at(-1)?.parent, before[2])
  assert.ok(aside().some((name) => name.endsWith('-anchor')))
  const [file = ''] = aside().filter((name) => /suspect-[0-9a-f]{8}$/.test(name))
  assert.deepEqual(readFileSync(join(dirname(path), file)), bytes, 'not a byte of it is changed')

  // Told as long as the first opening of the new file holds something.
  fresh.openReader('raw', 'region', 'oldest')
  const segments = 100
  for (let nth = 1; nth <= segments; nth++)
    store(fresh, floats(series, nth * 1_000, 1), 'raw', true)
  fresh.close()
  const second = open()
  assert.deepEqual(names(second), [...before, fresh.epoch, second.epoch])
  second.ack('raw', 'region', { which: 'backlog', upTo: segments })
  store(second, floats(series, 1e6, 10), 'raw', true)
  assert.ok((second.lanes()[0]?.floor ?? 0) > 1, 'what was delivered is let go')
  second.close()
  const third = open()
  assert.deepEqual(names(third), [second.epoch, third.epoch])
  third.close()
})

test('a file that cannot be read is put beside all the same; without a file nothing is', () => {
  const { path, open, aside } = createFolder()
  const none = open(true)
  assert.equal(none.epochs().length, 1)
  none.close()
  assert.deepEqual(aside(), [])
  writeFileSync(path, 'no database at all')
  for (const part of ['-wal', '-anchor']) writeFileSync(path + part, 'nor this')
  const fresh = open(true)
  assert.equal(fresh.epochs().length, 1)
  fresh.close()
  const [file = ''] = aside().filter((name) => /suspect-[0-9a-f]{8}$/.test(name))
  assert.equal(readFileSync(join(dirname(path), file), 'utf8'), 'no database at all')
  assert.ok(existsSync(path))
})
