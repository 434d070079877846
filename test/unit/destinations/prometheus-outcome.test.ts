/** What answers to a remote write mean: which 2xx is an ack, and which is somebody in between. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readPrometheusReply } from '../../../src/destinations/prometheus-outcome.ts'

const kindOf = (status: number, headers: Readonly<Record<string, string>> = {}, body = '') => {
  const said = readPrometheusReply({ status, headers, body: Buffer.from(body) }, 0)
  return said.kind === 'setback' ? said.setback.kind : said.kind
}
const html = { 'content-type': 'text/html; charset=utf-8' }
const json = { 'content-type': 'application/json' }

test('an ack is any 2xx without a body, as the receivers there are give it', () => {
  // Prometheus and VictoriaMetrics say 204; Mimir, Cortex and Thanos 200; some queues 202.
  for (const status of [200, 202, 204]) assert.equal(kindOf(status), 'taken')
  assert.equal(kindOf(200, { 'content-type': 'text/plain', 'content-length': '0' }), 'taken')
})
test('a body is believed only beside a header that receivers alone give', () => {
  assert.equal(kindOf(200, { 'x-prometheus-remote-write-version': '2.0.0' }, 'ok'), 'taken')
  assert.equal(kindOf(200, { 'x-prometheus-remote-write-samples-written': '5' }, '{}'), 'taken')
  assert.equal(kindOf(200, json, '{"status":"login required"}'), 'later')
  assert.equal(kindOf(200, {}, 'ok'), 'later')
})
test('a page is never an ack, nor is a way to elsewhere', () => {
  assert.equal(kindOf(200, html, '<html>Welcome to Hotel Wi-Fi</html>'), 'later')
  assert.equal(kindOf(200, html), 'later')
  assert.equal(
    kindOf(200, { ...html, 'x-prometheus-remote-write-version': '1' }, '<html>'),
    'later',
  )
  for (const status of [101, 300, 302, 304, 399]) assert.equal(kindOf(status), 'later')
})
test('refusals: a sample, the size, the credentials, the place, the moment', () => {
  assert.equal(kindOf(400, {}, 'out of order sample'), 'suspect')
  assert.equal(kindOf(400, html, '<h1>400</h1>'), 'later')
  assert.equal(kindOf(413), 'too-big')
  for (const status of [401, 403, 407, 404, 405, 410]) assert.equal(kindOf(status), 'blocked')
  for (const status of [429, 500, 502, 503]) assert.equal(kindOf(status), 'later')
})
