/**
 * `holdfast doctor` beside real processes: everything up, the region gone, the wrong CA, no agent, a full probe; and on
 * disks that are slow or stuck, for a name without an address, and for a user who may not look.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCertificates } from '../support/certificates.ts'
import { isRoot, start } from '../support/processes.ts'
import { createShim, noShim } from '../support/shim.ts'
import { cli, cliPath, createSite, type Site } from '../support/site.ts'

interface Finding {
  readonly check: string
  readonly state: 'good' | 'warning' | 'bad' | 'unknown'
  readonly text: string
  readonly fix: string
  readonly code?: string
  readonly ms?: number
}
const wordsFor = (site: Site) => ['doctor', '-c', site.config, '--socket', site.socket]
const examine = (site: Site, ...args: string[]) => examineWith({}, site, ...args)
const examineWith = (env: Readonly<Record<string, string>>, site: Site, ...args: string[]) => {
  const { code, out, err } = cli([...wordsFor(site), '--json', ...args], env)
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

const skip = noShim()
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** Processes that look at the disk of this site. */
const waiting = (site: Site) =>
  readdirSync('/proc').filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      return words.includes('--apart') && words.includes(site.config)
    } catch {
      return false
    }
  })
const doctorFiles = (site: Site) =>
  readdirSync(site.stateDir).filter((name) => name.startsWith('.doctor'))
/** A site whose disk flushes as slowly as it is told, where doctor flushes. */
const slowSite = async () => {
  const site = await createSite()
  mkdirSync(site.stateDir, { mode: 0o700 })
  return { site, ...createShim('.doctor-') }
}

test('a flush: as it should be, slow, far too slow, impossible', { skip }, async () => {
  const { site, env, order } = await slowSite()
  const flush = (words: string) => {
    order(words)
    const [found] = examineWith(env, site).of('flush')
    assert.ok(found)
    return found
  }
  assert.match(flush('').text, /^a flush takes [\d.]+ ms, at worst [\d.]+ ms/)
  assert.notEqual(flush('fsync-ms=5').state, 'bad')
  const slow = flush('fsync-ms=150')
  assert.equal(slow.state, 'warning')
  assert.match(slow.text, /^a flush takes \d{3} ms/)
  assert.match(slow.fix, /smartctl, dmesg/)
  const worse = flush('fsync-ms=2300')
  assert.equal(worse.state, 'bad')
  assert.match(worse.text, /^a flush takes 2\d{3} ms/)
  const broken = flush('fsync-eio')
  assert.equal(broken.state, 'bad')
  assert.match(broken.text, /nothing can be written to .*EIO/)
})

test('a flush that does not come back: said with its path, as is all that was found before and after; nothing stays behind', {
  skip,
}, async () => {
  const { site, env, order } = await slowSite()
  order('fsync-hang')
  const running = start('node', [cliPath, ...wordsFor(site), '--no-color'], { env })
  // What is known is said, while the disk has not answered.
  await running.says(/^ok {4}room /m)
  assert.doesNotMatch(running.output(), /has not come back/)
  assert.equal(await running.ended, 4)
  const said = running.output()
  assert.match(
    said,
    new RegExp(`^BAD {3}flush +a flush in ${site.stateDir} has not come back in 10 s`, 'm'),
  )
  assert.match(said, /^ {19}= Look at dmesg/m)
  for (const check of ['config', 'rights', 'agent', 'certificate', 'clock', 'to region'])
    assert.match(said, new RegExp(`^(ok|LOOK|BAD|\\?) +${check} `, 'm'), check)
  // Whoever waits for the disk is not waited for: it ends, and tidies up, once the disk answers.
  assert.deepEqual([doctorFiles(site).length, waiting(site).length], [1, 1])
  order('')
  for (let tries = 0; tries < 300 && waiting(site).length > 0; tries++) await pause(100)
  assert.deepEqual([doctorFiles(site), waiting(site)], [[], []])
})

