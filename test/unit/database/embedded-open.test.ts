import assert from 'node:assert/strict'
import { readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openDatabase } from '../../../src/database/embedded-open.ts'
import { temporaryFolder } from '../../support/temp.ts'

test('a link in place of the database is refused, and nothing is written where it leads', () => {
  const folder = temporaryFolder('region')
  const [path, outside] = [join(folder, 'region.db'), join(folder, 'outside')]
  writeFileSync(outside, '')
  symlinkSync(outside, path)
  assert.throws(() => openDatabase(path), { code: 'HF-D006' })
  assert.equal(readFileSync(outside, 'latin1'), '')
  rmSync(path)
  openDatabase(path).close()
  assert.match(readFileSync(path, 'latin1'), /^SQLite format 3/)
})
