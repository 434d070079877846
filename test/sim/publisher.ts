/**
 * Those who send points, and the journal they keep of what was acked: the only word on *accepted* that the checker takes.
 *
 * Points get times of the publisher's own, strictly increasing a series, whatever the machine's clock says; while that is
 * not trusted, points of `untimed/…` series are stamped by the agent, and their value, a counter, names them instead.
 */
import { createBatchBuilder } from '../../src/batch.ts'
import { because, type Intake, type Kind, kinds, quality } from '../../src/model.ts'
import type { JournalPoint } from '../../src/verify/checker.ts'
import type { AgentProcess } from './agent.ts'
import type { VirtualTime } from './clock.ts'
import type { Plan, Totals } from './plan.ts'
import type { Chance } from './random.ts'

export interface Publisher {
  readonly start: (agent: AgentProcess) => void
  /** The agent died: nothing that is out will be answered; some of it is sent again to the next. */
  readonly forsaken: () => void
  readonly stop: () => void
  readonly outstanding: () => number
  readonly journal: () => readonly JournalPoint[]
  readonly losses: () => { readonly acked: number; readonly unsure: number }
  /** In the order in which they were sent. */
  readonly attempts: () => readonly Attempted[]
  /** Everything acked from here on may be undone (a backup will be restored over it). */
  readonly mark: () => () => void
  /** The spool is copied: what it has not delivered yet may be delivered by both copies, under two names. */
  readonly twins: () => void
}
/** What was sent at once, and how many changes of the configuration there had been. */
export interface Attempted {
  readonly era: number
  readonly points: readonly JournalPoint[]
  readonly state: 'out' | 'acked' | 'unsure'
}
interface Attempt extends Attempted {
  readonly lane: string
  readonly points: Mutable[]
  /** The same points once more, where the spool that held them was copied. */
  readonly twins: JournalPoint[]
  malformed: number
  readonly monotonic: boolean
  state: 'out' | 'acked' | 'unsure'
  sentAgain: boolean
}
type Mutable = { -readonly [Key in keyof JournalPoint]: JournalPoint[Key] }

export const untimed = (name: string): boolean => name.startsWith('untimed/')
const seriesCount = 6
const outstandingMax = 12
/** Attempts whose points may still be pending when a copy is taken. */
const twinsMax = 200
export const baseUs = 1_760_000_000_000_000
const words = new DataView(new ArrayBuffer(8))
const oddFloats = [
  0x7ff8_0000_dead_beefn,
  0x8000_0000_0000_0000n,
  0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0001n,
  0x0000_0000_0000_0001n,
  0x4340_0000_0000_0001n,
]

