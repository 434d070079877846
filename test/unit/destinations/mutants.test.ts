/** Negative controls: small wrong changes of how answers are judged, each of which a test of this room must see. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mutant, survives } from '../../support/mutants.ts'

const faults = 'test/unit/destinations/same-fault.test.ts'
const stalls = 'test/unit/destinations/stall-limit.test.ts'
const database = 'test/unit/destinations/postgres-side.test.ts'
const mutants: readonly (Mutant & { readonly by: string })[] = [
  {
    name: 'a server that takes nothing has its points taken for poison',
    by: faults,
    file: 'destinations/same-fault.ts',
    find: "if ((await control()).kind !== 'taken') return 'unsure'",
    put: 'await control()',
  },
  {
    name: 'one answer alone is proof',
    by: faults,
    file: 'destinations/same-fault.ts',
    find: 'const aloneMax = 6',
    put: 'const aloneMax = 1',
  },
  {
    name: 'a search at the first 5xx',
    by: faults,
    file: 'destinations/same-fault.ts',
    find: 'const sameMax = 5',
    put: 'const sameMax = 1',
  },
  {
    name: 'halves of what a server that is down refused',
    by: faults,
    file: 'destinations/influx-send.ts',
    find: '      if (!(await takesAny(sending, lines, which, signal))) return setback\n',
    put: '',
  },
  {
    name: 'a number in the answer makes it another one',
    by: faults,
    file: 'destinations/same-fault.ts',
    find: "text.replace(/[0-9a-f]{8,}|\\d+/gi, '#')",
    put: 'text',
  },
  {
    name: 'what gets stuck is sent again as large',
    by: stalls,
    file: 'destinations/influx-send.ts',
    find: 'if (said.stalled) stalls.stalled(bytesOf(texts))',
    put: '',
  },
  {
    name: 'larger ones are tried as often, however often they got stuck',
    by: stalls,
    file: 'destinations/stall-limit.ts',
    find: 'needed = Math.min(neededMost, needed * 2)',
    put: 'needed = arrivalsBetweenTries',
  },
  {
    name: 'what a database is not done with in time comes again as large',
    by: database,
    file: 'destinations/postgres-side.ts',
    find: 'stalled: trouble.stalled === true',
    put: 'stalled: false',
  },
  {
    name: 'what a region is not done with in time comes again as large',
    by: 'test/unit/destinations/relay-outcome.test.ts',
    file: 'destinations/relay-outcome.ts',
    find: 'error.stalled === true',
    put: 'false',
  },
]

for (const mutant of mutants)
  test(`found: ${mutant.name}`, async () => {
    const tests = ['test/contract/destination-log.ts', mutant.by]
    const survived = await survives(mutant, tests, [mutant.by])
    assert.equal(survived, false, typeof survived === 'number' ? `${survived} places` : 'survived')
  })
