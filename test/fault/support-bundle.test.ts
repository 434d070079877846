/** No secret in a support bundle: canaries in every place a gateway keeps one, a real agent, hostile log lines. */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { masked } from '../../src/cli/bundle/mask.ts'
import { createHttpPublisher } from '../support/publisher.ts'
import { cli, createSite } from '../support/site.ts'

/** As it stands in a configuration. */
const reference = (text: string) => `$\{${text}}`

const canaries = {
  env: 'canary-env-4f1c',
  file: 'canary-file-9a2b',
  literal: 'canary-literal-77d0',
  number: 'canary-token-5e5e5e5e',
  urlUser: 'canary-url-user-13',
  urlPassword: 'canary-url-pass-42',
  urlParameter: 'canary-url-param-8',
  comment: 'canary-comment-21',
  own: 'canary-own-key-64',
  environment: 'canary-environment-3',
  plainEnvironment: 'canary-plain-environment-5',
  logPassword: 'canary-log-password-6',
  logBearer: 'canary.log.bearer.7',
  logKey: 'Y2FuYXJ5LWtleS1pbi1hLWxvZw',
} as const

/** A gateway whose agent runs, and a PATH on which journalctl says what no log should. */
const createGateway = async () => {
  const site = await createSite({
    sources: [
      {
        name: 'press',
        type: 'mqtt',
        url: 'mqtt://127.0.0.1:9',
        subscribe: [{ topic: 'a/#' }],
        username: reference('env:PRESS_USER'),
        password: reference('file:SECRET_FILE'),
      },
    ],
  })
  const secret = join(site.folder, 'secret')
  writeFileSync(secret, canaries.file)
  const config = readFileSync(site.config, 'utf8')
    .replace('SECRET_FILE', secret)
    .replace('agent:', `agent: # the old password was ${canaries.comment}`)
  const influx = `  - name: history
    type: influx
    dialect: influxdb2
    url: https://localhost:9/api?api_token=${canaries.urlParameter}
    org: marker-of-this-site
    bucket: plant
    token: ${canaries.literal}
`
  writeFileSync(site.config, `${config}${influx}x-note: ${canaries.own}\n`)
  const bin = join(site.folder, 'bin')
  mkdirSync(bin)
  const log = [
    'marker-of-the-journal',
    `connecting with password=${canaries.logPassword}`,
    `Authorization: Bearer ${canaries.logBearer}`,
    `mqtt://${canaries.urlUser}@broker and https://plant:${canaries.urlPassword}@host`,
    `again ${canaries.env} and ${canaries.file} and ${canaries.literal} and ${canaries.environment}`,
    `-----BEGIN PRIVATE KEY-----\n${canaries.logKey}\n-----END PRIVATE KEY-----`,
    readFileSync(site.agentKey.key, 'utf8'),
    'forged\x1b[2Jline',
  ].join('\n')
  writeFileSync(join(bin, 'journal.txt'), log)
  writeFileSync(join(bin, 'journalctl'), `#!/bin/sh\ncat ${join(bin, 'journal.txt')}\n`, {
    mode: 0o755,
  })
  const env = {
    PRESS_USER: canaries.env,
    HOLDFAST_EXTRA_TOKEN: canaries.environment,
    PLAIN_NAME: canaries.plainEnvironment,
    PATH: `${bin}:${process.env.PATH}`,
  }
  const keyLines = readFileSync(site.agentKey.key, 'utf8')
    .split('\n')
    .filter((line) => line.length > 16 && !line.startsWith('-----'))
  return { site, env, keyLines, log }
}

test('nothing secret is in it, whatever place it was in; what helps is', async () => {
  const { site, env, keyLines, log } = await createGateway()
  const regional = await site.startRegional()
  const agent = await site.startAgent({ env })
  await createHttpPublisher(() => site.door).send(10)
  const output = join(site.folder, 'bundle.txt')
  const made = cli(
    ['support-bundle', '-c', site.config, '--socket', site.socket, '--output', output, '--yes'],
    env,
  )
  await agent.stop()
  await regional.stop()
  assert.equal(made.code, 0, made.err)
  const text = readFileSync(output, 'utf8')
  assert.equal(statSync(output).mode & 0o777, 0o600)

  for (const [place, canary] of Object.entries(canaries)) {
    assert.ok(!text.includes(canary), `${place} is in the bundle`)
    assert.ok(!made.err.includes(canary) && !made.out.includes(canary), `${place} was printed`)
  }
  for (const line of keyLines) assert.ok(!text.includes(line), 'a key is in the bundle')
  assert.ok(!text.includes('\x1b'), 'a log line can move the cursor')
  // The bundle holds the parts the canaries stood in, or their absence would mean nothing.
  for (const there of [
    'marker-of-this-site',
    'marker-of-the-journal',
    'PLAIN_NAME',
    'holdfast_points_received_total',
    '"verdict"',
    'spool.db',
    reference('env:PRESS_USER'),
  ])
    assert.ok(text.includes(there), `${there} is not in the bundle`)
  for (const part of [
    'machine',
    'doctor',
    'config',
    'files',
    'environment',
    'status',
    'gaps',
    'quarantine',
    'metrics',
    'unit',
    'journal',
    'kernel',
  ]) {
    assert.match(text, new RegExp(`^===== ${part}: `, 'm'))
    assert.match(made.err, new RegExp(`^${part} +[0-9]`, 'm'), 'listed before it is written')
  }
  // Negative control: unmasked, these lines would have been found.
  const naked = masked(log, { hide: (one) => one })
  for (const canary of [canaries.urlPassword, canaries.logBearer, canaries.env])
    assert.ok(naked.includes(canary))
})

