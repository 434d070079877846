/** `holdfast doctor` beside real processes: everything up, the region gone, the wrong CA, no agent, a full probe. */
import assert from 'node:assert/strict'
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { createCertificates } from '../support/certificates.ts'
import { cli, createSite, type Site } from '../support/site.ts'

interface Finding {
  readonly check: string
  readonly state: 'good' | 'warning' | 'bad' | 'unknown'
  readonly text: string
  readonly fix: string
  readonly code?: string
  readonly ms?: number
}
const examine = (site: Site, ...args: string[]) => {
  const { code, out, err } = cli([
    'doctor',
    '-c',
    site.config,
    '--socket',
    site.socket,
    '--json',
    ...args,
  ])
  assert.notEqual(out, '', err)
  const said = JSON.parse(out) as { verdict: string; findings: Finding[] }
  const of = (check: string) => said.findings.filter((one) => one.check === check)
  return { code, verdict: said.verdict, of, all: said.findings }
}
const steps = (findings: readonly Finding[]) => findings.map(({ text }) => text.split(' ')[0])

test('everything up: each step to the region is good and timed; nothing is left behind', async () => {
  const site = await createSite()
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  chmodSync(site.stateDir, 0o700)
  chmodSync(site.agentKey.key, 0o600)
  await site.when((seen) => seen.destinations.every(({ state }) => state === 'up'))
  const before = await site.status()
  const { of, all, code } = examine(site, '--unit', 'holdfast-no-such-unit')
  assert.deepEqual(steps(of('to region')), ['dns', 'tcp', 'tls', 'hello'])
  for (const one of of('to region')) {
    assert.equal(one.state, 'good', one.text)
    assert.ok((one.ms as number) >= 0)
  }
  assert.match(of('to region').at(-1)?.text ?? '', /takes the certificate of this agent/)
  // The certificates of tests last for a day.
  assert.equal(of('agent')[0]?.code, 'HF-H008', of('agent')[0]?.text)
  assert.equal(of('flush').length, 1)
  assert.ok(
    of('certificate').length >= 2 && of('certificate').every(({ text }) => /ends in/.test(text)),
  )
  assert.equal(of('wear')[0]?.state, 'unknown')
  assert.ok(!all.some(({ state }) => state === 'bad'), JSON.stringify(all))
  assert.equal(code, 3)
  assert.ok(!readdirSync(site.stateDir).some((name) => name.startsWith('.doctor')))
  // It introduced no epoch: the agent still speaks, nobody is fenced.
  const seen = await site.status()
  assert.equal(seen.epoch, before.epoch)
  assert.equal(seen.destinations[0]?.state, 'up')
  await agent.stop()

  const alone = examine(site)
  assert.equal(alone.of('agent')[0]?.code, 'HF-X005')
  assert.ok(alone.of('to region').every(({ state }) => state === 'good'))
  await regional.stop()
  const gone = examine(site)
  assert.deepEqual(steps(gone.of('to region')), ['dns', 'tcp'])
  assert.equal(gone.of('to region')[1]?.code, 'HF-N022')
  assert.match(gone.of('to region')[1]?.fix ?? '', /nothing listens/)
  assert.deepEqual([gone.code, gone.verdict], [4, 'bad'])
})

test('a region of another CA is found at TLS, another agent at hello, an open key and folder by their rights', async () => {
  const site = await createSite()
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  const config = readFileSync(site.config, 'utf8')
  const strangers = await createCertificates()
  writeFileSync(site.config, config.replace(site.certificates.ca, strangers.ca))
  const untrusted = examine(site)
  assert.deepEqual(steps(untrusted.of('to region')), ['dns', 'tcp', 'tls'])
  assert.equal(untrusted.of('to region')[2]?.code, 'HF-N011')

  const { cert, key } = await strangers.agent(site.name)
  writeFileSync(
    site.config,
    config.replace(site.agentKey.cert, cert).replace(site.agentKey.key, key),
  )
  const refused = examine(site)
  assert.deepEqual(steps(refused.of('to region')), ['dns', 'tcp', 'tls', 'hello'])
  assert.equal(refused.of('to region')[3]?.state, 'bad')

  writeFileSync(site.config, config)
  chmodSync(site.agentKey.key, 0o644)
  chmodSync(site.stateDir, 0o777)
  const open = examine(site)
  assert.deepEqual(
    open.of('rights').map(({ state }) => state),
    ['bad', 'bad'],
  )
  assert.equal(open.code, 4)
  await agent.stop()
  await regional.stop()
})

test('a configuration that is wrong does not keep the rest from being looked at', async () => {
  const site = await createSite()
  writeFileSync(site.config, `${readFileSync(site.config, 'utf8')}\nnonsense: 1\n`)
  const { of, code } = examine(site)
  assert.equal(of('config')[0]?.code, 'HF-C003')
  assert.equal(of('disk').length + of('rights').length, 1)
  assert.equal(of('clock').length, 1)
  assert.equal(code, 4)
})
