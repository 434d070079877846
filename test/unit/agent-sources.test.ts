import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aheadUsMaxOf } from '../../src/agent-sources.ts'
import type { Config } from '../../src/config/schema.ts'

test('times ahead of the clock are judged in lanes that classes read, in no other', () => {
  const agent = { max_ahead: 7_200_000 } as Config['agent']
  const config = { agent, classes: [{ lane: 'raw', classes: [] }] }
  assert.equal(aheadUsMaxOf(config, 'raw'), 7_200_000_000)
  assert.equal(aheadUsMaxOf(config, 'plan'), Number.POSITIVE_INFINITY)
})
