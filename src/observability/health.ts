/**
 * One verdict on an agent from what its parts report: its state, the one cause a person should look at, and how long
 * the link may stay away. Pure: no clock, no I/O.
 *
 * Invariants: the worst issue is the verdict; an effect never hides its cause (a full spool behind a dead link names
 * the link); the same inputs give the same verdict.
 */
import type { LaneStatus, SpoolStats } from '../spool-port.ts'

export interface SourceStatus {
  readonly name: string
  readonly type: string
  readonly lane: string
  readonly state: 'starting' | 'running' | 'restarting'
  /** Why it is not running, '' when it is. */
  readonly code: string
  readonly text: string
  readonly hint: string
  readonly sinceUs: number
  readonly points: number
  readonly pointsPerSecond: number
  /** 0 when none came yet. */
  readonly lastPointUs: number
  /** Marked: further ahead of the clock than `agent.max_ahead`. */
  readonly pointsAhead: number
}
export interface DestinationStatus {
  readonly name: string
  readonly type: string
  readonly state: 'connecting' | 'up' | 'retrying' | 'blocked'
  /** Open: it failed again and again and is left alone for a while; half open: one request tries whether it is well. */
  readonly breaker: 'closed' | 'open' | 'half_open'
  /** Setbacks since the last committed answer. */
  readonly failures: number
  readonly code: string
  readonly text: string
  readonly hint: string
  /** When `state` began. */
  readonly sinceUs: number
  /** 0 when it never acked in this run. */
  readonly lastAckUs: number
  readonly points: number
  readonly pointsPerSecond: number
  readonly pending: number
  /** Time of the oldest point not acked, 0 when none or unknown. */
  readonly oldestUnackedUs: number
}
export interface ClockStatus {
  readonly trusted: boolean
  /** Far side's clock minus ours, null while nobody told. */
  readonly offsetUs: number | null
}
export interface CertificateStatus {
  /** `relay north`, `http door`. */
  readonly use: string
  readonly endsUs: number
}
export interface SetAsideStatus {
  readonly file: string
  /** `suspect`: after crash upon crash; `damaged`: the database could not be read. */
  readonly kind: 'suspect' | 'damaged'
}
export interface LateStatus {
  readonly class: string
  /** Points around which a rule's line could not be mended. */
  readonly unmended: number
  /** Points too late for their windows. */
  readonly tooLate: number
}
export interface HealthInputs {
  readonly nowUs: number
  /** Since the agent began; troubles of the first seconds are "starting". */
  readonly upForUs: number
  /** Null while the spool does not answer, for `silentMs`. */
  readonly spool: SpoolStats | null
  readonly silentMs: number
  readonly lanes: readonly LaneStatus[]
  readonly sources: readonly SourceStatus[]
  readonly destinations: readonly DestinationStatus[]
  readonly clock: ClockStatus
  readonly certificates: readonly CertificateStatus[]
  /**
   * Points that became gap records in the last hour, for want of room or by damage; refused
   * messages do not count.
   */
  readonly lostLastHour: number
  /** What rules and windows could not keep in the last hour, by class. */
  readonly lateLastHour?: readonly LateStatus[]
  /** Spool files that were set aside and whose points nobody has rescued yet. */
  readonly setAside?: readonly SetAsideStatus[]
}
export interface Issue {
  readonly severity: 'unhealthy' | 'degraded' | 'note'
  readonly code: string
  readonly reason: string
  readonly fix: string
  /** What follows from it and is therefore no issue of its own. */
  readonly effects: readonly string[]
}
export interface Verdict extends Omit<Issue, 'severity'> {
  readonly state: 'ok' | 'degraded' | 'unhealthy'
  /** All issues, the worst first; the verdict is the first one that is not a note. */
  readonly issues: readonly Issue[]
  /** Room left ÷ rate of filling; null while nothing fills it. */
  readonly safeOfflineHours: number | null
}

export const spoolSilentMsMax = 2_000
const startingUs = 30_000_000
const nearlyFull = 0.8
const offlineHoursLow = 6
const certificateWarnUs = 14 * 86_400_000_000
const rank = { unhealthy: 0, degraded: 1, note: 2 } as const

const issue = (
  severity: Issue['severity'],
  code: string,
  reason: string,
  fix: string,
  effects: readonly string[] = [],
): Issue => ({ severity, code, reason, fix, effects })

export const safeOfflineHours = (spool: SpoolStats): number | null => {
  if (spool.fillBytesPerSecond <= 0) return null
  const room = Math.max(0, Math.min(spool.bytesMax - spool.bytesUsed, spool.diskFreeBytes))
  return room / spool.fillBytesPerSecond / 3_600
}

