/** Commits segments to an embedded store and prints each acked seq, until it is killed. */
import { writeSync } from 'node:fs'
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createEmbeddedStore } from '../../src/database/embedded.ts'
import { createSystemHost } from '../../src/host.ts'
import { createTestAgent } from './store-agent.ts'

const path = process.argv[2] ?? ''
const store = createEmbeddedStore({ path, host: createSystemHost(), extendDictionaryHash })
const agent = createTestAgent('killed')
const first = agent.epoch('first')
await agent.introduce(store, first)
const standing = await store.hello(first.hello())
if (standing.kind !== 'ok') throw new Error(JSON.stringify(standing))
const start = (standing.lanes[0]?.contiguous ?? 0) + 1
for (let seq = start; seq < start + 100_000; seq++) {
  const points = Array.from({ length: 500 }, (_, n) => ({
    series: n % 8,
    timeUs: 1_700_000_000_000_000 + (seq * 1000 + n) * 1_000_000,
    value: seq,
  }))
  const frame = first.segment(seq, points)
  const answer = await store.commit(agent.name, first.epoch, [frame], new AbortController().signal)
  if (answer.kind !== 'ok') throw new Error(JSON.stringify(answer))
  writeSync(1, `${seq}\n`)
}
