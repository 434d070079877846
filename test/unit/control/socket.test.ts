import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { tapLine } from '../../../src/control/answers.ts'
import { openApiDocument, routes } from '../../../src/control/api.ts'
import { createControlClient } from '../../../src/control/client.ts'
import {
  controlSocketPath,
  openControlSocket,
  socketPathBytesMax,
} from '../../../src/control/socket.ts'
import { timeText } from '../../../src/control/wire.ts'
import { Failure, isFailure } from '../../../src/errors.ts'
import { silentLog } from '../../../src/host.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { createView, nowUs, status } from './view.ts'

const folder = temporaryFolder('control')
let count = 0
const opened = async (...answer: Parameters<typeof createView>) => {
  const recorded = createView(...answer)
  const path = join(folder, `s${count++}`)
  const socket = await openControlSocket({ path, view: recorded.view, log: silentLog })
  const client = createControlClient(path, 5_000)
  return { ...recorded, path, client, [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose]() }
}
const refusal = (code: string) => (error: unknown) =>
  isFailure(error, code) || assert.fail(String(error))

test('looks: status, lanes, gaps, quarantine, metrics', async () => {
  await using it = await opened()
  assert.deepEqual(await it.client.get('/v1/status'), status)
  assert.deepEqual(await it.client.get('/v1/lanes'), { lanes: status.lanes })
  const { gaps } = await it.client.get<{ gaps: { count: number }[] }>('/v1/gaps?limit=1')
  assert.equal(gaps[0]?.count, 4)
  const { quarantine } = await it.client.get<{ quarantine: { sample: string }[] }>('/v1/quarantine')
  assert.equal(Buffer.from(quarantine[0]?.sample ?? '', 'base64').toString(), '{"a":\x1b[31m')
  assert.equal(await it.client.text('/v1/metrics'), 'holdfast_spool_bytes 7\n')
})

test('acts: replay, cancel, discard, reload, seal', async () => {
  await using it = await opened()
  const range = { from_us: 10, to_us: 20 }
  assert.equal((await it.client.post<{ id: string }>('/v1/replay', range)).id, 'r1')
  await it.client.post('/v1/replay', { ...range, lane: 'raw', destination: 'north', dry_run: true })
  assert.deepEqual(it.replays, [
    { fromUs: 10, toUs: 20, lane: null, destination: null, series: [], dryRun: false },
    { fromUs: 10, toUs: 20, lane: 'raw', destination: 'north', series: [], dryRun: true },
  ])
  assert.deepEqual(await it.client.post('/v1/replay/cancel', { id: 'r1' }), { cancelled: true })
  assert.deepEqual(await it.client.post('/v1/quarantine/7/discard'), { discarded: true })
  const points = await it.client.get<{ refused: { value: unknown }[] }>('/v1/quarantine/9')
  assert.deepEqual(
    points.refused.map(({ value }) => value),
    [1.5, '9007199254740993', 'NaN'],
  )
  const sent = { delivered: 3, refused: 0, text: '', hint: '' }
  assert.deepEqual(await it.client.post('/v1/quarantine/9/resend'), sent)
  assert.deepEqual(await it.client.post('/v1/reload'), { changed: false, text: 'nothing changed' })
  assert.deepEqual(await it.client.post('/v1/seal'), { sealed: true })
  assert.deepEqual(it.acts, ['discard 7', 'resend 9', 'seal'])
})

