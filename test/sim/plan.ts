/**
 * What one seed goes through: every seed draws its own mix of faults (a swarm), so that rare combinations meet.
 * Times are milliseconds of virtual time.
 */
import type { SeriesClass } from '../../src/pipeline/classes.ts'
import { type Setup, withChanges } from './changing.ts'
import { drawClasses } from './classes.ts'
import { drawStageFaults, drawSyncFailures } from './disk-faults.ts'
import { type Chance, createChance } from './random.ts'

export interface Plan {
  readonly seed: number
  /** Faults happen in [0, faultsMs); then everything heals. */
  readonly faultsMs: number
  readonly lanes: readonly {
    readonly name: string
    readonly maxDelayMs: number
    readonly segmentPointsMax: number
    readonly policy: 'block' | 'drop_oldest'
  }[]
  /**
   * Stages read the first lane: none, the test's own, rules and windows of these classes, before and after a change, or
   * of setups that take each other's place in good order.
   */
  readonly stages: 'none' | 'test' | 'real' | 'changing'
  /** One more than there are changes. */
  readonly setups: readonly Setup[]
  /** A turn each, for every step of theirs. */
  readonly stepPieces: number
  readonly classes: readonly (readonly SeriesClass[])[]
  /** Share of points that come later than others of their series with a later time. */
  readonly lateShare: number
  /** A second destination that keeps no books and cannot hold every point; and how often it has trouble. */
  readonly historian: boolean
  readonly historianTrouble: number
  /** The lanes of the stages, with their settings. */
  readonly derivedLanes: readonly {
    readonly name: string
    readonly maxDelayMs: number
    readonly segmentPointsMax: number
    readonly policy: 'block' | 'drop_oldest'
    readonly derived: true
  }[]
  /** Raw points are asked for, by way of a lane for copies; so many bytes are read for it at a time. */
  readonly copies: boolean
  readonly copyReadBytes: number
  readonly windowUs: number
  readonly spoolBytesMax: number
  readonly keepSentMs: number
  readonly commitWindowMs: number
  readonly requestsInFlight: number
  readonly bodyBytesMax: number
  readonly liveShare: number
  readonly bandwidthBytesPerSecond: number | undefined
  readonly publishEveryMs: number
  readonly pointsPerAppendMax: number
  readonly correctionShare: number
  readonly longTextShare: number
  readonly poisonShare: number
  readonly malformedShare: number
  /** Some points are stamped by the agent while its clock is not trusted. */
  readonly stampsOnArrival: boolean
  /** The machine starts in 1970 and learns the time after so long; 0: it knows it. */
  readonly clockUnknownMs: number
  readonly network: {
    readonly latencyMs: number
    readonly jitterMs: number
    readonly loseRequest: number
    readonly loseAnswer: number
    readonly duplicate: number
    readonly refuse: number
    /** A proxy on the way answers 413 above so many bytes. */
    readonly proxyBytesMax: number
  }
  readonly regionNodes: number
  /** One commit in so many crashes the region's node at one of its moments; 0: none. */
  readonly regionCrashOneIn: number
  /** One commit of the spool in so many kills the agent there; 0: none. */
  readonly failpointOneIn: number
  /** One commit of the spool in so many finds that the disk fails; 0: none. */
  readonly syncFailOneIn: number
  /** The region fails over once more when all is well and nothing is left to send. */
  readonly lateFailover: boolean
  readonly events: readonly PlannedEvent[]
}
export const eventKinds = [
  'kill',
  'power-cut',
  'partition',
  'portal',
  'failover',
  'restore-region',
  'clone',
  'restore-spool',
  'wall-jump',
  'damage',
  'replay',
  'reclass',
  'copy',
  'stage-damage',
  'lost-tail',
  'change',
] as const
export type EventKind = (typeof eventKinds)[number]
export interface PlannedEvent {
  readonly atMs: number
  readonly kind: EventKind
  readonly forMs: number
  /** In [0, 1): for whatever the event has to choose. */
  readonly draw: number
}

/** How likely a seed has the fault at all, and how often it then strikes; seeds with rules and windows have more. */
const faults: Readonly<Partial<Record<EventKind, readonly [share: number, most: number]>>> = {
  kill: [0.6, 4],
  'power-cut': [0.5, 3],
  partition: [0.6, 3],
  portal: [0.25, 2],
  failover: [0.4, 2],
  'restore-region': [0.25, 1],
  clone: [0.12, 1],
  'restore-spool': [0.1, 1],
  'wall-jump': [0.3, 3],
  damage: [0.15, 2],
  replay: [0.3, 2],
  reclass: [0, 1],
  // Of a seed with a lane for copies.
  copy: [0, 1],
}

