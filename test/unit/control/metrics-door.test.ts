import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMetricsDoor } from '../../../src/control/metrics-door.ts'
import type { AgentView } from '../../../src/control/view.ts'
import { isFailure } from '../../../src/errors.ts'
import { createTokenNow, type TokenNow } from '../../../src/renewed.ts'
import { createView, status } from './view.ts'

const opened = async (token?: string | TokenNow, answer: Partial<AgentView> = {}) => {
  const door = await openMetricsDoor({
    listen: '127.0.0.1:0',
    token: typeof token === 'function' ? token : () => token,
    view: createView(answer).view,
  })
  const ask = async (path: string, authorization?: string, method = 'GET') => {
    const reply = await fetch(`http://127.0.0.1:${door.port}${path}`, {
      method,
      ...(authorization ? { headers: { authorization } } : {}),
    })
    return {
      status: reply.status,
      type: reply.headers.get('content-type'),
      text: await reply.text(),
    }
  }
  return { ask, port: door.port, [Symbol.asyncDispose]: () => door[Symbol.asyncDispose]() }
}

test('metrics and health, nothing else', async () => {
  await using door = await opened()
  const metrics = await door.ask('/metrics')
  assert.deepEqual([metrics.status, metrics.text], [200, 'holdfast_spool_bytes 7\n'])
  assert.match(metrics.type ?? '', /^text\/plain; version=0\.0\.4/)
  const health = await door.ask('/healthz')
  assert.equal(health.status, 200)
  assert.equal(JSON.parse(health.text).state, 'ok')
  assert.equal((await door.ask('/v1/status')).status, 404)
  assert.equal((await door.ask('/metrics', undefined, 'POST')).status, 405)
})

test('unhealthy, or no answer from within, is 503', async () => {
  const verdict = { ...status.verdict, state: 'unhealthy' as const }
  await using bad = await opened(undefined, { status: async () => ({ ...status, verdict }) })
  assert.equal((await bad.ask('/healthz')).status, 503)
  await using broken = await opened(undefined, { status: () => Promise.reject(new Error('gone')) })
  assert.equal((await broken.ask('/healthz')).status, 503)
})

test('with a token, only with the token', async () => {
  await using door = await opened('a-long-enough-token')
  assert.equal((await door.ask('/metrics')).status, 401)
  assert.equal((await door.ask('/metrics', 'Bearer a-long-enough-tokem')).status, 401)
  assert.equal((await door.ask('/healthz', 'Bearer a-long-enough-token')).status, 200)
  await using words = await opened('a token of several words')
  assert.equal((await words.ask('/healthz', 'Bearer a token of several words')).status, 200)
  assert.equal((await words.ask('/healthz', 'Bearer a token')).status, 401)
})

test('a token that is replaced is taken; the old one is over once it is looked for', async () => {
  let [nowMs, read, reads] = [0, 'the-first-long-token' as string | undefined, 0]
  const clock = { monotonicMs: () => nowMs }
  const token = createTokenNow(clock, read, () => {
    reads++
    return read
  })
  await using door = await opened(token)
  const ask = async (one: string) => (await door.ask('/healthz', `Bearer ${one}`)).status
  assert.equal(await ask('the-first-long-token'), 200)
  read = 'the-second-long-token'
  assert.equal(await ask('the-second-long-token'), 401, 'looked at a moment ago')
  nowMs += 100
  assert.equal(await ask('the-second-long-token'), 200)
  assert.equal(await ask('the-first-long-token'), 401)
  nowMs += 100
  read = undefined
  assert.equal(await ask('the-second-long-token'), 200, 'what cannot be read leaves the earlier')
  read = 'the-third-long-token'
  nowMs += 2_000
  assert.equal(await ask('the-second-long-token'), 401, 'over within two seconds')
  assert.ok(reads <= 4, `${reads}`)
  await using open = await opened(createTokenNow(clock, undefined, () => read))
  nowMs += 10_000
  assert.equal((await open.ask('/healthz')).status, 200, 'none is needed')
})

test('an address that is taken is a sentence', async () => {
  await using door = await opened()
  await assert.rejects(
    openMetricsDoor({
      listen: `127.0.0.1:${door.port}`,
      token: () => undefined,
      view: createView().view,
    }),
    (error) => isFailure(error, 'HF-X013'),
  )
})