test('reading that does not come back: the rest is looked at without it', { skip }, async () => {
  const site = await createSite()
  const fifo = join(site.folder, 'stuck.yaml')
  execFileSync('mkfifo', [fifo])
  // Nobody named a configuration, and the working folder is on the disk that is stuck.
  const { env, order } = createShim('holdfast.yaml')
  order('look-hang')
  const lost = start('node', [cliPath, 'doctor', '--no-color'], { env, cwd: site.folder })
  // Of a configuration that can be read the CA is there.
  const keys = createShim(site.certificates.ca)
  keys.order('look-hang')
  const named = start('node', [cliPath, ...wordsFor(site), '--no-color'], { env: keys.env })
  const { of, code } = examineWith({}, { ...site, config: fifo })
  assert.equal(of('config').length, 1)
  assert.match(
    of('config')[0]?.text ?? '',
    new RegExp(`^reading ${fifo} has not come back in 10 s`),
  )
  assert.equal(of('agent')[0]?.code, 'HF-X005')
  assert.equal(of('clock').length, 1)
  assert.equal(code, 4)
  assert.equal(await lost.ended, 4)
  const said = lost.output()
  assert.ok(
    said.includes(`looking for holdfast.yaml in ${site.folder} has not come back in 10 s`),
    said,
  )
  for (const check of ['agent', 'clock', 'unit', 'version'])
    assert.match(said, new RegExp(`^(ok|LOOK|BAD|\\?) +${check} `, 'm'), check)
  assert.equal(await named.ended, 4)
  assert.match(named.output(), /^BAD +config +looking at the files named in .* has not come back/m)
  assert.match(
    named.output(),
    /^\? +to region +not looked at: its certificates may be on the stuck/m,
  )
})

test('a support bundle is made beside a disk that does not answer, and names it', {
  skip,
}, async () => {
  const { site, env, order } = await slowSite()
  order('fsync-hang')
  const output = join(site.folder, 'bundle.txt')
  const [, ...at] = wordsFor(site)
  const { code, err } = cli(['support-bundle', ...at, '--output', output, '--yes'], env)
  assert.equal(code, 0, err)
  const text = readFileSync(output, 'utf8')
  assert.match(text, new RegExp(`^bad +flush: a flush in ${site.stateDir} has not come back`, 'm'))
  assert.match(text, /^===== files: .*\nnot looked at: its disk is stuck$/m)
  for (const part of ['config', 'status', 'journal', 'kernel'])
    assert.match(text, new RegExp(`^===== ${part}: `, 'm'))
  order('')
  for (let tries = 0; tries < 300 && waiting(site).length > 0; tries++) await pause(100)
  assert.deepEqual(waiting(site), [])
})

test('broken off by hand: 130, and nothing is said of what was not looked at any more', {
  skip,
}, async () => {
  const { site, env, order } = await slowSite()
  order('fsync-hang')
  const running = start('node', [cliPath, ...wordsFor(site), '--no-color'], { env })
  await running.says(/^ok {4}room /m)
  const before = running.output()
  running.signal('SIGINT')
  assert.equal(await running.ended, 130)
  assert.doesNotMatch(running.output().slice(before.length), /flush|bug|Error/)
  order('')
  for (let tries = 0; tries < 300 && waiting(site).length > 0; tries++) await pause(100)
  assert.deepEqual([doctorFiles(site), waiting(site)], [[], []])
})

test('a name without an address is found at the first step', async () => {
  const site = await createSite()
  const config = readFileSync(site.config, 'utf8')
  writeFileSync(site.config, config.replace('https://localhost:', 'https://region.invalid:'))
  const { of } = examine(site)
  assert.deepEqual(steps(of('to region')), ['dns'])
  assert.equal(of('to region')[0]?.code, 'HF-N021')
  assert.equal(of('to region')[0]?.state, 'bad')
})

test('a user who may not look: what is closed is unknown, and who may is said; nothing else gets worse', {
  skip: isRoot ? false : 'needs root, to be somebody else',
}, async () => {
  const site = await createSite()
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  chmodSync(site.folder, 0o755)
  chmodSync(site.stateDir, 0o700)
  chmodSync(site.agentKey.key, 0o600)
  const asNobody = async (): Promise<readonly Finding[]> => {
    const words = [cliPath, ...wordsFor(site), '--json']
    const running = start('node', words, { unprivileged: true })
    await running.ended
    return (JSON.parse(running.output()) as { findings: Finding[] }).findings
  }
  const closed = (findings: readonly Finding[]) =>
    findings.filter(({ text }) => /EACCES|cannot be read|not open|permission/i.test(text))
  const keyOnly = await asNobody()
  chmodSync(site.config, 0o600)
  const nothing = await asNobody()
  for (const findings of [keyOnly, nothing]) {
    assert.ok(!findings.some(({ text }) => / ended with /.test(text)), JSON.stringify(findings))
    assert.ok(closed(findings).length > 0, JSON.stringify(findings))
    for (const one of closed(findings)) {
      assert.equal(one.state, 'unknown', one.text)
      assert.match(one.fix, /root/, one.text)
    }
    assert.deepEqual(
      findings.filter(({ state }) => state === 'bad'),
      [],
    )
  }
  // Root finds what is really wrong with the same files.
  writeFileSync(site.agentKey.key, 'no key')
  assert.ok(examine(site).all.some(({ state, code }) => state === 'bad' && code === 'HF-C022'))
  await agent.stop()
  await regional.stop()
})
