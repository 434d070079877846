/** What doctor says of the unit, for every way in which systemd says that it ended. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type UnitFields, unitFinding } from '../../../src/cli/doctor/unit.ts'

const name = 'holdfast.service'
const running: UnitFields = {
  ...{ LoadState: 'loaded', UnitFileState: 'enabled', ActiveState: 'active', SubState: 'running' },
  ...{ Result: 'success', NRestarts: '0', ExecMainCode: '0', ExecMainStatus: '0' },
}
const of = (is: Partial<UnitFields>, journal = '') =>
  unitFinding(name, { ...running, ...is } as UnitFields, journal)
const failed = (Result: string, ExecMainStatus: string, journal = '') =>
  of({ ActiveState: 'failed', SubState: 'failed', Result, ExecMainStatus }, journal)

test('running is good, and so are a few restarts nobody has to know of; many are not', () => {
  assert.equal(of({}).state, 'good')
  assert.equal(of({ NRestarts: '1' }).text, `${name}: active (running), 1 restart`)
  assert.deepEqual(
    [of({ NRestarts: '5' }).state, of({ NRestarts: '6' }).state],
    ['good', 'warning'],
  )
})

test('exit 78: a newer spool is told from a wrong configuration', () => {
  const newer = failed('exit-code', '78', 'holdfast: HF-S003 the spool is of version 9')
  assert.equal(newer.state, 'bad')
  assert.match(newer.text, /HF-S003: its spool was written by a newer version/)
  assert.doesNotMatch(newer.fix, /holdfast check/)
  const wrong = failed('exit-code', '78', 'error  HF-C003  unknown key "tokn"')
  assert.match(wrong.text, /exit 78, HF-C003/)
  assert.match(wrong.fix, /^holdfast check/)
  // What was mended since is not what it ended with.
  const later = failed('exit-code', '78', 'HF-S003 newer\nerror HF-C003')
  assert.match(later.text, /HF-C003/)
  assert.match(failed('exit-code', '78').fix, /holdfast check .*journalctl/)
})

test('each way of ending is told, with its own remedy', () => {
  const told: readonly (readonly [string, string, RegExp, RegExp])[] = [
    ['watchdog', '6', /killed by the watchdog/, /flush, dmesg/],
    ['oom-kill', '9', /want of memory/, /MemoryMax=/],
    ['timeout', '0', /longer to start or to stop/, /flush/],
    ['start-limit-hit', '1', /started too often/, /reset-failed/],
    ['signal', '9', /killed by signal 9/, /dmesg/],
    ['core-dump', '11', /crashed by signal 11/, /support-bundle/],
    ['exit-code', '74', /trouble with the disk/, /dmesg/],
    ['exit-code', '75', /not to be had yet/, /again by itself/],
    ['exit-code', '203', /its program cannot be run/, /journalctl/],
    ['exit-code', '243', /a credential of the unit/, /journalctl/],
    ['exit-code', '1', /exit-code, exit 1/, /journalctl/],
    ['some-result-of-a-later-systemd', '1', /some-result-of-a-later-systemd/, /journalctl/],
  ]
  for (const [result, status, text, fix] of told) {
    const found = failed(result, status)
    assert.equal(found.state, 'bad', result)
    assert.match(found.text, text)
    assert.match(found.fix, fix)
    assert.doesNotMatch(found.fix, /enable/, result)
    // The same while it waits for its next start.
    const waits = { ActiveState: 'activating', SubState: 'auto-restart', NRestarts: '3' }
    const again = of({ ...waits, Result: result, ExecMainStatus: status })
    assert.equal(again.state, 'bad', result)
    assert.match(again.text, text)
  }
})

test('starting is not "enable it"; stopped is started, disabled enabled, masked unmasked', () => {
  const starting = of({ ActiveState: 'activating', SubState: 'start' })
  assert.equal(starting.state, 'warning')
  assert.match(starting.text, /it is starting/)
  assert.doesNotMatch(starting.fix, /enable/)
  const stopped = { ActiveState: 'inactive', SubState: 'dead' }
  assert.equal(of(stopped).fix, `systemctl start ${name}`)
  assert.equal(of({ ...stopped, UnitFileState: 'disabled' }).fix, `systemctl enable --now ${name}`)
  assert.match(of({ ...stopped, ConditionResult: 'no' }).text, /condition/)
  assert.match(of({ LoadState: 'masked' }).fix, /unmask/)
  assert.equal(of({ LoadState: 'not-found' }).state, 'unknown')
  assert.equal(of({ LoadState: 'bad-setting' }).state, 'bad')
  assert.equal(of({ ActiveState: 'deactivating', SubState: 'stop-sigterm' }).state, 'warning')
})

test('running again after the watchdog or the want of memory: the last end still counts', () => {
  const journal = (result: string) =>
    `${name}: Failed with result 'signal'.\n${name}: Failed with result '${result}'.\n`
  const after = (result: string) => of({ NRestarts: '1' }, journal(result))
  assert.deepEqual([after('watchdog').state, after('oom-kill').state], ['warning', 'warning'])
  assert.match(after('watchdog').text, /last killed by the watchdog/)
  assert.match(after('oom-kill').fix, /MemoryMax=/)
  assert.equal(after('exit-code').state, 'good')
  assert.equal(of({ NRestarts: '0' }, journal('watchdog')).state, 'good')
})
