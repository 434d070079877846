/** What doctor reckons without a machine to look at: rights, room, wear, clock, certificates, the flush probe's traces. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  flushTimesMs,
  lookAtDisk,
  lookAtWear,
  rightsOf,
  wearOf,
} from '../../../src/cli/doctor/disk.ts'
import type { Finding } from '../../../src/cli/doctor/finding.ts'
import { stepFinding } from '../../../src/cli/doctor/link.ts'
import { configFindings, lookAtCertificates, lookAtClock } from '../../../src/cli/doctor/machine.ts'
import { hear, said } from '../../../src/cli/doctor/said.ts'
import type { ConfigProblem } from '../../../src/config/problems.ts'
import type { Config } from '../../../src/config/schema.ts'
import { systemClock } from '../../../src/host.ts'
import { createDevelopmentCa } from '../../../src/regional/development-ca.ts'
import { releasedAtUs } from '../../../src/release.ts'
import { temporaryFolder } from '../../support/temp.ts'
import { spool, status } from '../control/view.ts'

test('wear: bytes a day from the kernel or from commits, life by what the card is good for', () => {
  const day = 86_400e6
  const busy = { ...status, upForUs: day, spool: { ...spool, commits: 1_000, bytesWritten: 1e9 } }
  const wear = wearOf(busy, null, 10)
  assert.deepEqual(wear && [wear.bytesPerDay, wear.measured], [1e9 + 1_000 * 16_384, false])
  assert.ok(Math.abs((wear?.lifeYears ?? 0) - 10e12 / (1e9 + 16_384_000) / 365) < 1e-9)
  assert.equal(wearOf({ ...busy, upForUs: 1e6 }, null, 10), null)
  assert.equal(wearOf({ ...busy, spool: null }, null, 10), null)
  assert.equal(wearOf(busy, process.pid, 10)?.measured, true)
  assert.equal(lookAtWear(busy, null, 10).state, 'good')
  assert.equal(lookAtWear(busy, null, 1).state, 'warning')
  assert.equal(lookAtWear(undefined, null, 10).state, 'unknown')
})

test('rights: closed is good, readable a warning, writable or a link bad', () => {
  const folder = join(temporaryFolder('rights'), 'state')
  mkdirSync(folder)
  const stateAt = (mode: number) => {
    chmodSync(folder, mode)
    return rightsOf(folder).state
  }
  assert.deepEqual([0o700, 0o750, 0o755, 0o757].map(stateAt), ['good', 'good', 'warning', 'bad'])
  symlinkSync(folder, `${folder}-link`)
  assert.equal(rightsOf(`${folder}-link`).state, 'bad')
})

/** What is found of a disk, and what it was about to ask of it before each. */
const diskOf = (folder: string, limits: { size_max: number; disk_free_min: number }) => {
  const asked: string[] = []
  const found: Finding[] = []
  lookAtDisk(
    folder,
    { spool: limits } as Config,
    systemClock,
    (check) => asked.push(check),
    (findings) => found.push(...findings),
  )
  return { asked, found, of: (check: string) => found.find((one) => one.check === check) }
}
const plenty = { size_max: 1, disk_free_min: 1 }

test('the flush probe leaves nothing, and follows no link', () => {
  const folder = temporaryFolder('flush')
  writeFileSync(join(folder, 'spool.db'), 'untouched')
  const times = flushTimesMs(folder, systemClock)
  assert.ok(times.length > 0 && times.length <= 20)
  assert.deepEqual(
    times,
    [...times].sort((a, b) => a - b),
  )
  assert.deepEqual(readdirSync(folder), ['spool.db'])
  const missing = diskOf(join(folder, 'none'), plenty)
  assert.deepEqual(
    missing.found.map(({ check, state }) => [check, state]),
    [['disk', 'warning']],
  )
  assert.deepEqual(diskOf(folder, plenty).asked, ['rights', 'room', 'flush'])
})

test('room: good, too little for what the spool may yet take, below the floor', () => {
  const folder = temporaryFolder('room')
  assert.equal(diskOf(folder, plenty).of('room')?.state, 'good')
  const wide = diskOf(folder, { ...plenty, size_max: 1e18 }).of('room')
  assert.equal(wide?.state, 'warning')
  assert.match(wide?.text ?? '', /the spool may yet grow by/)
  const full = diskOf(folder, { ...plenty, disk_free_min: 1e18 }).of('room')
  assert.equal(full?.state, 'bad')
  assert.match(full?.text ?? '', /intake waits below/)
})

const bin = temporaryFolder('clock')
const path = process.env.PATH
after(() => {
  process.env.PATH = path
})
const timedatectlSays = (text: string) => {
  writeFileSync(join(bin, 'timedatectl'), `#!/bin/sh\necho ${text}\n`, { mode: 0o755 })
  process.env.PATH = `${bin}:${path}`
}

