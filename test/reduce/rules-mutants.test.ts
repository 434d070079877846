/** Negative controls: each small wrong change of a rule must turn a test of this suite red. */
import type { Mutant } from '../support/mutants.ts'
import { findAll } from './find-all.ts'

const rules: readonly Mutant[] = [
  {
    name: 'a deadband twice as wide',
    file: 'pipeline/rule-skip.ts',
    find: 'if (!(Math.abs(value - sent) <= deviation)) break',
    put: 'if (!(Math.abs(value - sent) <= deviation * 2)) break',
  },
  {
    name: 'doors that only the newest point closes',
    file: 'pipeline/rule-skip.ts',
    find: 'if (ownUpper < upper) cells',
    put: 'cells',
  },
  {
    name: 'a corner is the point behind it',
    file: 'pipeline/rule-step.ts',
    find: `        sendHeld(own, false, 'corner')
        openDoor(row, at, timeUs, value)
      }`,
    put: `        send(own, i, value, points.qualities[i] as number)
        return
      }`,
  },
  {
    name: 'no slack for the rounding of doubles',
    file: 'pipeline/rule-table.ts',
    find: 'export const doorRounding = 16 * Number.EPSILON',
    put: 'export const doorRounding = 0',
  },
  {
    name: 'the last point before a gap stays behind',
    file: 'pipeline/rule-step.ts',
    find: 'if (afterGap || door) sendHeld',
    put: 'if (door) sendHeld',
  },
  {
    name: 'a point out of order leaves what is around it as it was',
    file: 'pipeline/rule-late.ts',
    find: 'if (inside) send(own, batch, i)',
    put: '',
  },
  {
    name: 'any point out of order is covered',
    file: 'pipeline/rule-step.ts',
    find: 'return !wants(own, i, at, kind, value)',
    put: 'return true',
  },
  {
    name: 'a value that was corrected is sent as it was',
    file: 'pipeline/rule-step.ts',
    find: `    if (timeUs === held) {
      hold(own, i)`,
    put: `    if (timeUs === held) {`,
  },
  {
    name: 'the state forgets what is held',
    file: 'pipeline/rule-state.ts',
    find: 'cells[at + cell.params] = classNumber * paramStride',
    put: 'cells[at + cell.params] = classNumber * paramStride; cells[at + cell.heldTime] = Number.NaN',
  },
  {
    name: 'a change of quality is no reason',
    file: 'pipeline/rule-step.ts',
    find: 'const change = Number.isNaN(distance) || meta !== words[(row + cell.meta) * 2]',
    put: 'const change = Number.isNaN(distance)',
  },
]

const knots: readonly Mutant[] = [
  {
    name: 'a knot is forgotten, and with it that points were left out before it',
    file: 'pipeline/rule-knots.ts',
    find: '(bits & (1 << at)) === 0 ? bits & ~(1 << next) : bits',
    put: 'next < 0 ? at : bits',
  },
  {
    name: 'older knots stand in each other’s place',
    file: 'pipeline/rule-knots.ts',
    find: 'if (level < levels) return recentKnots + level',
    put: 'if (level < levels) return recentKnots',
  },
  {
    name: 'around a late point nothing is missing though only one side was sent',
    file: 'pipeline/rule-knots.ts',
    find: 'if (at < 0 || before !== fromUs) return',
    put: 'if (at < 0) return',
  },
]

findAll([
  ['test/reduce/knots.test.ts', knots],
  ['test/reduce/rules.test.ts', rules],
])
