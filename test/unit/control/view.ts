/** An agent's view made of constants, for tests of what lies between it and a person. */
import type { ExplainAnswer } from '../../../src/control/explained.ts'
import type { AgentStatus, AgentView, ReplayRequest } from '../../../src/control/view.ts'
import { Failure } from '../../../src/errors.ts'
import { quality } from '../../../src/model.ts'
import { verdict } from '../../../src/observability/health.ts'
import type { SpoolStats, TapPoint } from '../../../src/spool-port.ts'

export const nowUs = 1_795_219_200_000_000
export const spool: SpoolStats = {
  bytesUsed: 400e6,
  bytesMax: 10e9,
  diskFreeBytes: 50e9,
  commits: 10,
  commitMsP50: 3,
  commitMsP99: 12,
  bytesWritten: 1e9,
  seriesCount: 1_000,
  blockedReason: null,
  fillBytesPerSecond: 100_000,
  quarantined: 0,
  waitingForClock: 0,
}
export const status: AgentStatus = {
  version: '0.1.0',
  agent: 'gw-0042',
  epoch: 'e'.repeat(32),
  spoolId: 's'.repeat(32),
  nowUs,
  upForUs: 3_600_000_000,
  config: { file: '/etc/holdfast/holdfast.yaml', digest: 'ab'.repeat(32) },
  verdict: verdict({
    nowUs,
    upForUs: 3_600_000_000,
    spool,
    silentMs: 0,
    lanes: [],
    sources: [],
    destinations: [],
    clock: { trusted: true, offsetUs: 3_000 },
    certificates: [],
    lostLastHour: 0,
  }),
  clock: { trusted: true, offsetUs: 3_000 },
  replays: [],
  selections: [
    {
      ...{ id: 2, lane: 'raw', series: ['press/*'], fromUs: 0, toUs: 1_000_000, state: 'done' },
      ...{ seqFirst: 1, seqLast: 9, seqDone: 9, pointsCopied: 40, gone: [], text: '' },
    },
  ],
  spool,
  sources: [
    {
      name: 'press',
      type: 'mqtt',
      lane: 'raw',
      state: 'running',
      code: '',
      text: '',
      hint: '',
      sinceUs: nowUs - 60_000_000,
      points: 1_000,
      pointsPerSecond: 9_840,
      lastPointUs: nowUs - 1_000_000,
      pointsAhead: 0,
    },
  ],
  lanes: [
    {
      lane: 'raw',
      id: 1,
      head: 12,
      floor: 1,
      derived: false,
      accepted: 1_000,
      bytes: 4_000,
      readers: [
        {
          reader: 'north',
          cursor: { backlog: 9, live: null },
          stage: false,
          delivered: 900,
          reduced: 0,
          declaredLost: 4,
          pending: 96,
        },
      ],
    },
  ],
  destinations: [
    {
      name: 'north',
      type: 'relay',
      state: 'up',
      ...{ breaker: 'closed', failures: 0 },
      code: '',
      text: '',
      hint: '',
      sinceUs: nowUs - 60_000_000,
      lastAckUs: nowUs - 2_000_000,
      points: 900,
      pointsPerSecond: 9_800,
      pending: 96,
      oldestUnackedUs: nowUs - 3_000_000,
    },
  ],
}
export const tapped: readonly TapPoint[] = [
  { name: 'plant/a', tags: [['line', '3']], timeUs: nowUs + 7, value: 1.5, quality: quality.good },
  { name: 'plant/b', tags: [], timeUs: nowUs, value: 2n ** 53n + 1n, quality: quality.bad },
  { name: 'plant/a', tags: [], timeUs: nowUs, value: Number.NaN, quality: quality.uncertain },
]

