/**
 * The shapes of the control API's answers, for its OpenAPI document. The compiler holds them to the
 * types they describe.
 * Invariant: they describe; nothing is refused or changed by them at run time.
 */
import { z } from 'zod'
import { gapReasons, refusals } from '../model.ts'
import type {
  ClockStatus,
  DestinationStatus,
  Issue,
  SourceStatus,
  Verdict,
} from '../observability/health.ts'
import type { GapRow, LaneStatus, SpoolStats } from '../spool-port.ts'
import type { StageTotals } from '../stage-facts.ts'
import type { ExplainAnswer } from './explained.ts'
import type { AgentStatus, ImportAnswer, ReloadAnswer, ReplayAnswer, ResendAnswer } from './view.ts'
import type { QuarantineJson, TapJson } from './wire.ts'

/** `both` fails to compile when a field is missing on either side. */
const both =
  <T>() =>
  <S extends z.ZodType<T>>(schema: S & (T extends z.output<S> ? unknown : never)): S =>
    schema
const text = z.string()
const count = z.number()
const timeUs = z.number().describe('Microseconds since 1970 UTC, 0 when unknown')
const reason = z.enum(gapReasons)

const issueFields = { code: text, reason: text, fix: text, effects: z.array(text).readonly() }
const issue = both<Issue>()(
  z.object({ severity: z.enum(['unhealthy', 'degraded', 'note']), ...issueFields }),
)
const verdict = both<Verdict>()(
  z.object({
    state: z.enum(['ok', 'degraded', 'unhealthy']),
    ...issueFields,
    issues: z.array(issue).readonly(),
    safeOfflineHours: count.nullable().describe('Null while nothing fills the spool'),
  }),
)
const common = {
  code: text,
  text,
  hint: text,
  sinceUs: timeUs,
  points: count,
  pointsPerSecond: count,
}
const source = both<SourceStatus>()(
  z.object({
    name: text,
    type: text,
    lane: text,
    state: z.enum(['starting', 'running', 'restarting']),
    lastPointUs: timeUs,
    pointsAhead: count.describe('Marked: further ahead of the clock than agent.max_ahead'),
    ...common,
  }),
)
const destination = both<DestinationStatus>()(
  z.object({
    name: text,
    type: text,
    state: z.enum(['connecting', 'up', 'retrying', 'blocked']),
    breaker: z.enum(['closed', 'open', 'half_open']),
    failures: count.describe('Since the last committed answer'),
    lastAckUs: timeUs,
    pending: count,
    oldestUnackedUs: timeUs,
    ...common,
  }),
)
const cursor = z.object({
  backlog: count,
  live: z.object({ start: count, upTo: count }).nullable(),
})
const stageTotals = both<StageTotals>()(
  z.object({
    class: text,
    lane: text,
    pointsIn: count.describe('Since the state of the rules or windows began'),
    pointsOut: count,
    tooLate: count.describe('In no window of some length: they came after its lateness'),
    withheld: count.describe('Held back by min_gap though the rule wanted them'),
    late: count.describe('Not later than the newest of their series'),
    lateUnmended: count.describe('Of these: the deviation may be exceeded around them'),
  }),
)
export const laneStatus = both<LaneStatus>()(
  z.object({
    lane: text,
    id: count,
    head: count,
    floor: count,
    derived: z.boolean(),
    accepted: count,
    bytes: count,
    unfinished: z.literal(true).exactOptional().describe('A changed rule is still being ended'),
    readers: z
      .array(
        z.object({
          reader: text,
          cursor,
          stage: z.boolean(),
          delivered: count,
          reduced: count,
          declaredLost: count,
          pending: count,
          passedOver: count
            .exactOptional()
            .describe(
              'Of rules and windows: points from before they began, or of series of no class',
            ),
          failed: text.exactOptional().describe('Why rules or windows rest'),
          classes: z.array(stageTotals).readonly().optional().describe('Of rules and windows'),
        }),
      )
      .readonly(),
  }),
)
const spoolStats = both<SpoolStats>()(
  z.object({
    bytesUsed: count,
    bytesMax: count,
    diskFreeBytes: count,
    commits: count,
    commitMsP50: count,
    commitMsP99: count,
    bytesWritten: count,
    seriesCount: count,
    blockedReason: text.nullable(),
    fillBytesPerSecond: count,
    quarantined: count,
    waitingForClock: count,
  }),
)
const clock = both<ClockStatus>()(z.object({ trusted: z.boolean(), offsetUs: count.nullable() }))
const replay = both<AgentStatus['replays'][number]>()(
  z.object({
    destination: text,
    id: count,
    lane: text,
    fromUs: timeUs,
    toUs: timeUs,
    state: z.enum(['waiting', 'running', 'done', 'cancelled']),
    seqFirst: count,
    seqLast: count,
    seqDone: count,
    segmentsSent: count,
    pointsSent: count,
    segmentsRefused: count.describe('Accepted once and refused now: passed over, still held'),
    points: count,
    segments: count,
    text: text.describe('Why it waits'),
  }),
)
const selection = both<AgentStatus['selections'][number]>()(
  z.object({
    id: count,
    lane: text,
    series: z.array(text).readonly(),
    fromUs: timeUs,
    toUs: timeUs,
    state: z.enum(['waiting', 'running', 'done', 'cancelled', 'failed']),
    seqFirst: count,
    seqLast: count,
    seqDone: count,
    pointsCopied: count,
    gone: z
      .array(z.tuple([count, count]).readonly())
      .readonly()
      .describe('Segments of the range that were no longer held when it came to them: from, to'),
    text: text.describe('Why it failed, or what was no longer held'),
  }),
)
export const agentStatus = both<AgentStatus>()(
  z.object({
    version: text,
    agent: text,
    epoch: text,
    spoolId: text,
    nowUs: timeUs,
    upForUs: count,
    config: z.object({ file: text, digest: text }),
    verdict,
    clock,
    spool: spoolStats.nullable(),
    sources: z.array(source).readonly(),
    lanes: z.array(laneStatus).readonly(),
    destinations: z.array(destination).readonly(),
    replays: z.array(replay).readonly(),
    selections: z.array(selection).readonly(),
  }),
)
export const gapRow = both<GapRow>()(
  z.object({
    lane: text,
    destination: text.describe('The only one that lacks these points; empty when all do'),
    seq: count,
    seqLast: count,
    reason,
    count,
    source: text,
    timeUsMin: timeUs,
    timeUsMax: timeUs,
  }),
)
export const quarantineRow = both<QuarantineJson>()(
  z.object({
    id: count,
    lane: text,
    seq: count,
    reason,
    source: text,
    text,
    atUs: timeUs,
    sample: text.describe('Base64'),
    destination: text.describe('Which one refused points; empty where it is a sample'),
    why: z.enum(['', ...refusals]),
    points: count.describe('Held here, to be sent again'),
  }),
)
export const resendAnswer = both<ResendAnswer>()(
  z.object({
    delivered: count,
    refused: count.describe('Still in the quarantine'),
    text: text.describe('Why not all of it was taken, empty when it was'),
    hint: text,
  }),
)
export const tapLine = z.union([
  both<TapJson>()(
    z.object({
      series: text,
      tags: z.record(text, text).readonly(),
      time: text.describe('RFC 3339 with microseconds, UTC'),
      kind: z.enum(['float', 'int', 'bool', 'string']),
      value: z.union([count, z.boolean(), text]).describe('int64, NaN and infinities as text'),
      quality: z.enum(['good', 'uncertain', 'bad']),
    }),
  ),
  z.object({ skipped: count.describe('Points left out, because the reader was too slow') }),
])
export const replayAnswer = both<ReplayAnswer>()(
  z.object({
    id: text.describe('Empty for a dry run'),
    parts: z
      .array(
        z.object({
          lane: text,
          destination: text,
          segments: count,
          points: count,
          bytes: count,
          seqFirst: count,
          seqLast: count,
          seconds: count.nullable().describe('Null where the rate is unknown'),
          rate: z
            .enum(['bandwidth', 'present', 'unknown'])
            .describe('Which one: the bandwidth set, or what is taken at present'),
        }),
      )
      .readonly(),
  }),
)
export const reloadAnswer = both<ReloadAnswer>()(z.object({ changed: z.boolean(), text }))

