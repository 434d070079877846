/** Negative controls: wrong changes of the spool that its crash states must show. */
import type { Mutant } from '../../support/mutants.ts'

export const mutants: readonly (Mutant & {
  /** Whose states show it; the first unless given. */
  readonly life?: number
})[] = [
  {
    name: 'synchronous-normal',
    file: 'spool/open.ts',
    find: "  const found = db.pragma('synchronous', { simple: true })",
    put: "  db.pragma('synchronous = NORMAL')\n  const found = 2 as number",
  },
  {
    name: 'ack-before-commit',
    file: 'spool/ingest.ts',
    find: 'waiting.push({ lane, intake, bytes, resolve, reject, settled: false })',
    put: 'waiting.push({ lane, intake, bytes, resolve, reject, settled: false }); resolve()',
  },
  {
    name: 'anchor-before-commit',
    file: 'spool/write.ts',
    find: "    state.sql('COMMIT').run()\n",
    put: "    writeAnchor(state, anchor)\n    state.sql('COMMIT').run()\n",
  },
  {
    name: 'journal-not-recovered',
    file: 'spool/recover.ts',
    find: 'for (const lane of state.lanes.values()) recoverJournal(state, lane)',
    put: '',
  },
  {
    name: 'epoch-reused',
    file: 'spool/open.ts',
    find: "    epoch: Buffer.from(host.randomBytes(16)).toString('hex'),",
    put: "    epoch: parent?.epoch ?? Buffer.from(host.randomBytes(16)).toString('hex'),",
  },
  {
    name: 'trimmed-once-read',
    file: 'spool/retention.ts',
    find: 'passed = Math.min(passed, reader.now.backlog)',
    put: 'passed = Math.min(passed, Math.max(reader.now.backlog, lane.readThrough))',
  },
  {
    name: 'stage-state-before-its-cursor',
    file: 'spool/stages.ts',
    find: '    state: one.stage.save(),\n  })\n',
    put: `    state: one.stage.save(),
  })
  state.sql('COMMIT').run()
  state.sql('BEGIN IMMEDIATE').run()
`,
  },
  {
    name: 'stage-output-before-its-cursor',
    file: 'spool/stage-output.ts',
    find: '  return append(state, stages)\n',
    put: `  const bytes = append(state, stages)
  state.sql('COMMIT').run()
  state.sql('BEGIN IMMEDIATE').run()
  return bytes
`,
  },
  {
    name: 'stepped-again-given-out-again',
    file: 'spool/stage-work.ts',
    find: '  const again = seq <= cursorOf(one)',
    put: '  const again = false',
  },
  {
    name: 'hold-of-now-taken-for-the-checkpoints',
    file: 'spool/stages.ts',
    life: 4,
    find: 'Math.min(one.now.checkpoint, one.now.holdSeq - 1, one.hold.seq() - 1)',
    put: 'one.hold.seq() - 1',
  },
  {
    name: 'copies-stored-before-how-far-they-came',
    file: 'pipeline/selections.ts',
    life: 6,
    find: '    await spool.append(replayLane, { points, ...order, kept })\n',
    put: '    await spool.append(replayLane, { points, ...order })\n    await spool.keep(kept)\n',
  },
  {
    name: 'how-far-copies-came-before-they-are-stored',
    file: 'pipeline/selections.ts',
    life: 6,
    find: '    await spool.append(replayLane, { points, ...order, kept })\n',
    put: '    await spool.keep(kept)\n    await spool.append(replayLane, { points, ...order })\n',
  },
]
