/** The Grafana dashboard that looks at one agent: is it well, what comes in, the spool, what goes out, the machine. */
import { eventLoopLookMs } from '../src/observability/metrics.ts'
import { dashboard, graph, stat, states, variable, verdictWords } from './dashboard-layout.ts'

const one = '{instance="$instance"}'
export const gateway = dashboard(
  'holdfast-gateway',
  'Holdfast: one gateway',
  [variable('instance', 'label_values(holdfast_build_info{role="agent"}, instance)', false)],
  [
    [
      'Is it well?',
      4,
      [
        stat('Verdict', 'short', `holdfast_health${one}`, {
          words: verdictWords,
          about: 'The agent’s own. Why: `holdfast status` on the gateway.',
        }),
        stat('Safe offline', 's', `holdfast_safe_offline_seconds${one}`, {
          limits: [86_400, 21_600],
          about: 'Room left over the rate at which unsent points fill it.',
        }),
        stat('Points waiting', 'short', `sum(holdfast_points_pending${one})`),
        stat(
          'Points lost in this time',
          'short',
          `sum(increase(holdfast_points_lost_total${one}[$__range]))`,
          {
            limits: [1, 1.5],
          },
        ),
        stat(
          'Oldest waiting',
          's',
          `time() - min(holdfast_spool_oldest_unacked_timestamp_seconds${one})`,
          {
            limits: [300, 3_600],
          },
        ),
        stat('Up for', 's', `time() - process_start_time_seconds${one}`),
      ],
    ],
    [
      'In',
      8,
      [
        graph(
          'Points taken in',
          'cps',
          [
            [
              `sum by (source) (rate(holdfast_points_received_total${one}[$__rate_interval]))`,
              '{{source}}',
            ],
          ],
          'Durable in the spool.',
        ),
        graph('Refused', 'cps', [
          [
            `sum by (source, reason) (rate(holdfast_messages_refused_total${one}[$__rate_interval]))`,
            'messages {{source}} {{reason}}',
          ],
          [
            `sum by (source, reason) (rate(holdfast_points_refused_total${one}[$__rate_interval]))`,
            'points {{source}} {{reason}}',
          ],
        ]),
        states('Sources', `holdfast_source_up${one}`, '{{source}}'),
        graph('Messages', 'cps', [
          [
            `sum by (source) (rate(holdfast_messages_received_total${one}[$__rate_interval]))`,
            '{{source}}',
          ],
        ]),
        graph('Since the last point', 's', [
          [`time() - holdfast_source_last_point_timestamp_seconds${one}`, '{{source}}'],
        ]),
        graph('Series, quarantine', 'short', [
          [`holdfast_series${one}`, 'series'],
          [`holdfast_spool_quarantined${one}`, 'quarantined'],
        ]),
      ],
    ],
    [
      'Spool',
      8,
      [
        graph(
          'Room',
          'bytes',
          [
            [`holdfast_spool_bytes${one}`, 'in use'],
            [`holdfast_spool_limit_bytes${one}`, 'quota'],
            [`holdfast_spool_disk_free_bytes${one}`, 'free on the disk'],
          ],
          'Sent points stay a while (keep_sent): in use is not waiting.',
        ),
        graph('A flush takes', 's', [
          [`holdfast_commit_duration_seconds${one}`, 'quantile {{quantile}}'],
        ]),
        graph('Written to the disk', 'Bps', [
          [`rate(holdfast_spool_bytes_written_total${one}[$__rate_interval])`, 'written'],
          [`holdfast_spool_fill_bytes_per_second${one}`, 'filled by unsent points'],
        ]),
      ],
    ],
    [
      'Out',
      8,
      [
        graph('Points acked', 'cps', [
          [
            `sum by (destination) (rate(holdfast_points_acked_total${one}[$__rate_interval]))`,
            '{{destination}}',
          ],
        ]),
        graph('Points waiting', 'short', [
          [`holdfast_points_pending${one}`, '{{destination}} {{lane}}'],
        ]),
        states('Destinations', `holdfast_destination_up${one}`, '{{destination}}'),
        graph('A send takes', 's', [
          [
            `histogram_quantile(0.5, sum by (destination, le) (rate(holdfast_destination_send_duration_seconds_bucket${one}[$__rate_interval])))`,
            '{{destination}} half',
          ],
          [
            `histogram_quantile(0.99, sum by (destination, le) (rate(holdfast_destination_send_duration_seconds_bucket${one}[$__rate_interval])))`,
            '{{destination}} 99 %',
          ],
        ]),
        graph('Sends', 'cps', [
          [
            `sum by (destination, outcome) (rate(holdfast_destination_sends_total${one}[$__rate_interval]))`,
            '{{destination}} {{outcome}}',
          ],
        ]),
        graph('Sent', 'Bps', [
          [
            `sum by (destination) (rate(holdfast_destination_bytes_sent_total${one}[$__rate_interval]))`,
            '{{destination}}',
          ],
        ]),
      ],
    ],
    [
      'Machine',
      8,
      [
        graph('CPU', 'percentunit', [
          [`rate(process_cpu_seconds_total${one}[$__rate_interval])`, 'cores'],
        ]),
        graph('Memory', 'bytes', [[`process_resident_memory_bytes${one}`, 'resident']]),
        graph('Event loop late by', 's', [
          [`nodejs_eventloop_lag_p99_seconds${one} - ${eventLoopLookMs / 1_000}`, '99 %'],
        ]),
        graph('Clock: far side minus ours', 's', [
          [`holdfast_clock_offset_seconds${one}`, 'offset'],
        ]),
        graph('Certificates end in', 's', [
          [`holdfast_certificate_expiry_timestamp_seconds${one} - time()`, '{{use}}'],
        ]),
        graph(
          'Points lost',
          'short',
          [[`sum by (lane, reason) (holdfast_points_lost_total${one})`, '{{lane}} {{reason}}']],
          'By gap records; what was malformed counts messages.',
        ),
      ],
    ],
  ],
)