const drawEvents = (chance: Chance, faultsMs: number, tight: boolean): PlannedEvent[] => {
  const events: PlannedEvent[] = []
  for (const kind of eventKinds) {
    const [share, most] = faults[kind] ?? []
    if (share === undefined || !chance.hit(share)) continue
    for (let count = chance.int(1, most ?? 1); count > 0; count--) {
      events.push({
        kind,
        atMs: chance.between(500, faultsMs),
        forMs: chance.hit(0.2) ? chance.between(5_000, 30_000) : chance.between(100, 4_000),
        draw: chance.next(),
      })
    }
  }
  // A small quota is only met when nothing gets out for a while.
  if (tight)
    events.push({
      kind: 'partition',
      atMs: chance.between(500, faultsMs / 2),
      forMs: faultsMs / 2,
      draw: 0,
    })
  return quietAround(events.sort((a, b) => a.atMs - b.atMs))
}
/** While a copy runs beside it the original is well: otherwise nobody could say which of the two is the copy. */
const quietAround = (events: readonly PlannedEvent[]): PlannedEvent[] => {
  const clone = events.find(({ kind }) => kind === 'clone')
  if (clone === undefined) return [...events]
  const harmless: readonly EventKind[] = ['clone', 'portal', 'wall-jump', 'replay']
  return events.filter(
    ({ kind, atMs, forMs }) =>
      harmless.includes(kind) || atMs > clone.atMs + cloneMs || atMs + forMs < clone.atMs - 5_000,
  )
}
export const cloneMs = 20_000

