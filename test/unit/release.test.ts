import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { releasedAtUs, version } from '../../src/release.ts'

test('the release constant and package.json name one version', () => {
  const pack = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  assert.equal(version, pack.version)
  assert.ok(releasedAtUs % 86_400_000_000 === 0)
})
