/**
 * What only a look at the whole agent can tell, told to the meter when somebody asks for the metrics.
 * Invariant: a counter never goes back: it takes the difference to the look before, and nothing
 * when that is negative.
 */
import type { Meter } from '../host.ts'
import { gapRowsMax } from '../limits.ts'
import type { DestinationStatus } from '../observability/health.ts'
import type { AgentView } from './view.ts'

type Labels = Readonly<Record<string, string>>
const healthNumber = { ok: 0, degraded: 1, unhealthy: 2 } as const

/** Longer sentences are cut: a label is no log. */
const sentenceMax = 300
/** Numbers in it (how long ago, which request) make no other sentence. */
const alike = ({ code, text }: DestinationStatus) => code + text.replace(/\d+/g, '#')

/** Tells which destinations wait for a person, each with its sentence as it was first said. */
const createBlocked = (meter: Meter) => {
  const known = new Map<string, { readonly alike: string; readonly labels: Labels }>()
  return (one: DestinationStatus): void => {
    const before = known.get(one.name)
    const now = one.state === 'blocked' ? alike(one) : undefined
    if (before?.alike === now) return
    if (before !== undefined) meter.gauge('holdfast_destination_blocked', 0, before.labels)
    known.delete(one.name)
    if (now === undefined) return
    const [reason, remedy] = [one.text.slice(0, sentenceMax), one.hint.slice(0, sentenceMax)]
    const labels = { destination: one.name, code: one.code, reason, remedy }
    known.set(one.name, { alike: now, labels })
    meter.gauge('holdfast_destination_blocked', 1, labels)
  }
}

export const createGauges = (meter: Meter): ((view: AgentView) => Promise<void>) => {
  const blocked = createBlocked(meter)
  const seen = new Map<string, number>()
  const countTo = (name: string, total: number, labels: Labels = {}) => {
    const key = JSON.stringify([name, labels])
    const before = seen.get(key) ?? 0
    if (total <= before) return
    seen.set(key, total)
    meter.count(name, total - before, labels)
  }
  return async (view) => {
    const status = await view.status()
    const { verdict, spool, destinations, lanes } = status
    // Status answers also when the spool does not; asking the spool for more would then wait for it.
    const gaps = spool === null ? [] : await view.gaps(gapRowsMax)
    meter.gauge('holdfast_health', healthNumber[verdict.state])
    if (spool !== null) {
      // Nothing fills it: for ever, not what was true when something did.
      const hours = verdict.safeOfflineHours ?? Number.POSITIVE_INFINITY
      meter.gauge('holdfast_safe_offline_seconds', hours * 3_600)
      meter.gauge('holdfast_series', spool.seriesCount)
      meter.gauge('holdfast_spool_bytes', spool.bytesUsed)
      meter.gauge('holdfast_spool_limit_bytes', spool.bytesMax)
      meter.gauge('holdfast_spool_disk_free_bytes', spool.diskFreeBytes)
      meter.gauge('holdfast_spool_fill_bytes_per_second', spool.fillBytesPerSecond)
      meter.gauge('holdfast_spool_blocked', spool.blockedReason === null ? 0 : 1)
      meter.gauge('holdfast_spool_waiting_for_clock', spool.waitingForClock)
      meter.gauge('holdfast_spool_quarantined', spool.quarantined)
      countTo('holdfast_spool_commits_total', spool.commits)
      countTo('holdfast_spool_bytes_written_total', spool.bytesWritten)
      const quantile = (name: string, ms: number) =>
        meter.gauge('holdfast_commit_duration_seconds', ms / 1_000, { quantile: name })
      quantile('0.5', spool.commitMsP50)
      quantile('0.99', spool.commitMsP99)
    }
    for (const { lane, readers } of lanes)
      for (const { reader, failed } of readers.filter((one) => one.stage))
        meter.gauge('holdfast_stage_failed', failed === undefined ? 0 : 1, { lane, reader })
    for (const one of destinations) {
      const { name, oldestUnackedUs } = one
      blocked(one)
      const labels = { destination: name }
      // Prometheus reads "nothing waits" best as "now".
      const oldestUs = oldestUnackedUs === 0 ? status.nowUs : oldestUnackedUs
      meter.gauge('holdfast_spool_oldest_unacked_timestamp_seconds', oldestUs / 1e6, labels)
    }
    for (const one of status.lanes.flatMap(({ readers }) => readers)) {
      for (const { class: name, lane, late, lateUnmended, withheld, tooLate } of one.classes ??
        []) {
        countTo('holdfast_points_late_total', late, { class: name })
        countTo('holdfast_points_late_unmended_total', lateUnmended, { class: name })
        countTo('holdfast_points_withheld_total', withheld, { class: name })
        countTo('holdfast_points_too_late_total', tooLate, { class: name, lane })
      }
    }
    const lost = new Map<string, { labels: Labels; count: number }>()
    for (const { lane, destination, reason, count } of gaps) {
      const labels = { lane, reason, ...(destination === '' ? {} : { destination }) }
      const key = JSON.stringify(labels)
      lost.set(key, { labels, count: count + (lost.get(key)?.count ?? 0) })
    }
    for (const { labels, count } of lost.values())
      countTo('holdfast_points_lost_total', count, labels)
  }
}
