/** Negative controls: each small wrong change of windows, plans or of how stages work must turn a test red. */
import type { Mutant } from '../support/mutants.ts'
import { findAll } from './find-all.ts'

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
    name: 'the newest point of a step is not written down at its end',
    file: 'pipeline/window-feed.ts',
    find: '      for (let k = 0; k < heldCount; k++) settle(held[k] as number)\n',
    put: '',
  },
  {
    name: 'what is in force at the start is the newest point of the step before',
    file: 'pipeline/window-feed.ts',
    find: '    settle(own)\n    const last',
    put: '    const last',
  },
  {
    name: 'which point came again is asked of the step before',
    file: 'pipeline/window-feed.ts',
    find: '      settle(own)\n      if (isNewest',
    put: '      if (isNewest',
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
const works: readonly Mutant[] = [
  {
    name: 'a stage is saved in the midst of a step',
    file: 'spool/derive.ts',
    find: '  const stages = all.filter((one) => one.work === null)',
    put: '  const stages = all',
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

findAll([
  ['test/unit/spool/stage-work.test.ts', works],
  ['test/reduce/windows.test.ts', windows],
  ['test/reduce/plan.test.ts', plans],
  ['test/reduce/windows-pressure.test.ts', pressed],
])