export interface Recorded {
  readonly view: AgentView
  readonly replays: ReplayRequest[]
  readonly acts: string[]
  readonly listeners: Set<(points: readonly TapPoint[]) => void>
}
const explained: ExplainAnswer = {
  ...{ series: 'press.temperature', tags: { line: '2' }, unit: '°C', lane: 'raw' },
  sources: ['press'],
  classes: [{ class: 'heat', chosen: true, because: 'units: °C' }],
  rule: {
    ...{ method: 'deadband', lane: 'reduced', deviation: 0.5, interpolation: 'step' },
    ...{ intervalUs: null, minGapUs: null, heartbeatUs: 9e8, maxHoldUs: null },
  },
  windows: [{ everyUs: 6e7, statistics: ['mean'], latenessUs: 3e7, lane: 'windows' }],
  routes: [{ lane: 'reduced', holds: 'reduced', maxDelayMs: 1_000, destinations: ['north'] }],
  points: [
    {
      ...{ time: '2026-11-21T02:14:05.000000Z', timeUs: nowUs, kind: 'float', value: 71.3 },
      ...{ quality: 'good', seq: 4, state: 'sent', reason: 'beyond', text: '0.7 from the last' },
      destinations: [{ destination: 'north', state: 'pending' }],
      tooLateForUs: [],
    },
  ],
  gaps: [],
  notes: [],
}
export const createView = (answer: Partial<AgentView> = {}): Recorded => {
  const replays: ReplayRequest[] = []
  const acts: string[] = []
  const listeners: Recorded['listeners'] = new Set()
  const view: AgentView = {
    status: async () => status,
    lanes: async () => status.lanes,
    gaps: async (limit) =>
      [
        {
          lane: 'raw',
          destination: '',
          seq: 5,
          seqLast: 6,
          reason: 'quota' as const,
          count: 4,
          source: '',
          timeUsMin: nowUs - 9_000_000,
          timeUsMax: nowUs - 8_000_000,
        },
      ].slice(0, limit),
    quarantined: async () => [
      {
        id: 7,
        lane: 'raw',
        seq: 8,
        reason: 'malformed',
        source: 'press',
        text: 'not JSON',
        atUs: nowUs,
        sample: Buffer.from('{"a":\x1b[31m'),
        ...({ destination: '', why: '', points: 0 } as const),
      },
    ],
    refused: async (id) =>
      id === 9
        ? {
            ...{ id, lane: 'raw', seq: 4, reason: 'rejected', source: '', atUs: nowUs },
            ...{ text: 'field type conflict', sample: new Uint8Array(0) },
            ...{ destination: 'north', why: 'refused', points: tapped.length, refused: tapped },
          }
        : null,
    resend: async (id) => {
      acts.push(`resend ${id}`)
      if (id === 9 || id === 7) return { delivered: 3, refused: 0, text: '', hint: '' }
      return id === 10 ? { delivered: 1, refused: 2, text: 'still', hint: 'mend it' } : null
    },
    discard: async (id) => {
      acts.push(`discard ${id}`)
      return id === 7
    },
    metrics: async () => 'holdfast_spool_bytes 7\n',
    tap: (listener) => {
      listeners.add(listener)
      queueMicrotask(() => listener(tapped))
      return () => listeners.delete(listener)
    },
    replay: async (request) => {
      if (request.lane === 'none') throw new Failure('HF-F404', 'no lane "none"', 'lanes: raw')
      replays.push(request)
      const part = { segments: 3, points: 600, bytes: 900, seqFirst: 2, seqLast: 4, seconds: null }
      const rate = 'unknown' as const
      return {
        id: request.dryRun ? '' : 'r1',
        parts: [{ lane: 'raw', destination: 'north', ...part, rate }],
      }
    },
    explain: async (series) => {
      if (series === 'press.temperature') return explained
      throw new Failure('HF-X404', `there is no series "${series}"`, 'The nearest: press')
    },
    segments: async (lane, after) => {
      const item = { seq: after + 1, seqLast: after + 1, epoch: status.epoch, lost: 0 }
      return { head: 9, items: lane === 'raw' ? [{ ...item, bytes: Uint8Array.of(1, 2) }] : [] }
    },
    dictionary: async () => [],
    importBlock: async () => ({ taken: true, points: 0, lost: 0 }),
    cancelReplay: async (id) => id === 'r1',
    forget: async (destination) => ({ destination, points: 0 }),
    salvage: {
      upTo: async () => 0,
      take: async ({ upTo }) => {
        acts.push(`salvage ${upTo}`)
        return { points: 0, upTo }
      },
    },
    reload: async () => ({ changed: false, text: 'nothing changed' }),
    seal: async () => {
      acts.push('seal')
    },
    ...answer,
  }
  return { view, replays, acts, listeners }
}
