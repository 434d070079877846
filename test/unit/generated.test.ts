import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { generated } from '../../build/generate.ts'

test('files that are made from others are in step with them: node build/generate.ts', () => {
  for (const [path, content] of Object.entries(generated()))
    assert.equal(readFileSync(join(import.meta.dirname, '../..', path), 'utf8'), content, path)
})
