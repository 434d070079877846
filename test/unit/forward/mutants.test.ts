/** Negative controls: small wrong changes of breaker, limits and resend, each of which a test of this room must see. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mutant, survives } from '../../support/mutants.ts'

const forward = 'test/unit/forward/breaker.test.ts'
const spool = 'test/unit/spool/refused.test.ts'
const mutants: readonly (Mutant & { readonly by: string })[] = [
  {
    name: 'a probe of all that waits',
    by: forward,
    file: 'forward/lane.ts',
    find: "(parts.breaker.state() === 'closed' ? options.requestsInFlight : 1)",
    put: 'options.requestsInFlight',
  },
  {
    name: 'it never opens',
    by: forward,
    file: 'forward/breaker.ts',
    find: "(setback.kind === 'later' && repeated)) state = 'open'",
    put: "false) state = 'open'",
  },
  {
    name: 'a failed probe leaves it half open',
    by: forward,
    file: 'forward/breaker.ts',
    find: " || state === 'half_open'",
    put: " && state !== 'half_open'",
  },
  {
    name: 'a limit of one endpoint for another',
    by: forward,
    file: 'learned-limit.ts',
    find: '      if (found.endpoint !== endpoint) return\n',
    put: '',
  },
  {
    name: 'a limit forgotten by a restart',
    by: forward,
    file: 'learned-limit.ts',
    find: '      await spool.keep([{ key, value }])\n',
    put: '',
  },
  {
    name: 'never tried upwards',
    by: forward,
    file: 'learned-limit.ts',
    find: 'Math.min(parts.bytesMax, bytesMax * 2)',
    put: 'bytesMax',
  },
  {
    name: 'an answer that does not name the refused is believed',
    by: forward,
    file: 'forward/resend.ts',
    find: 'if (named < all) return',
    put: 'if (false) return',
  },
  {
    name: 'sent while the breaker is open',
    by: forward,
    file: 'forward/resend.ts',
    find: '    if (trouble !== undefined) return stays(trouble.text, trouble.hint)\n',
    put: '',
  },
  {
    name: 'delivered before it is taken from the lost',
    by: spool,
    file: 'spool/resend.ts',
    find: 'lost: now.lost - delivered }',
    put: 'lost: now.lost }',
  },
  {
    name: 'what is refused again is called delivered',
    by: spool,
    file: 'spool/resend.ts',
    find: 'row.points - again',
    put: 'row.points',
  },
  {
    name: 'a rewind leaves the copies',
    by: spool,
    file: 'spool/reader-gaps.ts',
    find: "    .sql('DELETE FROM refused WHERE lane = ? AND reader = ? AND seq > ? AND seq <= ?')\n    .run(lane.id, reader, after, to)",
    put: "    .sql('SELECT ?')\n    .get(after)",
  },
  {
    name: 'a number given twice',
    by: spool,
    file: 'spool/refused.ts',
    find: '  const known = state.sql("SELECT value FROM meta WHERE key = \'quarantineId\'").pluck().get()',
    put: "  const known = state.sql('SELECT max(id) FROM refused').pluck().get()",
  },
  {
    name: 'a flood pushes out the others',
    by: spool,
    file: 'spool/refused.ts',
    find: 'GROUP BY reader, why ORDER BY count(*) DESC LIMIT 1',
    put: 'GROUP BY reader, why ORDER BY id LIMIT 1',
  },
]

for (const mutant of mutants)
  test(`found: ${mutant.name}`, async () => {
    const tests = ['test/unit/forward', 'test/unit/spool', 'test/sim', 'test/support']
    const survived = await survives(mutant, tests, [mutant.by])
    assert.equal(survived, false, typeof survived === 'number' ? `${survived} places` : 'survived')
  })