test('wrong questions are refused with a code, and do nothing', async () => {
  await using it = await opened()
  const post = (path: string, body?: unknown) => it.client.post(path, body)
  await assert.rejects(post('/v1/replay', { from_us: 20, to_us: 20 }), refusal('HF-X006'))
  await assert.rejects(
    post('/v1/replay', { from_us: 1, to_us: 2, dryRun: true }),
    refusal('HF-X006'),
  )
  await assert.rejects(
    post('/v1/replay', { from_us: 1, to_us: 2, lane: 'none' }),
    refusal('HF-F404'),
  )
  await assert.rejects(post('/v1/replay', 'x'.repeat(100_000)), refusal('HF-X006'))
  await assert.rejects(post('/v1/replay/cancel', { id: 'r2' }), refusal('HF-X404'))
  await assert.rejects(post('/v1/quarantine/8/discard'), refusal('HF-X404'))
  await assert.rejects(post('/v1/quarantine/x/discard'), refusal('HF-X006'))
  await assert.rejects(it.client.get('/v1/quarantine/8'), refusal('HF-X404'))
  await assert.rejects(post('/v1/quarantine/8/resend'), refusal('HF-X404'))
  await assert.rejects(it.client.get('/v1/gaps?limit=0'), refusal('HF-X006'))
  await assert.rejects(it.client.get('/v1/gaps?limt=1'), refusal('HF-X006'))
  await assert.rejects(it.client.get('/v2/status'), refusal('HF-X404'))
  assert.deepEqual(it.replays, [])
})

test('trouble behind the socket arrives with its code; a bug is an answer, not a hang', async () => {
  await using it = await opened({
    status: () => Promise.reject(new Failure('HF-S060', 'the spool does not answer')),
    lanes: () => Promise.reject(new TypeError('x is not a function')),
  })
  await assert.rejects(it.client.get('/v1/status'), refusal('HF-S060'))
  await assert.rejects(it.client.get('/v1/lanes'), refusal('HF-X008'))
})

test('tap: 64-bit integers and NaN survive, the filter holds, hanging up ends it', async () => {
  await using it = await opened()
  const lines: unknown[] = []
  await it.client.lines('/v1/tap?series=*/a', (line) => lines.push(JSON.parse(line)) < 2)
  assert.deepEqual(lines, [
    {
      series: 'plant/a',
      tags: { line: '3' },
      time: '2026-11-21T00:00:00.000007Z',
      kind: 'float',
      value: 1.5,
      quality: 'good',
    },
    {
      series: 'plant/a',
      tags: {},
      time: '2026-11-21T00:00:00.000000Z',
      kind: 'float',
      value: 'NaN',
      quality: 'uncertain',
    },
  ])
  const ints: { value?: unknown }[] = []
  await it.client.lines('/v1/tap?series=plant/b', (line) => ints.push(JSON.parse(line)) < 1)
  assert.equal(ints[0]?.value, '9007199254740993')
  await it.client.get('/v1/status')
  while (it.listeners.size > 0) await new Promise(setImmediate)
})

test('a tap nobody reads loses lines and says how many; memory stays bounded', async () => {
  await using it = await opened()
  const asked = request({ socketPath: it.path, path: '/v1/tap?series=big*', agent: false })
  asked.end()
  const [answer] = await once(asked, 'response')
  answer.pause()
  const point = {
    name: `big${'x'.repeat(1_000)}`,
    tags: [],
    timeUs: nowUs,
    value: true,
    quality: 0,
  }
  for (let round = 0; round < 100; round++) {
    for (const listener of it.listeners) listener(Array.from({ length: 100 }, () => point))
    await new Promise(setImmediate)
  }
  let text = ''
  answer.setEncoding('utf8')
  answer.on('data', (part: string) => {
    text += part
  })
  answer.resume()
  while (!text.includes('skipped')) {
    for (const listener of it.listeners) listener([point])
    await new Promise(setImmediate)
  }
  assert.ok(text.length < 6 << 20, `${text.length} bytes were waiting`)
  answer.destroy()
})

test('at most eight taps', async () => {
  await using it = await opened()
  const abort = new AbortController()
  const open = Array.from({ length: 8 }, () =>
    it.client.lines('/v1/tap?series=none', () => true, abort.signal),
  )
  while (it.listeners.size < 8) await new Promise(setImmediate)
  await assert.rejects(
    it.client.lines('/v1/tap', () => true),
    refusal('HF-X007'),
  )
  abort.abort()
  await Promise.all(open)
})