const ofSpool = (inputs: HealthInputs, linkDown: boolean): readonly Issue[] => {
  const { spool, silentMs } = inputs
  if (spool === null || silentMs > spoolSilentMsMax) {
    const text = `the spool has not answered for ${Math.round(silentMs / 1_000)} s`
    return [
      issue(
        'unhealthy',
        'HF-H001',
        text,
        'look at the disk: dmesg, smartctl; the agent restarts itself after 60 s',
      ),
    ]
  }
  const found: Issue[] = []
  if (spool.blockedReason !== null)
    found.push(
      issue(
        'unhealthy',
        'HF-H002',
        `intake waits: ${spool.blockedReason}`,
        'free disk space or raise spool.size_max',
        ['sources wait, nothing is lost at sources that can wait'],
      ),
    )
  if (inputs.lostLastHour > 0)
    found.push(
      issue(
        'unhealthy',
        'HF-H003',
        `${inputs.lostLastHour} points were lost in the last hour`,
        'see them with: holdfast gaps',
      ),
    )
  const hours = safeOfflineHours(spool)
  const used = spool.bytesMax > 0 ? spool.bytesUsed / spool.bytesMax : 0
  // A spool that holds what was sent for a while is meant to be full; only a link that is away makes it a worry.
  if (
    linkDown &&
    spool.blockedReason === null &&
    (used >= nearlyFull || (hours !== null && hours < offlineHoursLow))
  )
    found.push(
      issue(
        'degraded',
        'HF-H007',
        `the spool is ${Math.round(used * 100)} % full${hours === null ? '' : `, room for ${hours.toFixed(1)} h`}`,
        'bring the link back, or raise spool.size_max',
      ),
    )
  if (spool.quarantined > 0)
    found.push(
      issue(
        'note',
        'HF-H009',
        `${spool.quarantined} in quarantine`,
        'see them with: holdfast quarantine',
      ),
    )
  return found
}
const ofDestinations = (inputs: HealthInputs): readonly Issue[] =>
  inputs.destinations.flatMap((one) => {
    // What waits for an ack has waited since the last one, whenever somebody first looked.
    const waitingUs = Math.min(inputs.nowUs - one.lastAckUs, inputs.upForUs)
    const young =
      inputs.nowUs - one.sinceUs < startingUs && (one.pending === 0 || waitingUs < startingUs)
    // Only where nothing else says otherwise, or cannot say.
    const kept = inputs.spool !== null && inputs.lostLastHour === 0 ? ', nothing lost' : ''
    const effects = one.pending > 0 ? [`${one.pending} points wait for it${kept}`] : []
    if (one.state === 'blocked')
      return [
        issue('degraded', one.code || 'HF-H004', `${one.name}: ${one.text}`, one.hint, effects),
      ]
    if (one.state === 'up' || young) return []
    return [
      issue(
        'degraded',
        one.code || 'HF-H004',
        `${one.name} cannot be reached: ${one.text || 'no answer yet'}`,
        one.hint || 'it recovers by itself when the link is back',
        effects,
      ),
    ]
  })
/**
 * A destination that was removed or renamed still holds back what it was owed: that must not fill
 * the spool unseen.
 */
const ofOrphans = (inputs: HealthInputs): readonly Issue[] => {
  const configured = new Set(inputs.destinations.map((one) => one.name))
  const pending = new Map<string, number>()
  const readers = inputs.lanes.flatMap((lane) => lane.readers)
  for (const one of readers.filter(({ stage }) => !stage))
    if (!configured.has(one.reader))
      pending.set(one.reader, (pending.get(one.reader) ?? 0) + one.pending)
  return [...pending]
    .filter(([, points]) => points > 0)
    .map(([name, points]) =>
      issue(
        'degraded',
        'HF-H010',
        `${points} points are held for "${name}", which is no longer configured`,
        `configure it again, or let them go with: holdfast forget ${name}`,
      ),
    )
}
/** A defect: what it has not read waits, and holds its lane until the spool is full. */
const ofStages = (inputs: HealthInputs): readonly Issue[] =>
  inputs.lanes.flatMap(({ lane, readers }) =>
    readers.flatMap(({ reader, failed, pending }) =>
      failed === undefined
        ? []
        : [
            issue(
              'degraded',
              'HF-H013',
              `${reader.replace('@', '')} of lane "${lane}" failed and rest: ${failed}`,
              'restart the agent; should it come again, change its classes and report it: holdfast support-bundle',
              pending > 0 ? [`${pending} points wait for it, nothing lost`] : [],
            ),
          ],
    ),
  )