const texts = z.array(text).readonly()
const strings = z.record(text, text).readonly()
const optional = count.nullable()
const value = {
  time: text.describe('RFC 3339 with microseconds, UTC'),
  kind: z.enum(['float', 'int', 'bool', 'string']),
  value: z.union([count, z.boolean(), text]).describe('int64, NaN and infinities as text'),
  quality: z.enum(['good', 'uncertain', 'bad']),
}
const explainRule = z.object({
  method: text,
  lane: text,
  deviation: optional.describe('Null where nothing is bounded'),
  interpolation: z.enum(['linear', 'step']).nullable(),
  intervalUs: optional,
  minGapUs: optional,
  heartbeatUs: optional,
  maxHoldUs: optional,
})
const explainPoint = z.object({
  ...value,
  timeUs,
  seq: count,
  state: z
    .enum(['sent', 'reduced', 'waits', 'stays'])
    .describe('stays: in the lane it came in, which no destination takes'),
  reason: text.describe('A word of the rule; "unknown" where too little is held to say'),
  text,
  destinations: z
    .array(z.object({ destination: text, state: z.enum(['delivered', 'pending']) }))
    .readonly(),
  tooLateForUs: z.array(count).readonly().describe('Lengths of windows it came too late for'),
})
export const explainAnswer = both<ExplainAnswer>()(
  z.object({
    series: text,
    tags: strings,
    unit: text,
    lane: text.describe('Where its points came in'),
    sources: texts,
    classes: z
      .array(z.object({ class: text, chosen: z.boolean(), because: text }))
      .readonly()
      .describe('In order, up to the one it fell into'),
    rule: explainRule.nullable(),
    windows: z
      .array(z.object({ everyUs: count, statistics: texts, latenessUs: count, lane: text }))
      .readonly(),
    routes: z
      .array(
        z.object({
          lane: text,
          holds: z.enum(['raw', 'reduced', 'windows']),
          maxDelayMs: count,
          destinations: texts,
        }),
      )
      .readonly(),
    points: z.array(explainPoint).readonly(),
    gaps: z
      .array(
        z.object({
          ...{ lane: text, seq: count, seqLast: count, reason: text, count, source: text },
          destination: text.describe('The only one that lacks these points; empty when all do'),
        }),
      )
      .readonly(),
    notes: texts,
  }),
)
export const segmentsAnswer = z.object({
  head: count.describe('Newest seq of the lane now'),
  items: z.array(
    z.object({
      ...{ seq: count, seqLast: count, epoch: text },
      bytes: text.nullable().describe('The segment in base64; null where points were lost'),
      lost: count,
    }),
  ),
})
export const dictionaryAnswer = z.object({
  series: z.array(z.object({ name: text, tags: z.array(z.tuple([text, text])), unit: text })),
})
export const importAnswer = both<ImportAnswer>()(
  z.object({
    taken: z.boolean().describe('False: it was in already'),
    points: count,
    lost: count.describe('Points that the block declares lost'),
  }),
)
