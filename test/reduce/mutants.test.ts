/** Negative controls: each small wrong change of a rule or a window must turn a test of this suite red. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mutant, survives } from '../support/mutants.ts'

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
const windows: readonly Mutant[] = [
  {
    name: 'a window that counts otherwise than before goes on as it was',
    file: 'pipeline/window-state.ts',
    find: '  if (!alike) {',
    put: '  if (!alike && owner < 0) {',
  },
  {
    name: 'a state that nobody had asked for is not in force when the next window begins',
    file: 'pipeline/window-state.ts',
    find: ' ?? newestState(table, own)',
    put: '',
  },
  {
    name: 'a point out of order is simply added',
    file: 'pipeline/window-feed.ts',
    find: `    countOne(at)
    makeDirty(table, at)`,
    put: '    countOne(at)',
  },
  {
    name: 'of equal times the first stands',
    file: 'pipeline/window-make.ts',
    find: '|| a - b)',
    put: '|| b - a)',
  },
  {
    name: 'the value at the start of the next window is not corrected',
    file: 'pipeline/window-feed.ts',
    find: '      else makeDirty(table, next)',
    put: '',
  },
  {
    name: 'the value in force is not carried over',
    file: 'pipeline/window-feed.ts',
    find: '    carryNewest(own, at, window)\n',
    put: '',
  },
  {
    name: 'a bad point is used',
    file: 'pipeline/window-add.ts',
    find: 'if (((points.qualities[i] as number) & 3) === quality.bad) return Number.NaN',
    put: '',
  },
  {
    name: 'nothing is ever too late',
    file: 'pipeline/window-feed.ts',
    find: 'const over = endUs + window.spec.latenessUs <= beforeUs',
    put: 'const over = false && beforeUs',
  },
  {
    name: 'the state forgets the windows that are open',
    file: 'pipeline/window-state.ts',
    find: '  table.link(owner, at)\n',
    put: '  table.slots.free(at)\n  return\n',
  },
  {
    name: 'the state forgets which windows are dirty',
    file: 'pipeline/window-state.ts',
    find: 'const words = table.slots.words()\n',
    put: 'const words = table.slots.words()\n  words[flags] = (words[flags] as number) & ~standing.dirty\n',
  },
  {
    name: 'an issue of a window has the number of the one before',
    file: 'pipeline/window-issue.ts',
    find: 'cells[row + slot.rev] = (cells[row + slot.rev] as number) + 1',
    put: 'cells[row + slot.rev] = 1',
  },
  {
    name: 'a deviation of all, not of a sample',
    file: 'pipeline/window-statistics.ts',
    find: '/ (good - 1)))',
    put: '/ good))',
  },
  {
    name: 'the end of a window belongs to it',
    file: 'pipeline/window-feed.ts',
    find: 'time >= (cells[at * slotStride + slot.end] as number)',
    put: 'time > (cells[at * slotStride + slot.end] as number)',
  },
]

const plans: readonly Mutant[] = [
  {
    name: 'the error is measured against steps alone',
    file: 'cli/plan/error.ts',
    find: "if (interpolation === 'step' || toUs === undefined",
    put: 'if (toUs !== null || toUs === undefined',
  },
  {
    name: 'a hull has an upper side alone',
    file: 'cli/plan/error.ts',
    find: 'of [1, -1]',
    put: 'of [1]',
  },
  {
    name: 'a reason is believed whatever the lane says',
    file: 'pipeline/explain.ts',
    find: 'else if (truth !== undefined && truth !== sent.has(time)) last.delete(time)',
    put: '',
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

const pressed: readonly Mutant[] = [
  {
    name: 'a window that was put right once is read as if all had come in order',
    file: 'pipeline/window-issue.ts',
    find: '(standing.dirty | standing.mixed)',
    put: 'standing.dirty',
  },
]
const works: readonly Mutant[] = [
  {
    name: 'a stage is saved in the midst of a step',
    file: 'spool/derive.ts',
    find: '  const stages = all.filter((one) => one.work === null)',
    put: '  const stages = all',
  },
]

for (const [file, mutants] of [
  ['test/reduce/knots.test.ts', knots],
  ['test/unit/spool/stage-work.test.ts', works],
  ['test/reduce/rules.test.ts', rules],
  ['test/reduce/windows.test.ts', windows],
  ['test/reduce/plan.test.ts', plans],
  ['test/reduce/windows-pressure.test.ts', pressed],
] as const) {
  test(`as it is, a copy passes ${file}: what turns it red is the change`, async () => {
    const same = "name: 'rules',"
    const none = { name: 'none', file: 'pipeline/rules.ts', find: same, put: same }
    assert.equal(await survives(none, ['test/reduce', 'test/unit', 'test/support'], [file]), true)
  })
  for (const mutant of mutants) {
    test(`found: ${mutant.name}`, async () => {
      assert.equal(
        await survives(mutant, ['test/reduce', 'test/unit', 'test/support'], [file]),
        false,
      )
    })
  }
}