test('the socket belongs to user and group, and goes when the agent goes', async () => {
  const it = await opened()
  assert.equal(statSync(it.path).mode & 0o777, 0o660)
  await it[Symbol.asyncDispose]()
  assert.equal(existsSync(it.path), false)
  await assert.rejects(it.client.get('/v1/status'), refusal('HF-X005'))
})

test('what a dead agent left is replaced; a living one is not', async () => {
  const path = join(folder, 'stale')
  writeFileSync(path, '')
  const { view } = createView()
  {
    await using _ = await openControlSocket({ path, view, log: silentLog })
    await assert.rejects(openControlSocket({ path, view, log: silentLog }), refusal('HF-X010'))
  }
  const silent = createServer().listen(path)
  await once(silent, 'listening')
  await assert.rejects(openControlSocket({ path, view, log: silentLog }), refusal('HF-X010'))
  await assert.rejects(createControlClient(path, 50).get('/v1/status'), refusal('HF-X005'))
  silent.close()
})

test('a path too long for a socket is a sentence, not EINVAL', async () => {
  const path = join(folder, 'x'.repeat(socketPathBytesMax))
  const { view } = createView()
  await assert.rejects(openControlSocket({ path, view, log: silentLog }), refusal('HF-X009'))
  assert.equal(controlSocketPath('/var/lib/holdfast', {}), '/var/lib/holdfast/control.sock')
  assert.equal(
    controlSocketPath('/x', { RUNTIME_DIRECTORY: '/run/holdfast' }),
    '/run/holdfast/control.sock',
  )
})

test('the OpenAPI document in docs is the one that is served, and names every route', async () => {
  await using it = await opened()
  const served = await it.client.get<ReturnType<typeof openApiDocument>>('/openapi.json')
  const file = join(import.meta.dirname, '../../../docs/formats/control-api.yaml')
  const document = JSON.parse(JSON.stringify(openApiDocument()))
  assert.deepEqual(served, document)
  assert.deepEqual(
    parse(readFileSync(file, 'utf8')),
    document,
    'docs/formats/control-api.yaml is old: write it again with `holdfast config openapi`',
  )
  const paths = served.paths as Record<string, Record<string, unknown>>
  for (const { path, method } of routes) {
    assert.ok(paths[path]?.[method], `${method} ${path}`)
    const url = path.replaceAll(/\{\w+\}/g, '7')
    if (method === 'post') await assert.rejects(it.client.get(url), refusal('HF-X404'))
  }
})

test('what is answered has the shape that is described', async () => {
  await using it = await opened()
  const salvage = { spool: 'a'.repeat(32), lane_id: 1 }
  const bodies: Record<string, unknown> = {
    '/v1/salvage/place': salvage,
    '/v1/salvage': { ...salvage, lane: 'raw', up_to: 7, series: [], segment: null, losses: [] },
    '/v1/import': { block: '' },
    '/v1/replay': { from_us: 1, to_us: 2 },
    '/v1/replay/cancel': { id: 'r1' },
  }
  const queries: Record<string, string> = {
    '/v1/explain': '?series=press.temperature',
    '/v1/segments': '?lane=raw&after=3',
    '/v1/dictionary': `?epoch=${'a'.repeat(32)}`,
  }
  for (const { method, path, schema, answer } of routes) {
    if (schema === null || answer === 'ndjson') continue
    const url = path.replaceAll(/\{\w+\}/g, '7') + (queries[path] ?? '')
    const got = method === 'get' ? await it.client.get(url) : await it.client.post(url, bodies[url])
    assert.deepEqual(schema.parse(got), got, path)
  }
  const lines: unknown[] = []
  await it.client.lines('/v1/tap', (line) => lines.push(tapLine.parse(JSON.parse(line))) < 3)
  assert.equal(lines.length, 3)
})

test('times are written with all their microseconds', () => {
  assert.equal(timeText(-1), '1969-12-31T23:59:59.999999Z')
  assert.equal(timeText(0), '1970-01-01T00:00:00.000000Z')
  assert.equal(timeText(Number.MAX_VALUE), `${Number.MAX_VALUE}us`)
})