const ofSources = (inputs: HealthInputs): readonly Issue[] =>
  inputs.sources.flatMap((one) =>
    one.state === 'running' || inputs.nowUs - one.sinceUs < startingUs
      ? []
      : [
          issue(
            'degraded',
            one.code || 'HF-H005',
            `source ${one.name}: ${one.text || 'not running'}`,
            one.hint || 'it is tried again by itself',
          ),
        ],
  )
const ofClock = (inputs: HealthInputs): readonly Issue[] =>
  inputs.clock.trusted || inputs.upForUs < startingUs
    ? []
    : [
        issue(
          'degraded',
          'HF-H006',
          'the clock is not trusted: points wait for it',
          'set the time, or start a time service (chrony, systemd-timesyncd)',
        ),
      ]
const ofCertificates = (inputs: HealthInputs): readonly Issue[] =>
  inputs.certificates
    .filter(({ endsUs }) => endsUs - inputs.nowUs < certificateWarnUs)
    .map(({ use, endsUs }) => {
      const days = Math.floor((endsUs - inputs.nowUs) / 86_400_000_000)
      const text =
        days < 0
          ? `the certificate of ${use} has ended`
          : `the certificate of ${use} ends in ${days} days`
      return issue(
        'degraded',
        'HF-H008',
        text,
        'renew it; the new file is picked up without a restart',
      )
    })
/** Notes: nothing is lost, the points are in the raw lane. */
const ofLate = (inputs: HealthInputs): readonly Issue[] =>
  (inputs.lateLastHour ?? []).flatMap(({ class: name, unmended, tooLate }) => [
    ...(unmended === 0
      ? []
      : [
          issue(
            'note',
            'HF-H014',
            `class ${name}: around ${unmended} late points in the last hour the deviation may be exceeded`,
            'the log names series and time (late_points_unmended): holdfast replay --series sends the points around',
          ),
        ]),
    ...(tooLate === 0
      ? []
      : [
          issue(
            'note',
            'HF-H015',
            `class ${name}: ${tooLate} points came too late for their windows in the last hour`,
            'raise `lateness` of its windows, or find what holds these points back',
          ),
        ]),
  ])
/** What a damaged file held unsent is declared lost already; a suspected one may hold all of it. */
const ofSetAside = (inputs: HealthInputs): readonly Issue[] =>
  (inputs.setAside ?? []).map(({ file, kind }) => {
    const fix = `bring back what it holds with: holdfast spool salvage ${file}`
    return kind === 'suspect'
      ? issue(
          'degraded',
          'HF-H011',
          `the spool was set aside after five crashes in a minute: what it held is not sent (${file})`,
          `${fix}; and report the crash`,
        )
      : issue('note', 'HF-H012', `a damaged spool was set aside: ${file}`, fix)
  })

export const verdict = (inputs: HealthInputs): Verdict => {
  const links = ofDestinations(inputs)
  const spool = ofSpool(inputs, links.length > 0)
  const cause = links[0]
  const full = spool.find(({ code }) => code === 'HF-H002' || code === 'HF-H007')
  // A spool that fills behind a dead link is its effect: the link is what must be mended.
  const folded: readonly Issue[] =
    cause && full
      ? [
          {
            ...cause,
            severity: full.severity === 'unhealthy' ? 'unhealthy' : cause.severity,
            effects: [...cause.effects, full.reason],
          },
          ...links.slice(1),
          ...spool.filter((one) => one !== full),
        ]
      : [...spool, ...links]
  const issues = [
    ...folded,
    ...ofSetAside(inputs),
    ...ofOrphans(inputs),
    ...ofStages(inputs),
    ...ofSources(inputs),
    ...ofClock(inputs),
    ...ofCertificates(inputs),
    ...ofLate(inputs),
  ].sort((a, b) => rank[a.severity] - rank[b.severity])
  const hours = inputs.spool === null ? null : safeOfflineHours(inputs.spool)
  const away = inputs.destinations.filter(({ state }) => state !== 'up').map(({ name }) => name)
  const worst = issues[0]
  if (worst === undefined || worst.severity === 'note')
    return {
      state: 'ok',
      code: '',
      reason: away.length === 0 ? 'all is well' : `all is well; reaching ${away.join(', ')}`,
      fix: '',
      effects: [],
      issues,
      safeOfflineHours: hours,
    }
  const { severity, ...rest } = worst
  return { state: severity as 'degraded' | 'unhealthy', ...rest, issues, safeOfflineHours: hours }
}
