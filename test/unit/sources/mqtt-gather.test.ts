import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seriesIdOf } from '../../../src/codec/series-id.ts'
import { createSeriesTable } from '../../../src/pipeline/series.ts'
import { createStamper } from '../../../src/pipeline/stamp.ts'
import { mqttSource } from '../../../src/sources/mqtt.ts'
import type { Publish } from '../../../src/sources/mqtt-frames.ts'
import { createGather, topicMatches } from '../../../src/sources/mqtt-gather.ts'

test('topic filters', () => {
  const yes = [
    'a/b a/b',
    '+/b a/b',
    'a/# a',
    'a/# a/b/c',
    '# a',
    '+ a',
    'a/+/c a//c',
    '$share/g/a/+ a/b',
    '$SYS/# $SYS/x',
  ]
  const no = ['a/b a', 'a a/b', '+ a/b', 'a/+ a', 'b/# a', '# $SYS/x', '+/x $SYS/x', 'A a']
  for (const pair of yes) assert.ok(topicMatches(...(pair.split(' ') as [string, string])), pair)
  for (const pair of no) assert.ok(!topicMatches(...(pair.split(' ') as [string, string])), pair)
})

const message = (topic: string, payload: string): Publish => {
  const buffer = Buffer.from(topic + payload)
  return {
    buffer,
    topicStart: 0,
    topicEnd: Buffer.byteLength(topic),
    payloadStart: Buffer.byteLength(topic),
    payloadEnd: buffer.length,
    packetId: 1,
    dup: false,
    retain: false,
    tooBigBytes: 0,
  }
}
const configOf = (subscribe: readonly object[], rest: object = {}) =>
  mqttSource.config.parse({ type: 'mqtt', url: 'mqtt://localhost', subscribe, ...rest })

test('while the clock is not trusted, points without a time of their own wait in an intake of their own', () => {
  const reading = { nowUs: 5_000_000, bootId: 'b', monotonicUs: 70, trusted: false }
  const { subscribe } = configOf([{ topic: 'timed', time: 'ts', time_unit: 'us' }, { topic: '#' }])
  const series = createSeriesTable({ agent: 'edge', seriesIdOf })
  const gather = createGather(
    'plant',
    subscribe,
    series,
    createStamper(() => reading),
  )
  const kept = [{ key: 'k', value: null }]
  gather.look()
  gather.add(message('timed', '{"ts":9,"v":1}'), false)
  gather.add(message('other', '1'), false)
  gather.add(message('other', '2'), false)
  gather.add(message('other', 'x'), false)
  gather.add(message('other', '3'), true)
  const { intakes, messages, packetIds } = gather.take(kept, false)
  assert.deepEqual([messages, packetIds.length], [5, 5])
  const shown = intakes.map((one) => [
    one.timeBase ?? 'wall',
    [...one.points.timeUs],
    one.kept?.length ?? 0,
    one.losses?.length ?? 0,
  ])
  assert.deepEqual(shown, [
    ['wall', [9], 0, 0],
    ['monotonic', [70, 71], 1, 1],
  ])
  reading.trusted = true
  gather.look()
  gather.add(message('other', '4'), false)
  const [one, ...rest] = gather.take([], false).intakes
  assert.deepEqual(
    [one?.timeBase, [...(one?.points.timeUs ?? [])], rest],
    [undefined, [5_000_000], []],
  )
})

test('reasons of loss stay few, and their counts whole', () => {
  const { subscribe } = configOf([{ topic: 'a/#', fields: { v: 'int' }, tags: { x: '{item.x}' } }])
  const series = createSeriesTable({ agent: 'edge', seriesIdOf })
  const clock = () => ({ nowUs: 1, bootId: 'b', monotonicUs: 1, trusted: true })
  const gather = createGather('plant', subscribe, series, createStamper(clock))
  for (let at = 0; at < 100; at++) {
    const long = 'y'.repeat(600 + at)
    gather.add(message('a/b', `{"v":1,"x":"${at}${long}"}`), false)
    gather.add(message('b', '1'), false)
  }
  const [intake] = gather.take([], false).intakes
  const losses = intake?.losses ?? []
  assert.ok(losses.length <= 17)
  // Tags of 600 bytes are taken; a topic without a subscription is not.
  assert.equal(losses.reduce((sum, one) => sum + one.count, 0) + (intake?.points.count ?? 0), 200)
})

test('configurations that cannot work are refused', () => {
  const topic = [{ topic: 'a' }]
  assert.equal(configOf(topic).keepalive, 30_000)
  for (const [subscribe, rest] of [
    [[], {}],
    [[{ topic: 'a/#/b' }], {}],
    [[{ topic: 'a+' }], {}],
    [[{ topic: 'a', qos: 2 }], {}],
    [topic, { url: 'http://x' }],
    [topic, { url: 'mqtt://user:secret@x' }],
    [topic, { tls: {} }],
    [topic, { url: 'mqtts://x', tls: { cert: 'a' } }],
    [topic, { version: 3 }],
    [topic, { unknown: 1 }],
  ] as const)
    assert.throws(() => configOf(subscribe, rest), JSON.stringify([subscribe, rest]))
})