test('clock: before its own release, not trusted, far from the far side, kept by nobody; else good', async () => {
  timedatectlSays('yes')
  const nowUs = systemClock.nowUs()
  const clocked = (trusted: boolean, offsetUs: number | null) => ({
    ...status,
    clock: { trusted, offsetUs },
  })
  const good = await lookAtClock(clocked(true, 10), nowUs, null)
  assert.equal(good.state, 'good', good.text)
  assert.match(good.text, /kept by a time service/)
  const old = await lookAtClock(undefined, releasedAtUs - 1, null)
  assert.deepEqual([old.state, /before this program was made/.test(old.text)], ['bad', true])
  const waits = await lookAtClock(clocked(false, null), nowUs, null)
  assert.deepEqual([waits.state, /does not trust it/.test(waits.text)], ['bad', true])
  for (const offsetUs of [6e6, -6e6]) {
    const far = await lookAtClock(undefined, nowUs, offsetUs)
    assert.equal(far.state, 'warning')
    assert.match(far.text, offsetUs > 0 ? /behind the far side by 6 s/ : /ahead of the far side/)
  }
  assert.equal((await lookAtClock(undefined, nowUs, 4e6)).state, 'good')
  timedatectlSays('no')
  const alone = await lookAtClock(clocked(true, 10), nowUs, null)
  assert.deepEqual([alone.state, /no time service keeps it/.test(alone.text)], ['warning', true])
  assert.match(alone.fix, /systemd-timesyncd/)
})

test('certificates: good, ending soon, ended, not valid yet, none in the file', async () => {
  const folder = temporaryFolder('certificates')
  const day = 86_400e6
  const nowUs = systemClock.nowUs()
  const ca = await createDevelopmentCa('test', { fromMs: nowUs / 1_000, days: 90 })
  const { certPem, keyPem } = await ca.agent('gw-1')
  const [cert, key, empty] = ['cert.pem', 'key.pem', 'empty.pem'].map((one) => join(folder, one))
  writeFileSync(cert as string, certPem)
  writeFileSync(key as string, keyPem, { mode: 0o600 })
  writeFileSync(empty as string, 'nothing')
  const lookAt = (file: string | undefined, atUs: number) => {
    const settings = { tls: { cert: file, key } }
    const [finding] = lookAtCertificates(
      { destinations: [{ name: 'region', settings }], sources: [] } as unknown as Config,
      atUs,
    )
    return finding as Finding
  }
  const at = (days: number) => lookAt(cert, nowUs + days * day)
  assert.equal(at(0).state, 'good', at(0).text)
  assert.deepEqual([at(75).state, at(77).state], ['good', 'warning'])
  assert.match(at(77).text, /ends in 12 days/)
  assert.deepEqual([at(92).state, at(-3).state], ['bad', 'bad'])
  assert.match(at(92).text, /has ended [23] days ago/)
  assert.match(at(-3).text, /not valid yet/)
  assert.equal(lookAt(empty, nowUs).state, 'bad')
  assert.equal(lookAt(join(folder, 'none.pem'), nowUs).state, 'unknown')
})

test('what is closed to a stranger says nothing of the agent; to root or the agent itself it does', () => {
  const problem: ConfigProblem = {
    ...{ severity: 'error', code: 'HF-C012', text: 'EACCES', file: 'a', line: 1, column: 1 },
    ...{ hint: '', excerpt: [] },
  }
  const states = (one: Partial<ConfigProblem>, stranger: boolean) =>
    configFindings('a', [{ ...problem, ...one }], stranger).map(({ state, fix }) => [state, fix])
  const asRoot = 'Run it as root: sudo holdfast doctor'
  assert.deepEqual(states({ denied: true }, true), [['unknown', asRoot]])
  assert.equal(states({ denied: true }, false)[0]?.[0], 'bad')
  assert.equal(states({}, true)[0]?.[0], 'bad')
  assert.equal(states({ unitOnly: true }, false)[0]?.[0], 'unknown')
  const step = {
    step: 'tls',
    good: false,
    ms: 1,
    text: 'EACCES',
    code: 'HF-N001',
    hint: '',
  } as const
  assert.equal(stepFinding('to a', { ...step, denied: true }, true).state, 'unknown')
  assert.equal(stepFinding('to a', { ...step, denied: true }, false).state, 'bad')
  assert.equal(stepFinding('to a', step, true).state, 'bad')
})

test('a program that hangs or does not end is left behind, and what it said is kept', async () => {
  const hangs = await hear('sh', ['-c', 'echo first; exec sleep 60'], { ms: 300 })
  assert.deepEqual(hangs, { text: 'first\n', code: null, cut: 'after 0.3 s' })
  const endless = await hear('yes', [], { bytesMax: 1_000_000 })
  assert.equal(endless?.text.length, 1_000_000)
  assert.equal(endless?.cut, 'after 1 MB')
  assert.deepEqual(await hear('sh', ['-c', 'echo all; exit 3']), {
    text: 'all\n',
    code: 3,
    cut: '',
  })
  assert.equal(await hear('holdfast-no-such-program', []), null)
  assert.equal(await said('sh', '-c', 'echo all; exit 3'), null)
  assert.equal(await said('echo', 'all'), 'all\n')
})
