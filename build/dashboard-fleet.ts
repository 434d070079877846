/** The Grafana dashboard that looks at the regional nodes and at all agents Prometheus reaches. */
import { dashboard, graph, type Picture, stat, upWords, variable } from './dashboard-layout.ts'

const some = '{job=~"$job", instance=~"$instance"}'
const also = (more: string) => `{job=~"$job", instance=~"$instance", ${more}}`
const worst = (
  title: string,
  unit: string,
  query: string,
  limits?: readonly [number, number],
): Picture => ({
  type: 'bargauge',
  title,
  width: 8,
  unit,
  queries: [[query, '{{instance}}']],
  ...(limits === undefined ? {} : { limits }),
})
export const fleet = dashboard(
  'holdfast-fleet',
  'Holdfast: the fleet',
  [
    variable('job', 'label_values(holdfast_build_info{role="regional"}, job)', true),
    variable(
      'instance',
      'label_values(holdfast_build_info{role="regional", job=~"$job"}, instance)',
      true,
    ),
  ],
  [
    [
      'The region',
      4,
      [
        stat('Agents heard in ten minutes', 'short', `max(holdfast_regional_agents${some})`),
        stat('Database', 'short', `min(holdfast_regional_database_up${some})`, { words: upWords }),
        stat('Fenced copies', 'short', `max(holdfast_regional_fenced${some})`, { limits: [1, 2] }),
        stat(
          'Points committed',
          'cps',
          `sum(rate(holdfast_regional_points_committed_total${some}[$__rate_interval]))`,
        ),
        stat(
          'Points lost in this time',
          'short',
          `sum(increase(holdfast_regional_points_lost_total${some}[$__range]))`,
          { limits: [1, 1.5] },
        ),
        stat(
          'First certificate ends in',
          's',
          `min(holdfast_certificate_expiry_timestamp_seconds${some}) - time()`,
          { limits: [1_209_600, 172_800] },
        ),
      ],
    ],
    [
      'Its work',
      8,
      [
        graph('Points committed', 'cps', [
          [
            `sum by (instance) (rate(holdfast_regional_points_committed_total${some}[$__rate_interval]))`,
            '{{instance}}',
          ],
        ]),
        graph(
          'Requests by answer',
          'reqps',
          [
            [
              `sum by (status) (rate(holdfast_regional_requests_total${some}[$__rate_interval]))`,
              '{{status}}',
            ],
          ],
          '429 sends an agent away for a while; it keeps its points.',
        ),
        graph('A commit takes', 's', [
          [
            `histogram_quantile(0.5, sum by (le) (rate(holdfast_regional_commit_duration_seconds_bucket${some}[$__rate_interval])))`,
            'half',
          ],
          [
            `histogram_quantile(0.99, sum by (le) (rate(holdfast_regional_commit_duration_seconds_bucket${some}[$__rate_interval])))`,
            '99 %',
          ],
        ]),
        graph(
          'Segments by effect',
          'cps',
          [
            [
              `sum by (status) (rate(holdfast_regional_segments_total${some}[$__rate_interval]))`,
              '{{status}}',
            ],
          ],
          'A segment that came again is recognised and changes nothing.',
        ),
        graph('Received', 'Bps', [
          [
            `sum by (instance) (rate(holdfast_regional_bytes_received_total${some}[$__rate_interval]))`,
            '{{instance}}',
          ],
        ]),
        graph('Requests being worked on', 'short', [
          [`holdfast_regional_requests_in_flight${some}`, '{{instance}}'],
        ]),
        graph('Agents heard', 'short', [
          [`max by (job) (holdfast_regional_agents${some})`, '{{job}}'],
        ]),
        graph('Points lost, by reason', 'short', [
          [
            `sum by (reason) (increase(holdfast_regional_points_lost_total${some}[$__rate_interval]))`,
            '{{reason}}',
          ],
        ]),
        graph('Hello and series', 'reqps', [
          [
            `sum by (route) (rate(holdfast_regional_requests_total${also('route!="segments"')}[$__rate_interval]))`,
            '{{route}}',
          ],
        ]),
      ],
    ],
    [
      'Gateways that Prometheus reaches',
      8,
      [
        stat('Verdicts', 'short', '', {
          width: 8,
          queries: [
            ['count(holdfast_health == 0) or vector(0)', 'ok'],
            ['count(holdfast_health == 1) or vector(0)', 'degraded'],
            ['count(holdfast_health == 2) or vector(0)', 'unhealthy'],
          ],
        }),
        worst(
          'Most points waiting',
          'short',
          'topk(10, sum by (instance) (holdfast_points_pending))',
        ),
        worst(
          'Least time until full',
          's',
          'bottomk(10, holdfast_safe_offline_seconds < 604800)',
          [86_400, 21_600],
        ),
        worst(
          'Oldest waiting',
          's',
          'topk(10, time() - min by (instance) (holdfast_spool_oldest_unacked_timestamp_seconds))',
          [300, 3_600],
        ),
        graph(
          'Not well',
          'short',
          [['holdfast_health > 0', '{{instance}}']],
          '1 degraded, 2 unhealthy.',
        ),
        graph('Versions', 'short', [
          ['count by (version, role) (holdfast_build_info)', '{{role}} {{version}}'],
        ]),
      ],
    ],
  ],
)