test('without a person or --yes nothing is written; an existing file is not replaced; no agent is needed', async () => {
  const { site, env } = await createGateway()
  const output = join(site.folder, 'bundle.txt')
  const at = ['support-bundle', '-c', site.config, '--socket', site.socket]
  const asked = cli([...at, '--output', output], env)
  assert.equal(asked.code, 2)
  assert.match(asked.err, /^config +/m)
  assert.match(asked.err, /HF-X016/)
  assert.ok(!readdirSync(site.folder).includes('bundle.txt'))

  const piped = cli([...at, '--output', '-', '--yes'], env)
  assert.equal(piped.code, 0, piped.err)
  assert.match(piped.out, /HF-X005/)
  for (const canary of Object.values(canaries)) assert.ok(!piped.out.includes(canary), canary)

  writeFileSync(output, 'mine')
  assert.match(cli([...at, '--output', output, '--yes'], env).err, /HF-X014/)
  assert.equal(readFileSync(output, 'utf8'), 'mine')

  writeFileSync(site.config, `${readFileSync(site.config, 'utf8')}\n  broken: [\n`)
  const broken = cli([...at, '--output', '-', '--yes'], env)
  assert.equal(broken.code, 0, broken.err)
  assert.match(broken.out, /it is no YAML/)
  for (const canary of Object.values(canaries)) assert.ok(!broken.out.includes(canary), canary)
})

test('a journal that is long is kept, one that is endless is cut: said in the list and in the file, and where', async () => {
  const { site, env } = await createGateway()
  const at = ['support-bundle', '-c', site.config, '--socket', site.socket, '--yes']
  const journalctl = (program: string) =>
    writeFileSync(join(site.folder, 'bin', 'journalctl'), `#!/bin/sh\n${program}\n`)
  const make = (name: string) => {
    const output = join(site.folder, name)
    const { code, err } = cli([...at, '--output', output], env)
    assert.equal(code, 0, err)
    const text = readFileSync(output, 'utf8')
    const [, head = '', rest = ''] =
      /^(===== journal: .*)\n([\s\S]*?)^===== kernel/m.exec(text) ?? []
    return { listed: /^journal .*$/m.exec(err)?.[0] ?? '', head, rest }
  }
  const line = (seconds: string) =>
    `printf "2026-11-21T02:00:%s+0000 gw holdfast[1]: %01500d\\n", "${seconds}", 0`
  const lines = (count: number) =>
    `awk 'BEGIN { ${line('01')}; for (i = 0; i < ${count}; i++) ${line('30')}; ${line('59')} }'`
  // 1.3 MB: more than a megabyte, and all of it.
  journalctl(lines(850))
  const long = make('long.txt')
  assert.ok(long.rest.length > 1.2e6, `${long.rest.length}`)
  assert.match(long.rest, /^2026-11-21T02:00:01/)
  assert.match(long.rest, /^2026-11-21T02:00:59/m)
  assert.doesNotMatch(long.head + long.listed, /CUT/)

  // 3 MB: what a person can read, the newest, and what is not there.
  journalctl(lines(2_000))
  const longer = make('longer.txt')
  assert.match(longer.rest, /^2026-11-21T02:00:59/m)
  assert.doesNotMatch(longer.rest, /^2026-11-21T02:00:01/m)
  for (const said of [longer.head, longer.listed])
    assert.match(said, /CUT: the first .* left out, up to 2026-11-21T02:00:30/)

  journalctl(`${lines(1)}; exec yes "2026-11-21T03:00:00+0000 password=${canaries.logPassword}"`)
  const endless = make('endless.txt')
  for (const said of [endless.head, endless.listed])
    assert.match(said, /CUT: reading it was given up after 17 MB: what follows 2026-11-21T03:00:00/)
  assert.ok(endless.rest.length > 1e6 && !endless.rest.includes(canaries.logPassword))

  journalctl('echo "2026-11-21T02:00:01+0000 only this"; exit 1')
  const failed = make('failed.txt')
  assert.match(failed.rest, /only this/)
  assert.match(failed.listed, /CUT: journalctl ended with 1/)
})

test('--json with --output - is one object, the parts in it', async () => {
  const { site, env } = await createGateway()
  const at = ['support-bundle', '-c', site.config, '--socket', site.socket, '--yes', '--json']
  const { code, out } = cli([...at, '--output', '-'], env)
  assert.equal(code, 0)
  const { output, parts } = JSON.parse(out) as {
    output: string
    parts: { name: string; text: string }[]
  }
  assert.equal(output, '-')
  assert.ok(parts.some(({ name, text }) => name === 'journal' && text.includes('marker-of')))
  for (const canary of Object.values(canaries)) assert.ok(!out.includes(canary), canary)
})
