// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references to secrets are written so
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { loadConfig } from '../../../src/config/load.ts'
import { type ConfigProblem, renderProblems } from '../../../src/config/problems.ts'
import type { Catalog } from '../../../src/config/schema.ts'
import { duration } from '../../../src/units.ts'
import { temporaryFolder } from '../../support/temp.ts'

const none = () => {
  throw new Error('not made in this test')
}
const catalog: Catalog = {
  sources: [
    {
      type: 'http',
      config: z.strictObject({
        type: z.literal('http'),
        listen: z.string().default('127.0.0.1:8086'),
        token: z.string().min(8).optional(),
        qos: z.union([z.literal(0), z.literal(1)]).default(1),
      }),
      create: none,
    },
    {
      type: 'mqtt',
      config: z.strictObject({
        type: z.literal('mqtt'),
        url: z.string(),
        password: z.string().optional(),
        keepalive: duration().prefault('30s'),
        tls: z.strictObject({ ca: z.string().optional(), key: z.string().optional() }).optional(),
      }),
      create: none,
    },
  ],
  destinations: [
    {
      type: 'relay',
      config: z.strictObject({
        type: z.literal('relay'),
        url: z.string(),
        tls: z.strictObject({ ca: z.string(), cert: z.string(), key: z.string() }).optional(),
      }),
      create: none,
    },
  ],
}
const folder = temporaryFolder('config')
const write = (text: string, name = 'holdfast.yaml', mode = 0o600) => {
  const path = join(folder, name)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}
const load = (text: string, env: Record<string, string> = {}, surroundings = false) =>
  loadConfig(write(text), { environment: env, catalog, surroundings })
const problemsOf = (text: string, env: Record<string, string> = {}, surroundings = false) => {
  const result = load(text, env, surroundings)
  return result.ok ? result.warnings : result.problems
}
const short = (problems: readonly ConfigProblem[]) =>
  problems.map((one) => `${one.line}:${one.column} ${one.code} ${one.text}`)

const small = `agent: {name: gw-1, state_dir: ${folder}/state}
sources:
  - {name: press, type: http}
destinations:
  - {name: north, type: relay, url: "https://north:8443"}
`

test('a small file becomes a whole configuration with every default', () => {
  const result = load(small)
  assert.ok(result.ok, JSON.stringify(result))
  const { config } = result
  assert.deepEqual(result.warnings, [])
  assert.equal(config.agent.name, 'gw-1')
  assert.deepEqual(config.lanes, [
    { name: 'raw', when_full: 'block', max_delay: 1_000, priority: 5 },
  ])
  assert.equal(config.spool.size_max, 1024 ** 3)
  assert.equal(config.spool.commit_window, 100)
  assert.equal(config.spool.keep_sent, 24 * 3_600_000)
  assert.deepEqual(config.sources[0]?.settings, { type: 'http', listen: '127.0.0.1:8086', qos: 1 })
  assert.equal(config.sources[0]?.lane, 'raw')
  const [north] = config.destinations
  assert.deepEqual(north?.lanes, ['raw'])
  assert.equal(north?.live_share, 0.5)
  assert.equal(north?.bandwidth, null)
  assert.match(config.digest, /^[0-9a-f]{64}$/)
})

test('units: shares, rates, sizes, durations', () => {
  const result = load(
    small
      .replace('8443"}', '8443", live_share: 60%, bandwidth: 2 Mbit/s, from: oldest}')
      .concat(
        'spool: {size_max: 10GB, keep_sent: 7d}\nlanes: {raw: , alarms: {max_delay: 50ms}}\n',
      ),
  )
  assert.ok(result.ok, JSON.stringify(result))
  assert.equal(result.config.destinations[0]?.live_share, 0.6)
  assert.equal(result.config.destinations[0]?.bandwidth, 250_000)
  assert.equal(result.config.spool.size_max, 1e10)
  assert.deepEqual(result.config.destinations[0]?.lanes, ['raw', 'alarms'])
})

