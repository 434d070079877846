import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '../../../src/errors.ts'
import { createLog, type LogKind, logKindOf } from '../../../src/observability/log.ts'
import { createRedactor, withoutSecrets } from '../../../src/observability/redact.ts'

const opened = (kind: LogKind, level: 'debug' | 'info' = 'info') => {
  const lines: string[] = []
  const redactor = createRedactor()
  const log = createLog({
    kind,
    level,
    redactor,
    nowUs: () => 1_700_000_000_123_000,
    stream: { write: (line) => lines.push(line) },
  })
  return { log, lines, redactor }
}

test('one event in each form', () => {
  for (const [kind, want] of [
    [
      'json',
      '{"level":"warn","time":"2023-11-14T22:13:20.123Z","source":"mqtt",' +
        '"event":"link lost","inMs":250,"text":"a \\"b\\""}\n',
    ],
    ['journald', '<4>link lost source=mqtt inMs=250 text="a \\"b\\""\n'],
    ['tty', '22:13:20.123 WARN  link lost source=mqtt inMs=250 text="a \\"b\\""\n'],
  ] as const) {
    const { log, lines } = opened(kind)
    log.child({ source: 'mqtt' }).warn('link lost', { inMs: 250, text: 'a "b"' })
    const same = kind === 'json' ? JSON.parse : (text: string) => text
    assert.equal(lines.length, 1)
    assert.deepEqual(same(lines[0] ?? ''), same(want))
  }
})

test('journald priorities say who must act', () => {
  const { log, lines } = opened('journald', 'debug')
  log.debug('d')
  log.info('i')
  log.warn('w')
  log.error('e')
  assert.deepEqual(lines, ['<7>d\n', '<6>i\n', '<4>w\n', '<3>e\n'])
})

test('the journal gets fields; what it does not take goes to the stream', () => {
  const entries: string[] = []
  const lines: string[] = []
  let takes = true
  const redactor = createRedactor()
  redactor.add('hunter2')
  const log = createLog({
    kind: 'journald',
    level: 'info',
    redactor,
    nowUs: () => 0,
    stream: { write: (line) => lines.push(line) },
    journal: { identifier: 'holdfast', take: (entry) => takes && entries.push(entry) > 0 },
  })
  log
    .child({ destination: 'north' })
    .warn('link lost', { waitMs: 250, text: 'a\nMESSAGE=b hunter2' })
  const text = String.raw`link lost destination=north waitMs=250 text="a\\x0aMESSAGE=b [hidden]"`
  const [entry = ''] = entries
  assert.deepEqual(entry.split('\n').slice(1), [
    'PRIORITY=4',
    'SYSLOG_IDENTIFIER=holdfast',
    'HOLDFAST_EVENT=link lost',
    'HOLDFAST_DESTINATION=north',
    'HOLDFAST_WAIT_MS=250',
    String.raw`HOLDFAST_TEXT=a\x0aMESSAGE=b [hidden]`,
    '',
  ])
  assert.equal(entry.split('\n')[0], `MESSAGE=${text}`)
  takes = false
  log.error('spool lost')
  assert.deepEqual([entries.length, lines], [1, ['<3>spool lost\n']])
})

test('a level below the set one is not written', () => {
  const { log, lines } = opened('json')
  log.debug('quiet')
  assert.deepEqual(lines, [])
})

test('the journal is recognised by the socket of stderr, not by the variable alone', () => {
  const stat = () => ({ dev: 9, ino: 42 })
  assert.equal(logKindOf(true, '9:42', stat), 'tty')
  assert.equal(logKindOf(false, '9:42', stat), 'journald')
  assert.equal(logKindOf(false, '9:43', stat), 'json')
  assert.equal(logKindOf(false, undefined, stat), 'json')
})

test('any text is one line, and cannot move the cursor', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<LogKind>('tty', 'journald', 'json'),
      fc.string({ unit: 'binary' }),
      fc.dictionary(fc.string(), fc.string({ unit: 'binary' }), { maxKeys: 3 }),
      (kind, event, fields) => {
        const { log, lines } = opened(kind)
        log.info(event, fields)
        assert.equal(lines.length, 1)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: the point of the test
        assert.match(lines[0] ?? '', /^[^\x00-\x1f]*\n$/)
      },
    ),
    { numRuns: 200 },
  )
})

test('no secret leaves: by name, by value, in a URL, in an error', () => {
  const canary = 'c4nary-"quoted"/öä'
  for (const kind of ['tty', 'journald', 'json'] as const) {
    const { log, lines, redactor } = opened(kind)
    redactor.add(canary)
    log.child({ password: canary }).error(`login with ${canary} failed`, {
      token: 'abc123',
      nested: { apiKey: 'abc123', list: [{ clientSecret: 'abc123' }] },
      url: `postgres://writer:abc123@db:5432/x?y=${encodeURIComponent(canary)}`,
      header: 'Bearer abc123abc123',
      error: new Failure('HF-N001', `refused ${canary}`, `try not ${canary}`),
    })
    const text = lines.join('')
    assert.doesNotMatch(text, /abc123|c4nary/)
    assert.match(text, /HF-N001/)
    if (kind === 'json') JSON.parse(text)
  }
})

test('a secret that looks like the form of a line does not break it', () => {
  const { log, lines, redactor } = opened('json')
  for (const secret of ['":"x', 'level', '},{"', 'info']) redactor.add(secret)
  log.info('event', { text: '":"x', level: 1, more: '},{"' })
  const line = JSON.parse(lines[0] ?? '')
  assert.deepEqual([line.text, line.more], ['[hidden]', '[hidden]'])
})

test('a field named like a part of the line takes nothing away from it', () => {
  for (const kind of ['tty', 'journald', 'json'] as const) {
    const { log, lines } = opened(kind)
    log.child({ level: 9 }).warn('event', { time: 5, event: 'other' })
    assert.match(lines[0] ?? '', /level_"?[=:]9.*time_"?[=:]5.*event_"?[=:]"?other/)
  }
})

test('a huge or cyclic field is bounded, and logging never throws', () => {
  const cyclic: Record<string, unknown> = { big: 'x'.repeat(100_000), n: 1n, f: () => 1 }
  cyclic.self = cyclic
  for (const kind of ['tty', 'journald', 'json'] as const) {
    const { log, lines } = opened(kind)
    log.info('big', cyclic)
    assert.equal(lines.length, 1)
    assert.ok((lines[0]?.length ?? 0) < 40_000)
    if (kind === 'json') JSON.parse(lines[0] ?? '')
  }
  assert.deepEqual(withoutSecrets({ bytes: new Uint8Array(3), password: '' }, String), {
    bytes: '3 bytes',
    password: '',
  })
})

test('a secret that is renewed for years is hidden as long as it may be in use', () => {
  const { add, renew, hide } = createRedactor()
  add('of-the-configuration')
  for (let day = 0; day < 5_000; day++) renew(`renewed-${day}-secret`)
  for (const one of ['of-the-configuration', 'renewed-4999-secret', 'renewed-4990-secret'])
    assert.equal(hide(`with ${one}.`), 'with [hidden].')
})
