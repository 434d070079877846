/**
 * The closed table of everything Holdfast counts: name, kind, help, labels. A name that is not here
 * cannot be counted.
 * Base units, `_total` for counters; labels are names from the configuration or closed lists, never a series.
 */

export interface MeterDeclaration {
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
  /** Of a histogram: upper bounds in the meter's unit. */
  readonly buckets?: readonly number[]
}
const counter = (help: string, ...labels: string[]): MeterDeclaration => ({
  kind: 'counter',
  help,
  labels,
})
const gauge = (help: string, ...labels: string[]): MeterDeclaration => ({
  kind: 'gauge',
  help,
  labels,
})
const seconds = (help: string, ...labels: string[]): MeterDeclaration => ({
  kind: 'histogram',
  help,
  labels,
  buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
})

export const meters: Readonly<Record<string, MeterDeclaration>> = {
  holdfast_build_info: gauge('Always 1; says what runs.', 'version', 'node', 'role'),
  holdfast_meter_errors_total: counter(
    'Counts that were refused: undeclared name or label. A bug.',
  ),
  holdfast_health: gauge('Verdict: 0 ok, 1 degraded, 2 unhealthy.'),
  holdfast_safe_offline_seconds: gauge(
    'How long the link may stay away before the spool is full; +Inf while nothing fills it.',
  ),
  holdfast_clock_trusted: gauge('1 while the wall clock is trusted.'),
  holdfast_clock_offset_seconds: gauge("Far side's clock minus this one, as last measured."),
  holdfast_certificate_expiry_timestamp_seconds: gauge(
    'When a certificate in use ends, seconds since 1970.',
    'use',
  ),

  holdfast_points_received_total: counter('Points accepted: durable in the spool.', 'source'),
  holdfast_messages_received_total: counter('Messages or requests taken in.', 'source'),
  holdfast_bytes_received_total: counter('Bytes of messages or requests taken in.', 'source'),
  holdfast_messages_refused_total: counter(
    'Messages or requests not taken in, by reason.',
    'source',
    'reason',
  ),
  holdfast_points_refused_total: counter('Points a door refused, by reason.', 'source', 'reason'),
  holdfast_points_ahead_total: counter(
    'Points marked because their time is further ahead of the clock than agent.max_ahead.',
    'source',
  ),
  holdfast_source_up: gauge('1 while the source is connected or listening.', 'source'),
  holdfast_source_restarts_total: counter('Starts of a source after a failure.', 'source'),
  holdfast_source_last_point_timestamp_seconds: gauge('Arrival of the latest point.', 'source'),
  holdfast_series: gauge('Series known to this process.'),

  holdfast_spool_bytes: gauge('Bytes of the spool in use.'),
  holdfast_spool_limit_bytes: gauge('Quota of the spool.'),
  holdfast_spool_disk_free_bytes: gauge('Free bytes of the disk that holds the spool.'),
  holdfast_spool_fill_bytes_per_second: gauge('Rate at which unsent data fill the spool.'),
  holdfast_spool_oldest_unacked_timestamp_seconds: gauge(
    'Time of the oldest point not yet acked.',
    'destination',
  ),
  holdfast_spool_blocked: gauge('1 while intake waits for room or for the disk.'),
  holdfast_spool_bytes_written_total: counter('Bytes written to disk by the spool.'),
  holdfast_spool_commits_total: counter('Durable commits.'),
  holdfast_spool_waiting_for_clock: gauge('Points that wait for a trusted clock.'),
  holdfast_spool_quarantined: gauge('Rows in the quarantine.'),
  holdfast_commit_duration_seconds: gauge(
    'One flush of the spool, over the last commits: 0.5 and 0.99 quantile.',
    'quantile',
  ),
  holdfast_stage_failed: gauge(
    '1 while rules or windows of a lane rest after a defect.',
    'lane',
    'reader',
  ),
  holdfast_points_pending: gauge('Points accepted and not yet acked.', 'lane', 'destination'),
  holdfast_points_lost_total: counter(
    'Declared lost by gap records: points, or messages where malformed. With a destination: lost for it alone.',
    'lane',
    'reason',
    'destination',
  ),

  holdfast_points_late_total: counter(
    'Points behind a later one of their series that a rule took in.',
    'class',
  ),
  holdfast_points_late_unmended_total: counter(
    'Late points around which the line could not be mended: there the deviation may be exceeded.',
    'class',
  ),
  holdfast_points_withheld_total: counter(
    'Points that min_gap held back though the rule wanted them.',
    'class',
  ),
  holdfast_points_too_late_total: counter(
    'Points in no window of a length, by lane of the windows: they came after its lateness.',
    'class',
    'lane',
  ),

  holdfast_points_acked_total: counter('Points acked by the far side.', 'destination'),
  holdfast_segments_acked_total: counter('Segments acked by the far side.', 'destination'),
  holdfast_destination_up: gauge('1 when the last exchange succeeded.', 'destination'),
  holdfast_destination_breaker: gauge(
    'Circuit breaker: 0 closed, 1 half open (a probe is out), 2 open (waits).',
    'destination',
  ),
  holdfast_destination_blocked: gauge(
    '1 while it waits for a person; says why, and what to do.',
    'destination',
    'code',
    'reason',
    'remedy',
  ),
  holdfast_destination_bytes_sent_total: counter(
    'Bytes handed to its sockets, whatever became of them (file: bytes written).',
    'destination',
  ),
  holdfast_destination_sends_total: counter('Sends by outcome.', 'destination', 'outcome'),
  holdfast_destination_send_duration_seconds: seconds('One send and its answer.', 'destination'),
  holdfast_destination_last_ack_timestamp_seconds: gauge('When it last acked.', 'destination'),
  holdfast_destination_points_left_out_total: counter(
    'Points the far side cannot hold.',
    'destination',
    'reason',
  ),
  holdfast_destination_rewinds_total: counter('Times the far side forgot.', 'destination'),

  holdfast_regional_requests_total: counter('Requests by route and answer.', 'route', 'status'),
  holdfast_regional_bytes_received_total: counter('Bytes of request bodies.'),
  holdfast_regional_points_committed_total: counter('Points committed to the database.'),
  holdfast_regional_segments_total: counter('Segments by effect.', 'status'),
  holdfast_regional_points_lost_total: counter('Points declared lost by agents.', 'reason'),
  holdfast_regional_commit_duration_seconds: seconds('One database transaction.'),
  holdfast_regional_requests_in_flight: gauge('Requests being worked on.'),
  holdfast_regional_agents: gauge('Agents heard in the last ten minutes.'),
  holdfast_regional_fenced: gauge('Epochs fenced as clones.'),
  holdfast_regional_database_up: gauge('1 while the database answers.'),
}