test('all problems at once, each with its place, in the order of the file', () => {
  const problems = problemsOf(`agent:
  name: gw-1
spool:
  size_max: 10GB
  retntion: 7d
  commit_window: soon
bufer: {}
lanes: {raw: {}, alarms: {when_full: drop}}
sources:
  - name: press
    type: http
    listen: 0.0.0.0:8086
    lane: alrms
  - {name: press, type: htp}
  - {type: http, qos: 3}
  - 7
destinations:
  - {name: north, type: relay, live_share: 120%}
remote: {mode: auto}
`)
  assert.deepEqual(short(problems), [
    '5:3 HF-C003 unknown key "retntion" in spool',
    '6:18 HF-C006 commit_window must be a duration such as "100ms", "30s", "24h", got "soon"',
    '7:1 HF-C003 unknown key "bufer"',
    '8:38 HF-C006 when_full must be one of block, drop_oldest (got "drop")',
    '12:13 HF-C014 0.0.0.0:8086 can be reached from outside this machine, and no token is set',
    '13:11 HF-C010 there is no lane "alrms"',
    '14:12 HF-C009 two sources are named "press" (sources[0] and sources[1])',
    '14:25 HF-C008 unknown type "htp"',
    '15:5 HF-C004 missing key "name" in sources[2] (text)',
    '15:23 HF-C006 qos must be 0 or 1 (got 3)',
    '16:5 HF-C005 sources[3] must be a map with name and type',
    '18:5 HF-C004 missing key "url" in destinations[0] (text)',
    '18:44 HF-C006 live_share must be a share such as "60%" or 0.6',
    '19:1 HF-C011 "remote" is not part of this version of Holdfast',
  ])
})

test('the printed form: place, excerpt, caret, what was meant', () => {
  const path = write(`${small}spool:\n  size_max: 10GB\n  compresion: lz4\n`)
  const result = loadConfig(path, { environment: {}, catalog, surroundings: false })
  assert.ok(!result.ok)
  assert.equal(
    renderProblems(result.problems),
    `${path}:8:3  error  HF-C003  unknown key "compresion" in spool
    7 |   size_max: 10GB
    8 |   compresion: lz4
      |   ^^^^^^^^^^  did you mean "compression"?
      = allowed: size_max, disk_free_min, commit_window, keep_sent, compression
`,
  )
})

test("other agents' words are understood as a hint", () => {
  for (const [word, meant] of [
    ['uplink', 'destinations'],
    ['bufer', 'spool'],
    ['Sources', 'sources'],
    ['inputs', 'sources'],
  ])
    assert.match(
      renderProblems(problemsOf(`${small}${word}: {}\n`)),
      new RegExp(`did you mean "${meant}"`),
    )
})

test('syntax: place and reason; a key that stands twice', () => {
  assert.deepEqual(short(problemsOf('agent:\n\tname: x\n')), [
    '2:1 HF-C002 tabs cannot indent YAML, use spaces',
  ])
  assert.deepEqual(short(problemsOf(`${small}agent: {name: other}\n`)), [
    '6:1 HF-C007 a key stands twice in one map',
  ])
  assert.match(short(problemsOf('a: [1\n')).join(), /HF-C002/)
  assert.match(short(problemsOf('- a\n- b\n')).join(), /HF-C005 the file must be a map, not a list/)
  assert.match(short(problemsOf('')).join(), /HF-C004 missing key "agent"/)
})

test('a file that is not there says how to make one', () => {
  const result = loadConfig(join(folder, 'none.yaml'), { environment: {}, catalog })
  assert.ok(!result.ok)
  assert.match(
    renderProblems(result.problems),
    /none\.yaml {2}error {2}HF-C001 {2}no such file\n.*holdfast init/,
  )
})

test('x- keys are the user’s own, wherever they stand', () => {
  const result = load(
    `${small.replace('type: http', 'type: http, x-where: hall 3')}x-note: [1, {x-y: 2}]\nspool: {x-z: 1}\n`,
  )
  assert.ok(result.ok, JSON.stringify(result))
  assert.deepEqual(result.config.sources[0]?.settings, {
    type: 'http',
    listen: '127.0.0.1:8086',
    qos: 1,
  })
})

test('keys of later versions may be there, empty', () => {
  assert.ok(load(`${small}remote:\nconsole: {}\n`).ok)
  assert.ok(!load(`${small}remote: {a: {}}\n`).ok)
})

