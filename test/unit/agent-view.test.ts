/** Which lanes chosen series are copied out of, and how long that is said to take. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AgentViewParts, createAgentView } from '../../src/agent-view.ts'
import { createSystemHost } from '../../src/host.ts'
import type { SelectionRequest } from '../../src/pipeline/selections.ts'

const held = { raw: 3, alarms: 1, empty: 0, thin: 5, replay: 2 }
const viewOf = (bandwidth: number | null, pointsPerSecond: number) => {
  const started: SelectionRequest[] = []
  const estimate = async ({ lane }: SelectionRequest) => {
    const segments = held[lane as keyof typeof held]
    return { segments, points: segments * 10, bytes: segments * 100, seqFirst: 1, seqLast: 9 }
  }
  const start = async (request: SelectionRequest) => ({ id: started.push(request) })
  const forwarder = {
    secondsOf: (bytes: number) => (bandwidth === null ? null : bytes / bandwidth),
    status: () => ({ pointsPerSecond, bytesSent: 1_000, pointsSent: 100 }),
  }
  const parts: unknown = {
    host: createSystemHost(),
    selections: { estimate, start },
    spool: {
      lanes: async () =>
        Object.keys(held).map((lane) => ({ lane, derived: lane === 'thin' || lane === 'replay' })),
    },
    sources: [],
    destinations: [{ config: { name: 'region', lanes: ['replay'] }, forwarder }],
  }
  return { view: createAgentView(parts as AgentViewParts), started }
}
const asked = { fromUs: 0, toUs: 9, destination: null, series: ['press/*'], dryRun: false }

test('every lane of sources that holds something of the time is copied, unless one is named', async () => {
  const { view, started } = viewOf(50, 0)
  const all = await view.replay({ ...asked, lane: null })
  assert.equal(all.id, 'replay:1,replay:2')
  assert.deepEqual(
    all.parts.map(({ lane, seconds, rate }) => [lane, seconds, rate]),
    [
      ['raw', 6, 'bandwidth'],
      ['alarms', 2, 'bandwidth'],
    ],
  )
  assert.deepEqual(
    started.map(({ lane }) => lane),
    ['raw', 'alarms'],
  )
  assert.equal((await view.replay({ ...asked, lane: 'thin' })).id, 'replay:3')
  await assert.rejects(view.replay({ ...asked, lane: 'none' }), {
    code: 'HF-X404',
    hint: 'there are: raw, alarms, empty, thin, replay',
  })
  const whole = { ...asked, series: [] }
  await assert.rejects(view.replay({ ...whole, lane: 'raw' }), { hint: /--series/ })
  await assert.rejects(view.replay({ ...whole, lane: 'none' }), {
    hint: 'lanes that are sent: replay',
  })
})

test('without a bandwidth the time is that of the present rate, or unknown', async () => {
  const [moving, still] = [viewOf(null, 20), viewOf(null, 0.001)]
  const timeAt = async ({ view }: typeof moving) => {
    const [part] = (await view.replay({ ...asked, lane: 'raw', dryRun: true })).parts
    return [part?.seconds, part?.rate]
  }
  assert.deepEqual(await timeAt(moving), [1.5, 'present'])
  assert.deepEqual(await timeAt(still), [null, 'unknown'])
})
