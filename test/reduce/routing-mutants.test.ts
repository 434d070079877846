/** Negative controls of routing: each small wrong change must turn the test of its line red. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mutant, survives } from '../support/mutants.ts'

const shared = ['test/unit', 'test/support', 'test/sim', 'test/reduce']
const byFile: Readonly<Record<string, readonly Mutant[]>> = {
  'test/unit/forward/routes.test.ts': [
    {
      name: 'every lane has its turn at any time',
      file: 'forward/turns.ts',
      find: 'at < priority && pumps > 0',
      put: 'at < 0 && pumps > 0',
    },
    {
      name: 'a lane that was left is sent for ever',
      file: 'forward/routes.ts',
      find: 'const upTo = before[lane] ?? head',
      put: 'const upTo = head',
    },
    {
      name: 'a lane that was left is dropped at once',
      file: 'forward/routes.ts',
      find: 'if (cursor.backlog >= upTo) await',
      put: 'if (upTo > 0) await',
    },
    {
      name: 'a known reader begins anew',
      file: 'spool/readers.ts',
      find: 'if (known !== undefined) return cursorOf(known)',
      put: `if (known !== undefined) return rewind(state, lane, name, lane.now.floor - 1, [])`,
    },
  ],
  'test/unit/forward/bandwidth.test.ts': [
    {
      name: 'twice the rate',
      file: 'forward/bandwidth.ts',
      find: 'freeAtMs) + (bytes / rate) * 1000',
      put: 'freeAtMs) + (bytes / rate) * 500',
    },
    {
      name: 'what goes out beyond what was expected is free',
      file: 'forward/bandwidth.ts',
      find: 'const settle = () => charge(account?.look() ?? 0)',
      put: 'const settle = () => account?.look()',
    },
    {
      name: 'what did not go out is paid for',
      file: 'forward/bandwidth.ts',
      find: 'freeAtMs -= (grant.left / rate) * 1000',
      put: '',
    },
    {
      name: 'all shares are equal',
      file: 'forward/bandwidth.ts',
      find: 'start + wish.bytes / wish.share',
      put: 'start + wish.bytes',
    },
    {
      name: 'first come, first served',
      file: 'forward/bandwidth.ts',
      find: 'a.wish.priority !== b.wish.priority ? a.wish.priority < b.wish.priority : a.start < b.start',
      put: 'a.start < b.start',
    },
    {
      name: 'a pump that was idle has saved up its share',
      file: 'forward/bandwidth.ts',
      find: 'const start = Math.max(virtual, ends.get(wish.pump) ?? 0)',
      put: 'const start = ends.get(wish.pump) ?? 0',
    },
    {
      name: 'who gave up still has its turn',
      file: 'forward/bandwidth.ts',
      find: `          waiters = waiters.filter((one) => one !== waiter)
`,
      put: '',
    },
  ],
  'test/unit/forward/forwarder.test.ts': [
    {
      name: 'never newest first',
      file: 'forward/lane.ts',
      find: `      options.liveShare <= 0 ||
      !lagging`,
      put: `      options.liveShare <= 1 ||
      !lagging`,
    },
    {
      name: 'the live pump has the share of the backlog',
      file: 'forward/lane.ts',
      find: 'front ? options.liveShare : 1 - options.liveShare',
      put: 'front ? 1 - options.liveShare : options.liveShare',
    },
    {
      name: 'one large request on a thin link',
      file: 'forward/bandwidth.ts',
      find: 'const requestSecondsMax = 2',
      put: 'const requestSecondsMax = 200',
    },
  ],
  'test/unit/spool/ingest.test.ts': [
    {
      name: 'all lanes have the pace of the first',
      file: 'spool/ingest.ts',
      find: 'const delayMs = optionsOf(lane)?.maxDelayMs ?? 0',
      put: 'const delayMs = options.lanes[0]?.maxDelayMs ?? 0',
    },
  ],
  'test/unit/spool/stage-changes.test.ts': [
    {
      name: 'what comes while a stage leaves goes its way',
      file: 'spool/stage-changes.ts',
      find: '  saveEndings(sql, id, reader, old ? endings : [])\n',
      put: '',
    },
    {
      name: 'a stage that is put back begins where the one before it ended',
      file: 'spool/stage-changes.ts',
      find: 'from: after.upTo }',
      put: "from: 'oldest' as const }",
    },
  ],
  'test/reduce/routing.test.ts': [
    {
      name: 'what is open stays open when the configuration changes',
      file: 'spool/open.ts',
      find: '    for (const lane of state.lanes.values()) if (lane.open.count() > 0) sealOpen(state, lane, true)\n',
      put: '',
    },
    {
      name: 'the order a person asked for is not taken',
      file: 'agent.ts',
      find: "inOrder || one.order === 'oldest_first' ? 0",
      put: 'inOrder ? 0',
    },
    {
      name: 'raw travels although windows are made of it',
      file: 'config/classes.ts',
      find: '.filter((name) => !thinned.has(name))',
      put: '.filter(() => true)',
    },
  ],
}
for (const [file, mutants] of Object.entries(byFile))
  for (const mutant of mutants)
    test(`found: ${mutant.name}`, async () => {
      assert.equal(await survives(mutant, shared, [file]), false)
    })