test('secrets: from environment, file and credentials, in designated fields only', () => {
  const file = join(folder, 'secret.txt')
  writeFileSync(file, 'from-a-file\n')
  const credentials = join(folder, 'credentials')
  mkdirSync(credentials, { recursive: true })
  writeFileSync(join(credentials, 'mqtt-password'), 'from-systemd')
  const env = { TOKEN: 'from-the-environment', CREDENTIALS_DIRECTORY: credentials }
  const text = small.replace(
    '  - {name: press, type: http}',
    `  - {name: press, type: http, token: "\${env:TOKEN}"}
  - {name: line, type: mqtt, url: "mqtts://u:\${file:${file}}@broker", password: "\${cred:mqtt-password}"}`,
  )
  const result = load(text, env)
  assert.ok(result.ok, JSON.stringify(result))
  assert.deepEqual(
    result.config.sources.map(({ settings }) => settings),
    [
      { type: 'http', listen: '127.0.0.1:8086', qos: 1, token: 'from-the-environment' },
      {
        type: 'mqtt',
        url: 'mqtts://u:from-a-file@broker',
        password: 'from-systemd',
        keepalive: 30_000,
      },
    ],
  )
  assert.deepEqual(
    [...result.config.secrets].sort(),
    ['from-a-file', 'from-systemd', 'from-the-environment'].sort(),
  )
  const wrong = small.replace(
    'type: http}',
    'type: http, listen: "${env:TOKEN}", token: "${env:NO}"}',
  )
  assert.deepEqual(
    problemsOf(wrong, env).map(({ code }) => code),
    ['HF-C013', 'HF-C012'],
  )
  for (const bad of ['${env:}', '${x:y}', '${cred:../x}', '${file:relative}', '${file:/none}'])
    assert.match(
      renderProblems(problemsOf(small.replace('type: http}', `type: http, token: "${bad}"}`), env)),
      /HF-C012/,
      bad,
    )
})

test('no problem shows a secret, not even its own line', () => {
  const canary = 'c4nary'
  const text = `agent: {name: gw-1}
sources:
  - {name: press, type: http, token: ${canary}, qoss: 1}
  - {name: mistyped, type: http, tokn: ${canary}, qoss: 1}
  - name: line
    type: mqtt
    password: [${canary}]
    token: ${canary}
    url: "mqtts://u:\${env:C}@x"
  - {name: v, type: mqtt, url: "mqtts://u:${canary}2@x", kepalive: 1s}
  - name: line2
    type: mqtt
    keepalive: "\${env:C}"
  - {name: n, type: http, token: 4711}
`
  const path = write(text, 'open.yaml', 0o644)
  const result = loadConfig(path, { environment: { C: canary }, catalog, surroundings: false })
  assert.ok(!result.ok)
  const printed = renderProblems(result.problems) + JSON.stringify(result.problems)
  assert.doesNotMatch(printed, /c4nary|4711/)
  assert.match(printed, /HF-C043/)
})

test('a file that cannot be parsed shows no secret either', () => {
  for (const line of ['token: c4nary', '"password": c4nary # x', '{a: 1, api_key: c4nary, b: 2}']) {
    const problems = problemsOf(`sources:\n  - ${line}\n\tlisten: x\n`)
    const printed = renderProblems(problems)
    assert.match(printed, /HF-C002/)
    assert.doesNotMatch(printed, /c4nary/)
  }
})

test('surroundings: unreadable files, a state folder that cannot be, a disk too small', () => {
  writeFileSync(join(folder, 'ca.pem'), 'x')
  const withTls = small
    .replace('8443"}', '8443", tls: {ca: ca.pem, cert: no.pem, key: /no/key.pem}}')
    .replace(`${folder}/state`, `${folder}/ca.pem/state`)
  assert.deepEqual(short(problemsOf(withTls, {}, true)), [
    `1:32 HF-C016 ${folder}/ca.pem/state does not exist, and ${folder}/ca.pem cannot be written`,
    `5:83 HF-C015 ${folder}/no.pem does not exist`,
    '5:96 HF-C015 /no/key.pem does not exist',
  ])
  const huge = problemsOf(`${small}spool: {size_max: 900TB}\n`, {}, true)
  assert.deepEqual(
    huge.map(({ severity, code }) => `${severity} ${code}`),
    ['warning HF-C040'],
  )
})

