/** Negative controls: what the simulation must find. Each is one small wrong change of `src`. */
import type { Mutant } from '../../support/mutants.ts'

export const mutants: readonly Mutant[] = [
  {
    name: 'ack-before-commit',
    file: 'spool/ingest.ts',
    find: 'waiting.push({ lane, intake, bytes, resolve, reject, settled: false })',
    put: 'waiting.push({ lane, intake, bytes, resolve, reject, settled: false }); resolve()',
  },
  {
    name: 'synchronous-normal',
    file: 'spool/open.ts',
    find: "'synchronous = FULL'",
    put: "'synchronous = NORMAL'",
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
    name: 'dictionary-over-epochs',
    file: 'spool/epochs.ts',
    find: 'if (ordinal === state.ordinal) return asTheyAre',
    put: 'return asTheyAre',
  },
  {
    name: 'anchor-loss-not-declared',
    file: 'spool/recover.ts',
    find: '    declareAnchorLoss(state, fresh)',
    put: '',
  },
  {
    name: 'memory-not-rolled-back',
    file: 'spool/write.ts',
    find: '    before.restore()',
    put: '',
  },
  {
    name: 'dropped-without-a-count',
    file: 'spool/gaps.ts',
    find: '{ reason, count: row.points, source:',
    put: '{ reason, count: 0, source:',
  },
  {
    name: 'joined-gap-loses-its-count',
    file: 'spool/gaps.ts',
    find: '  count: a.count + b.count,',
    put: '  count: b.count,',
  },
  {
    name: 'trimmed-once-read',
    file: 'spool/retention.ts',
    find: 'passed = Math.min(passed, reader.now.backlog)',
    put: 'passed = Math.min(passed, Math.max(reader.now.backlog, lane.readThrough))',
  },
  {
    name: 'no-rewind',
    file: 'spool/readers.ts',
    find: '  const to = Math.min(after, reader.now.backlog)',
    put: '  const to = reader.now.backlog',
  },
  {
    name: 'forgotten-not-declared',
    file: 'spool/readers.ts',
    find: '    if (to < lane.now.floor - 1) {',
    put: '    if (to < lane.now.floor - 1 && to < 0) {',
  },
  {
    name: 'arrival-stamps-not-kept',
    file: 'spool/commit.ts',
    find: '  if (waiting.length > 0) bytesWaiting = addWaiting(state, lane, waiting)',
    put: '',
  },
  {
    name: 'cursor-ahead-of-ack',
    file: 'forward/lane.ts',
    find: "        case 'later':\n        case 'blocked':\n",
    put: "        case 'later':\n        case 'blocked':\n          await ack(front, seqLastOf(batch.items.at(-1) as LaneItem))\n",
  },
  {
    name: 'idle-never-asks',
    file: 'forward/forwarder.ts',
    find: "          return { kind: 'rewind', lane: lane.lane, after: far.contiguous }",
    put: '          continue',
  },
  {
    name: 'rejected-without-a-tombstone',
    file: 'forward/lane.ts',
    find: "      await spool.quarantine(lane, one.seq, 'rejected', one.text)",
    put: '      await ack(true, one.seq)',
  },
  {
    name: 'portal-taken-for-the-region',
    file: 'destinations/ledger-client.ts',
    find: '  if (unnamed !== null) return later(unnamed)',
    put: '',
  },
  {
    name: 'tombstone-not-sent',
    file: 'destinations/ledger-batch.ts',
    find: "      parcels.push({ frame, epoch, seq, seqLast, digest: '', dictionaryLength: 0 })",
    put: '',
  },
  {
    name: 'no-ledger-check',
    file: 'database/ledger.ts',
    find: "  if (covered !== 'all') return { frame, head, action: 'take', overlaps }",
    put: "  if (covered !== ('' as string)) return { frame, head, action: 'take', overlaps }",
  },
  {
    name: 'contiguous-over-holes',
    file: 'database/ledger.ts',
    find: '  if (range.seq === head.contiguous + 1 && head.above.length === 0) {',
    put: '  if (range.seqLast > head.contiguous) {',
  },
  {
    name: 'replay-counted-again',
    file: 'database/ledger.ts',
    find: "action: repair ? 'repair' : 'duplicate'",
    put: "action: repair ? 'take' : 'duplicate'",
  },
  {
    name: 'merge-ignores-ord',
    file: 'database/embedded-points.ts',
    find: '    where excluded.ord > points.ord`',
    put: '`',
  },
  {
    name: 'first-of-a-segment-stands',
    file: 'database/rows.ts',
    find: '      a - b,',
    put: '      b - a,',
  },
  {
    name: 'forgotten-epoch-starts-at-acked',
    file: 'database/hello.ts',
    find: 'const contiguous = foreign ? Math',
    put: 'const contiguous = foreign || true ? Math',
  },
]
