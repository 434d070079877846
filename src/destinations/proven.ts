/**
 * What each destination has been run against: a row per system that a configuration can name, with the real version and
 * the test that proved it. Changed by hand, after such a run (`npm run test:real` says which row it lifts).
 *
 * Invariant: `unproven` until a real server of that system has passed the contract.
 */
export interface Proof {
  readonly type: string
  /** As people know it; with the dialect where the configuration names one. */
  readonly system: string
  readonly dialect: string | null
  /** null: no real one has been in the tests. */
  readonly version: string | null
  /** Test files that met it. */
  readonly tests: readonly string[]
}
const contract = (name: string) => `test/contract/destination-${name}.test.ts`

export const proofs: readonly Proof[] = [
  {
    type: 'relay',
    system: 'a Holdfast regional node',
    dialect: null,
    version: 'this version',
    tests: [contract('relay'), 'test/promises/2-then-it-arrives.test.ts'],
  },
  {
    type: 'postgres',
    system: 'PostgreSQL',
    dialect: null,
    version: '15',
    tests: [
      contract('postgres'),
      'test/contract/postgres-agent.test.ts',
      'test/fault/patroni.test.ts',
    ],
  },
  { type: 'postgres', system: 'TimescaleDB', dialect: null, version: null, tests: [] },
  {
    type: 'influx',
    system: 'InfluxDB 1',
    dialect: 'influxdb1',
    version: '1.6.7',
    tests: [contract('influx'), 'test/contract/influx-agent.test.ts'],
  },
  // Built from its source: the tests meet it where HOLDFAST_TEST_INFLUXD2 names its program (docs/RELEASE-TESTS.md).
  {
    type: 'influx',
    system: 'InfluxDB 2',
    dialect: 'influxdb2',
    version: '2.9.1',
    tests: ['test/real/run.ts', 'test/contract/influx-agent.test.ts'],
  },
  { type: 'influx', system: 'InfluxDB 3', dialect: 'influxdb3', version: null, tests: [] },
  {
    type: 'influx',
    system: 'VictoriaMetrics',
    dialect: 'victoriametrics',
    version: '1.79.5',
    tests: [contract('victoria'), 'test/contract/influx-agent.test.ts'],
  },
  {
    type: 'influx',
    system: 'QuestDB',
    dialect: 'questdb',
    version: '9.3.4',
    tests: [contract('questdb'), 'test/contract/influx-agent.test.ts'],
  },
  { type: 'influx', system: 'GreptimeDB', dialect: 'greptimedb', version: null, tests: [] },
  {
    type: 'influx',
    system: 'TDengine (taosAdapter)',
    dialect: 'tdengine',
    version: null,
    tests: [],
  },
  {
    type: 'prometheus',
    system: 'Prometheus (remote write 1.0)',
    dialect: null,
    version: '2.42.0',
    tests: [contract('prometheus'), 'test/contract/prometheus-agent.test.ts'],
  },
  {
    type: 'file',
    system: 'files to carry',
    dialect: null,
    version: 'this version',
    tests: [contract('file'), 'test/contract/file-agent.test.ts', 'test/fault/file-disk.test.ts'],
  },
]
/** Of a configured destination. */
export const proofOf = (type: string, settings: unknown): Proof | undefined => {
  const { dialect } = settings as { readonly dialect?: unknown }
  return proofs.find((one) => one.type === type && (one.dialect ?? dialect) === dialect)
}