const reserve = 1024 * 1024
export const drawPlan = (seed: number): Plan => {
  const chance = createChance(seed, 'plan')
  const sometimes = (share: number, from: number, to: number) =>
    chance.hit(share) ? chance.between(from, to) : 0
  const faultsMs = chance.between(10_000, 60_000)
  const tight = chance.hit(0.35)
  const slow = chance.hit(0.15)
  const segments = chance.int(60, 110)
  const events = drawEvents(chance, faultsMs, tight)
  // Points that the agent stamps itself are stamped by each copy of its spool: they would have two times.
  const cloned = events.some(({ kind }) => kind === 'clone')
  const copied = events.some(({ kind }) => kind === 'clone' || kind === 'restore-spool')
  const plan = {
    seed,
    faultsMs,
    lanes: ['raw', 'alarms'].slice(0, chance.hit(0.4) ? 2 : 1).map((name) => ({
      name,
      maxDelayMs: chance.pick([50, 200, 1_000]),
      segmentPointsMax: chance.pick([4, 10, 40]),
      policy: chance.hit(tight ? 0.6 : 0.3) ? ('drop_oldest' as const) : ('block' as const),
    })),
    spoolBytesMax: reserve + (tight ? chance.int(174, 264) * 1024 : 64 * reserve),
    keepSentMs: chance.pick([0, 2_000, 3_600_000]),
    commitWindowMs: chance.pick([0, 20, 100]),
    requestsInFlight: chance.int(1, 4),
    bodyBytesMax: chance.pick([1_000, 8_000, 512 * 1024]),
    liveShare: chance.hit(0.7) ? 0.5 : 0,
    bandwidthBytesPerSecond: slow ? chance.int(20_000, 60_000) : undefined,
    publishEveryMs: faultsMs / segments,
    pointsPerAppendMax: chance.pick([3, 10, 25]),
    // A copy's epoch outranks the original's until that restarts: of what both delivered the copy's value stands.
    correctionShare: cloned ? 0 : sometimes(0.6, 0.01, 0.3),
    longTextShare: tight ? chance.between(0.3, 0.9) : 0.01,
    // The quarantine's samples have no place in a spool this small.
    poisonShare: tight ? 0 : sometimes(0.2, 0.002, 0.02),
    malformedShare: sometimes(0.3, 0.01, 0.1),
    // A wall clock that once ran far ahead is not believed again until that time has come.
    stampsOnArrival: !events.some(({ kind, draw }) => kind === 'wall-jump' && draw > 0.5),
    clockUnknownMs: copied ? 0 : sometimes(0.25, 1_000, faultsMs),
    network: {
      latencyMs: chance.between(1, 50),
      jitterMs: chance.between(0, 300),
      loseRequest: sometimes(0.4, 0.01, 0.2),
      loseAnswer: sometimes(0.5, 0.01, 0.3),
      duplicate: sometimes(0.4, 0.01, 0.2),
      refuse: sometimes(0.3, 0.01, 0.2),
      proxyBytesMax:
        !tight && chance.hit(0.15) ? chance.int(6_000, 20_000) : Number.POSITIVE_INFINITY,
    },
    regionNodes: chance.int(1, 2),
    regionCrashOneIn: chance.hit(0.3) ? chance.int(10, 100) : 0,
    failpointOneIn: chance.hit(0.4) ? chance.int(20, 200) : 0,
    lateFailover: chance.hit(0.15),
    events: events.filter(({ kind }) => !copied || kind !== 'wall-jump'),
  }
  // Of a copied spool, or of a stage whose raw points damage or a refusal took, nobody can say what it should give.
  const taken = plan.poisonShare > 0 || events.some(({ kind }) => kind === 'damage')
  const sound = !copied && !taken
  const drawn = chance.pick(['none', 'none', 'test', 'real'] as const)
  const stages = sound ? drawn : 'none'
  const lanes = { none: [], test: ['thin', 'windows'], real: ['thin', 'rollup'] }[stages]
  const reclass: PlannedEvent = {
    kind: 'reclass',
    atMs: chance.between(500, faultsMs),
    forMs: chance.between(100, 4_000),
    draw: 0,
  }
  const reclassed = stages === 'real' && chance.hit(0.3) ? [reclass] : []
  const stageFaults = stages === 'real' ? drawStageFaults(seed, faultsMs) : []
  // Drawn apart: the other seeds stay what they were.
  const apart = createChance(seed, 'copies')
  const copies = !cloned && apart.hit(0.3)
  const asked = Array.from({ length: copies ? apart.int(1, 5) : 0 }, () => ({
    kind: 'copy' as const,
    atMs: apart.between(1_000, faultsMs),
    forMs: 0,
    draw: apart.next(),
  }))
  const tailed = stageFaults.some(({ kind }) => kind === 'lost-tail')
  const more = tailed ? stageFaults : [...reclassed, ...stageFaults]
  const all: Plan = {
    ...plan,
    ...{ setups: [], stepPieces: 1 },
    ...(tailed ? { clockUnknownMs: 0 } : {}),
    syncFailOneIn: drawSyncFailures(seed),
    stages,
    // Stages commit more often: as often killed in a minute as other seeds are.
    failpointOneIn: plan.failpointOneIn * (stages === 'none' ? 1 : 3),
    classes: drawClasses(chance, lanes),
    lateShare: sometimes(0.7, 0.01, 0.2),
    derivedLanes: drawDerived(chance, tight, lanes),
    events: [
      ...plan.events.filter(({ kind }) => !tailed || kind !== 'wall-jump'),
      ...more,
      ...asked,
    ].sort((a, b) => a.atMs - b.atMs),
    copies,
    copyReadBytes: apart.pick([500, 3_000, 512 * 1024]),
    historian: !copied && chance.hit(0.2) && !tailed,
    historianTrouble: sometimes(0.7, 0.01, 0.2),
    // Long ones hold raw until the quota asks for it.
    windowUs: chance.pick([20_000, 1_000_000, 30_000_000]),
  }
  return sound && stages === 'none' && !tight ? withChanges(all) : all
}
const drawDerived = (
  chance: Chance,
  tight: boolean,
  names: readonly string[],
): Plan['derivedLanes'] =>
  names.map((name) => ({
    name,
    maxDelayMs: chance.pick([50, 200, 1_000]),
    segmentPointsMax: chance.pick([4, 40]),
    policy: tight && chance.hit(0.2) ? 'drop_oldest' : 'block',
    derived: true,
  }))

/** What the runs of many seeds add up to; a zero among them means the simulation no longer tests it. */
export const totalNames = [
  'segments',
  'points',
  'crashes',
  'powerCuts',
  'regionCrashes',
  'failovers',
  'restores',
  'rewinds',
  'gaps',
  'forgotten',
  'quotaHits',
  'quarantines',
  'epochs',
  'fenced',
  'portalAnswers',
  'duplicatesSent',
  'answersLost',
  'corrections',
  'untimed',
  'replays',
  'copied',
  'merges',
  'derived',
  'ticks',
  'windowsCut',
  'reclassed',
  'stageDamages',
  'lostTails',
  'syncFailures',
  'realWindows',
  'realRevs',
  'realPartial',
  'realLate',
  'realBounds',
  'realTicks',
  'ahead',
  'lostForOne',
  'historianRewinds',
  'changes',
  'changesKilled',
  'changedPoints',
  'changedWindows',
  'changedPartial',
] as const
export type Totals = Record<(typeof totalNames)[number], number>
export const noTotals = (): Totals =>
  Object.fromEntries(totalNames.map((name) => [name, 0])) as Totals