test('a door that other machines reach is refused without a token, however it is written', () => {
  const source = (listen: string, more = '') =>
    problemsOf(small.replace('type: http}', `type: http, listen: "${listen}"${more}}`)).map(
      ({ code, severity }) => `${severity} ${code}`,
    )
  const metrics = (listen: string, more = '') =>
    problemsOf(small.replace('state}', `state, metrics: {listen: "${listen}"${more}}}`)).map(
      ({ code, severity }) => `${severity} ${code}`,
    )
  const token = ', token: a-token-of-the-tests'
  const open = [
    '0.0.0.0',
    '[::]',
    '*',
    '',
    '192.168.1.7',
    '[fe80::1]',
    'gateway.local',
    '1270.0.0.1',
  ]
  for (const host of open) {
    assert.deepEqual(source(`${host}:8086`), ['error HF-C014'], host)
    assert.ok(metrics(`${host}:9100`).includes('error HF-C014'), host)
    for (const said of [source(`${host}:8086`, token), metrics(`${host}:9100`, token)])
      assert.ok(!said.includes('error HF-C014'), host)
  }
  for (const host of ['127.0.0.1', '127.1.2.3', '[::1]', 'localhost']) {
    assert.deepEqual(source(`${host}:8086`), [], host)
    assert.ok(!metrics(`${host}:9100`).includes('error HF-C014'), host)
  }
})

test('a credential outside of the unit: said as what it is, with the way to look at it', () => {
  const text = small.replace('type: http}', 'type: http, token: "${cred:door-token}"}')
  const [problem] = problemsOf(text)
  assert.equal(problem?.code, 'HF-C012')
  assert.match(problem?.text ?? '', /"door-token" is given by systemd to the unit alone/)
  assert.match(problem?.hint ?? '', /LoadCredential=door-token:FILE; .* sudo holdfast check --unit/)
  assert.equal(problem?.unitOnly, true)
  assert.equal(problem?.surroundings, true, 'the unit itself may try again')
  const [none] = problemsOf(text, { CREDENTIALS_DIRECTORY: folder })
  assert.match(none?.text ?? '', /^\S+ does not exist$/)
  assert.equal(none?.unitOnly, undefined)
})

test('a quota that no burst fits in is refused', () => {
  const found = problemsOf(`${small}spool:\n  size_max: 2MiB\n`)
  assert.deepEqual(
    found.map(({ code, text }) => `${code} ${text}`),
    ['HF-C006 size_max must be at least 4MiB'],
  )
  assert.deepEqual(problemsOf(`${small}spool: {size_max: 4MiB}\n`), [])
})

test('nothing to read, nowhere to send, a door taken twice', () => {
  assert.deepEqual(
    problemsOf('agent: {name: gw-1}\n').map(({ code, text }) => `${code} ${text}`),
    [
      'HF-C041 no sources: nothing will be taken in',
      'HF-C041 no destinations: points stay in the spool',
    ],
  )
  assert.match(
    short(
      problemsOf(`${small}lanes: {raw: {}, alarms: {}}\n`.replace('8443"', '8443", lanes: [raw]')),
    ).join(),
    /HF-C041 no destination takes lane "alarms"/,
  )
  const twice = small.replace(
    'type: http}',
    'type: http, listen: "127.0.0.1:1"}\n  - {name: b, type: http, listen: "127.0.0.1:1"}',
  )
  assert.match(
    short(problemsOf(twice)).join(),
    /HF-C017 127.0.0.1:1 is already taken by sources\[0\]/,
  )
  const files = ['carry', 'carry-raw', 'elsewhere'].map((name, at) => {
    const folder = ['/media/carry', '/media/carry/', '/media/carry/raw'][at]
    return `  - {name: ${name}, type: file, output_dir: ${folder}}\n`
  })
  const carried = small.replace(/destinations:\n(?: .*\n)+/, `destinations:\n${files.join('')}`)
  const [shared, ...others] = problemsOf(carried).filter(({ code }) => code === 'HF-C029')
  assert.deepEqual(others, [])
  assert.match(shared?.text ?? '', /already the folder of destinations\[0\]/)
  assert.equal(shared?.line, carried.split('\n').findIndex((one) => one.includes('raw,')) + 1)
})

test('any text gives a configuration or problems with places, never a throw', () => {
  const words = [
    'agent',
    'name',
    'sources',
    ':',
    ' ',
    '\n',
    '  ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    '"',
    '&a',
    '*a',
    'x',
    '1',
    '${env:A}',
    '!!binary',
    '<<',
    '---',
    '\t',
    '#',
    '|',
    'type: http',
    'lanes',
    'null',
    '__proto__',
  ]
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...words), { maxLength: 40 }), (parts) => {
      const text = parts.join('')
      const result = load(text)
      if (result.ok) return
      assert.ok(result.problems.length > 0, text)
      renderProblems(result.problems)
    }),
    { numRuns: 500 },
  )
  assert.match(short(problemsOf('agent: &a [*a]\n')).join(), /HF-C002 aliases/)
  for (let cut = 0; cut < small.length; cut += 3) load(small.slice(0, cut))
})