export const createPublisher = (
  plan: Plan,
  time: VirtualTime,
  chance: Chance,
  totals: Totals,
  onBug: (text: string) => void,
): Publisher => {
  const attempts: Attempt[] = []
  let agent: AgentProcess | undefined
  let stopped = false
  let out = 0
  let counter = 0
  let lastUs = baseUs
  let lastStampUs = 0
  let aheadUs = baseUs + 1e13

  const bitsFor = (kind: Kind): bigint => {
    if (kind === kinds.bool) return BigInt(chance.int(0, 1))
    if (kind === kinds.int) {
      words.setUint32(0, chance.int(0, 0xffffffff))
      words.setUint32(4, chance.int(0, 0xffffffff))
      return words.getBigUint64(0) >> BigInt(chance.pick([0, 16, 48]))
    }
    if (chance.hit(0.1)) return chance.pick(oddFloats)
    words.setFloat64(0, Math.round(chance.between(-1e4, 1e4)) / 100)
    return words.getBigUint64(0)
  }
  const textFor = (): string => {
    if (chance.hit(plan.poisonShare)) return `poison\0${chance.int(0, 9)}`
    const length = chance.hit(plan.longTextShare) ? chance.int(500, 4_000) : chance.int(0, 12)
    // Letters without a pattern: compression must not make the quota a matter of luck.
    return Buffer.from(chance.bytes(length)).toString('latin1').replaceAll('\0', '~')
  }
  /** Of a seed with rules and windows: signals such as plants have, one a series; the last is bulk, for the quota. */
  const levels = [0, 0, 0]
  const signal = (number: number): Pick<Mutable, 'kind' | 'bits' | 'text'> => {
    const level = (at: number, by: number) => (levels[at] = (levels[at] as number) + by)
    const float = (value: number) => {
      words.setFloat64(0, value)
      return { kind: kinds.float, bits: words.getBigUint64(0), text: null }
    }
    const odd = chance.hit(0.03)
    if (number <= 2 && odd) return { kind: kinds.float, bits: chance.pick(oddFloats), text: null }
    if (number === 1) return float(Math.round(level(0, chance.between(-1, 1)) * 10) / 10)
    if (number === 2) return float(level(1, 0.3) + chance.between(-0.2, 0.2))
    if (number === 3) {
      const value = level(2, odd ? -(levels[2] as number) : chance.int(0, 40))
      return { kind: kinds.int, bits: BigInt(value), text: null }
    }
    if (number === 4) return { kind: kinds.bool, bits: BigInt(chance.int(0, 1)), text: null }
    const kind = number === 6 ? chance.pick([0, 0, 0, 1, 2, 3] as const) : kinds.string
    if (kind !== kinds.string) return { kind, bits: bitsFor(kind), text: null }
    const text = number === 5 ? chance.pick(['run', 'stop', 'idle', '']) : textFor()
    return { kind, bits: 0n, text }
  }
  const drawSignal = (lane: string): Mutable => {
    lastUs += chance.hit(0.003) ? chance.int(21, 90) * 1_000_000 : chance.int(1, 100_000)
    const recent = attempts.slice(-4)
    const known = recent.length > 0 && chance.hit(plan.correctionShare)
    const old = known ? chance.pick(chance.pick(recent).points) : undefined
    const corrects = old !== undefined && !untimed(old.series) && old.series.startsWith(lane)
    if (corrects) totals.corrections++
    const number = corrects ? Number(old.series.slice(lane.length + 1)) : chance.int(1, 7)
    // As the intake marks a time that no clock can have shown.
    if (!corrects && chance.hit(0.01)) {
      aheadUs += chance.int(1, 1_000_000)
      totals.ahead++
      const point = { series: `${lane}/${number}`, timeUs: aheadUs, ...signal(number) }
      return { ...point, quality: quality.uncertain | because.ahead, acked: false }
    }
    const lateUs = chance.hit(plan.lateShare) ? chance.int(1, 12_000_000) : 0
    return {
      series: `${lane}/${number}`,
      timeUs: corrects ? old.timeUs : lastUs - lateUs,
      ...signal(number),
      quality: chance.hit(0.9) ? 0 : chance.pick([1, 2, 6, 17]),
      acked: false,
    }
  }
  /** Of a seed whose configuration changes: in order, so that each point is owed what the classes of its time say. */
  const drawSteady = (lane: string): Mutable => {
    lastUs += chance.hit(0.05) ? chance.int(1, 4) * 1_000_000 : chance.int(1, 100_000)
    const number = chance.int(1, levels.length)
    const level = (levels[number - 1] as number) + Math.round(chance.between(-20, 20)) / 10
    levels[number - 1] = level
    words.setFloat64(0, level)
    const value = { kind: kinds.float, bits: words.getBigUint64(0), text: null }
    return { series: `${lane}/${number}`, timeUs: lastUs, ...value, quality: 0, acked: false }
  }
  const drawPoint = (lane: string): Mutable => {
    if (plan.stages === 'real') return drawSignal(lane)
    if (plan.stages === 'changing') return drawSteady(lane)
    const kind = chance.pick([0, 0, 0, 1, 2, 3] as const)
    const known = attempts.length > 0 && chance.hit(plan.correctionShare)
    const old = known ? chance.pick(chance.pick(attempts).points) : undefined
    const corrects = old !== undefined && !untimed(old.series) && old.series.startsWith(lane)
    if (corrects) totals.corrections++
    lastUs += chance.int(1, 50_000)
    return {
      series: corrects ? old.series : `${lane}/${chance.int(1, seriesCount)}`,
      timeUs: corrects ? old.timeUs : lastUs,
      kind,
      bits: kind === kinds.string ? 0n : bitsFor(kind),
      text: kind === kinds.string ? textFor() : null,
      quality: chance.pick([0, 0, 0, 1, 2, 6, 17]),
      acked: false,
    }
  }
  const drawUntimed = (lane: string): Mutable => {
    totals.untimed++
    counter++
    words.setFloat64(0, counter)
    return {
      series: `untimed/${lane}`,
      timeUs: counter,
      kind: kinds.float,
      bits: words.getBigUint64(0),
      text: null,
      quality: 0,
      acked: false,
    }
  }
  /** Monotonic times never meet, as arrival stamps do not. */
  const stampUs = (running: AgentProcess): number => {
    lastStampUs = Math.max(lastStampUs + 1, running.clock().monotonicUs)
    return lastStampUs
  }
  const intakeOf = (attempt: Attempt, running: AgentProcess): Intake => {
    const builder = createBatchBuilder()
    for (const point of attempt.points) {
      const ref = running.series.ref(point.series, [])
      words.setBigUint64(0, point.bits)
      const timeUs = attempt.monotonic ? stampUs(running) : point.timeUs
      if (point.text !== null) builder.addText(ref, timeUs, point.text, point.quality)
      else builder.addInt(ref, timeUs, words.getBigInt64(0), point.quality)
    }
    const points = builder.take()
    attempt.points.forEach(({ kind }, at) => {
      points.kinds[at] = kind
    })
    const loss = {
      source: 'broker',
      reason: 'malformed',
      count: attempt.malformed,
      text: 'no JSON',
    } as const
    return {
      points,
      ...(attempt.monotonic ? { timeBase: 'monotonic' as const } : {}),
      ...(attempt.malformed > 0 ? { losses: [{ ...loss, sample: chance.bytes(8) }] } : {}),
    }
  }
  const send = (attempt: Attempt) => {
    const running = agent
    if (running === undefined || !running.alive()) return
    attempts.push(attempt)
    out++
    running.port.append(attempt.lane, intakeOf(attempt, running)).then(
      () => {
        if (attempt.state !== 'out' || !running.alive()) return
        attempt.state = 'acked'
        out--
        for (const point of attempt.points) point.acked = true
        totals.points += attempt.points.length
      },
      (error: unknown) => {
        if (attempt.state !== 'out' || !running.alive()) return
        attempt.state = 'unsure'
        out--
        if (!running.failing()) onBug(`an append was refused: ${String(error)}`)
      },
    )
  }
  const publish = () => {
    if (stopped) return
    time.at(chance.between(0, plan.publishEveryMs * 2), publish)
    if (agent?.alive() !== true || out >= outstandingMax) return
    const lane = chance.pick(plan.lanes).name
    const monotonic = plan.stampsOnArrival && !agent.clock().trusted && chance.hit(0.5)
    const count = chance.int(1, plan.pointsPerAppendMax)
    send({
      lane,
      era: agent.era,
      points: Array.from({ length: count }, () =>
        monotonic ? drawUntimed(lane) : drawPoint(lane),
      ),
      twins: [],
      malformed: chance.hit(plan.malformedShare) ? chance.int(1, 3) : 0,
      monotonic,
      state: 'out',
      sentAgain: false,
    })
  }
  publish()

  const journalOf = () => attempts.flatMap(({ points, twins }) => [...points, ...twins])
  const lossesOf = () => {
    const losses = { acked: 0, unsure: 0 }
    for (const { malformed, state } of attempts)
      losses[state === 'acked' ? 'acked' : 'unsure'] += malformed
    return losses
  }
  return {
    start: (next) => {
      agent = next
      lastStampUs = 0
      for (const one of attempts.slice(-outstandingMax * 2)) {
        // As a client would that never got its answer: the same points once more.
        if (one.state !== 'unsure' || one.sentAgain || one.monotonic || !chance.hit(0.7)) continue
        // They would come late, and windows end as late as they come.
        if (plan.stages === 'changing') continue
        one.sentAgain = true
        const points = one.points.map((point) => ({ ...point, acked: false }))
        send({ ...one, points, twins: [], state: 'out', sentAgain: false })
      }
    },
    forsaken: () => {
      for (const one of attempts) if (one.state === 'out') one.state = 'unsure'
      out = 0
    },
    stop: () => {
      stopped = true
    },
    outstanding: () => out,
    journal: journalOf,
    attempts: () => attempts,
    losses: lossesOf,
    twins: () => {
      for (const one of attempts.slice(-twinsMax))
        one.twins.push(...one.points.map((point) => ({ ...point, acked: false })))
    },
    mark: () => {
      const before = new Set(attempts.filter(({ state }) => state === 'acked'))
      return () => {
        for (const one of attempts) {
          if (one.state !== 'acked' || before.has(one)) continue
          one.state = 'unsure'
          for (const point of one.points) point.acked = false
        }
      }
    },
  }
}
