/**
 * One machine with an agent on it: production spool, ingest, port, forwarder and relay client; virtual disk and clocks.
 *
 * The disk honours flush: what the spool committed is there after a power cut, if and only if the spool asks SQLite for
 * `synchronous=FULL`; of the anchor only what was flushed. A dead process's timers never fire and its requests are never
 * answered.
 */
import { readFileSync } from 'node:fs'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createRelayClient } from '../../src/destinations/relay-client.ts'
import { textOf } from '../../src/errors.ts'
import { createForwarder, type Forwarder } from '../../src/forward/forwarder.ts'
import { type Host, silentLog, silentMeter } from '../../src/host.ts'
import type { ClockReading, SeriesTable } from '../../src/model.ts'
import { createAgentClock } from '../../src/pipeline/clock.ts'
import { createSelections, replayLane, type Selections } from '../../src/pipeline/selections.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { type AgentSpoolPort, createSpoolIngest, createSpoolPort } from '../../src/spool/port.ts'
import { openSpool, type Spool } from '../../src/spool/spool.ts'
import { createTestStage, type TestStage } from '../unit/spool/stage-support.ts'
import { changingStages, laneNames, openingKill, writtenBy } from './changing.ts'
import { createVirtualClock, type VirtualTime } from './clock.ts'
import { anchorOn, copyDisk, type Disk } from './disk.ts'
import type { Historian } from './historian.ts'
import type { SimNetwork } from './network.ts'
import type { Plan, Totals } from './plan.ts'
import type { Chance } from './random.ts'
import { type RecordedStage, recordedStages } from './recorded.ts'

export const agentName = 'gateway-1'
/** Before this nobody believes the wall clock. */
export const clockFloorUs = 1.7e15
const reader = 'region'
/** Of a request. */
const headerBytes = 300
/** A process whose disk failed takes some time to end. */
const exitMsMax = 2_000
/** Of the series that the stage gives out. */
export const derivedPrefix = 'derived/'

/** Whether the spool asks for a flush at each commit: with NORMAL a power cut takes the tail of the log. */
const flushes = readFileSync(new URL('../../src/spool/open.ts', import.meta.url), 'utf8').includes(
  "'synchronous = FULL'",
)

export interface AgentProcess {
  readonly port: AgentSpoolPort
  readonly series: SeriesTable
  readonly forwarder: Forwarder
  readonly selections: Selections
  readonly alive: () => boolean
  /** Its disk has failed: it takes nothing more, and is about to end. */
  readonly failing: () => boolean
  readonly clock: () => ClockReading
  /** How many changes of the configuration it comes after. */
  readonly era: number
  readonly drained: () => Promise<boolean>
  /** Ends it at once; the disk holds what a kill (or a power cut) leaves. */
  readonly die: (how: 'kill' | 'power-cut' | 'close') => void
  /** The disk as a backup taken now would hold it. */
  readonly snapshot: () => Disk
  readonly spool: Spool
  readonly stage: TestStage
  /** Rules and windows, where the seed has them. */
  readonly real: readonly RecordedStage[]
}
export interface Machine {
  readonly name: string
  readonly disk: Disk
  readonly wall: { offsetUs: number }
  bootMs: number
  bootId: string
}
export interface AgentParts {
  readonly plan: Plan
  readonly time: VirtualTime
  readonly chance: Chance
  readonly network: SimNetwork
  readonly totals: Totals
  readonly machine: Machine
  readonly historian: Historian | undefined
  /** No failpoint may strike now. */
  readonly spared: () => boolean
  /** Which of the plan's classes, or of its setups, stand. */
  readonly config: number
  /** How often the machine was started. */
  readonly opening: number
  /** A failpoint killed it, or it gave up on its disk. */
  readonly onDeath: (why: string) => void
  /** The production code threw what it must not throw. */
  readonly onBug: (text: string) => void
  readonly trace?: (event: string, fields?: unknown) => void
}

/** It was killed before the spool was open. */
export class KilledAtOpening extends Error {}

export const startAgent = (parts: AgentParts): AgentProcess => {
  const { plan, time, chance, machine, totals } = parts
  const { disk } = machine
  let living = true
  const alive = () => living
  const log = parts.trace === undefined ? silentLog : tracing(machine.name, parts.trace)
  const host: Host = {
    clock: createVirtualClock(time, machine.wall, machine.bootMs, alive),
    random: chance.next,
    randomBytes: chance.bytes,
    bootId: machine.bootId,
    log,
    meter: silentMeter,
  }
  const series = createSeriesTable({ agent: agentName, seriesIdOf })
  /** Images of the last commits, for a disk that was never told to flush. */
  const unflushed: Uint8Array[] = []
  let opened = false
  let failing = false
  let closing = false
  const setup = plan.setups[parts.config]
  let killIn =
    setup === undefined || time.nowMs() >= plan.faultsMs ? 0 : openingKill(plan.seed, parts.opening)
  /** Of an opening that is to be killed, or of a close: as it is after its last commit. */
  let last = disk.image
  const struck = (oneIn: number): boolean =>
    oneIn > 0 &&
    opened &&
    !failing &&
    !parts.spared() &&
    time.nowMs() < plan.faultsMs &&
    chance.hit(1 / oneIn)
  /** A flush that failed: what is in the file is what was there before, and nothing follows it. */
  const failDisk = () => {
    failing = true
    totals.syncFailures++
    time.at(chance.between(0, exitMsMax), () => {
      if (!living) return
      living = false
      leave('kill')
      parts.onDeath('a disk that fails')
    })
    throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_FSYNC' })
  }
  const failpoint = (name: string, image: () => Uint8Array) => {
    if (!living) throw new Error('dead')
    if (name === 'after-commit' && (closing || (!opened && killIn > 0))) last = image()
    if (closing) return
    if (!opened && --killIn === 0) {
      living = false
      throw new Error(`killed at ${name} of an opening`)
    }
    if (name === 'after-commit' && opened && !flushes) {
      unflushed.push(spool.image())
      if (unflushed.length > 8) unflushed.shift()
    }
    if (name === 'before-commit' && struck(plan.syncFailOneIn)) failDisk()
    if (!struck(plan.failpointOneIn)) return
    living = false
    totals.crashes++
    // Taken once the transaction is rolled back, before anything else can run.
    queueMicrotask(() => leave('kill'))
    parts.onDeath(name)
    throw new Error(`killed at ${name}`)
  }
  const block = { maxDelayMs: 200, segmentPointsMax: 40, policy: 'block' } as const
  const copies = { name: replayLane, ...block, derived: true, copies: true }
  const written = setup === undefined ? null : writtenBy(setup)
  const derived = plan.derivedLanes.map((lane) => ({
    ...lane,
    derived: written?.includes(lane.name) ?? true,
  }))
  const lanes = [...plan.lanes, ...derived, ...(plan.copies ? [copies] : [])]
  const stage = createTestStage('stage', {
    prefix: derivedPrefix,
    windowUs: plan.windowUs,
    record: disk.record,
  })
  const raw = plan.lanes[0]?.name ?? ''
  const ofClasses = { lane: raw, agent: agentName, prefix: derivedPrefix, configs: plan.classes }
  const real = plan.stages === 'real' ? recordedStages(ofClasses, disk.archive, parts.config) : []
  const open = (work: () => Spool): Spool => {
    try {
      return work()
    } catch (error) {
      if (living) throw error
      disk.image = last
      throw new KilledAtOpening()
    }
  }
  const { stepPieces } = plan
  const changing = { agent: agentName, region: reader, prefix: derivedPrefix, stepPieces }
  const spool = open(() =>
    openSpool({
      at: { image: disk.image },
      host,
      series,
      options: {
        agent: agentName,
        lanes,
        bytesMax: plan.spoolBytesMax,
        diskFreeBytesMin: 0,
        keepSentMs: plan.keepSentMs,
        compressor: chance.pick(['none', 'lz4', 'zstd'] as const),
        configRevision: 1,
        clockFloorUs,
        ...(setup === undefined ? {} : { configDigest: String(parts.config) }),
      },
      anchorFile: anchorOn(disk),
      failpoint,
      stages: plan.stages === 'test' ? [{ reader: 'stage', lane: raw, stage }] : real,
      ...(setup === undefined ? {} : changingStages({ ...changing, setup })),
    }),
  )
  opened = true
  totals.epochs++

  const isTaken = (lane: string) =>
    setup === undefined || !laneNames.includes(lane) || setup.takes.includes(lane)
  /** Of a lane that is taken no more: as far as it still is. */
  const leftAt = (lane: string): number => {
    const kept = spool.kept(`forward/${reader}/left`)
    const until = kept === null ? {} : (JSON.parse(Buffer.from(kept).toString()) as object)
    return (until as Readonly<Record<string, number>>)[lane] ?? Number.POSITIVE_INFINITY
  }
  let left = false
  const leave = (how: 'kill' | 'power-cut' | 'close') => {
    if (left) return
    left = true
    last = disk.image = spool.image()
    if (how === 'power-cut') {
      disk.anchor = disk.anchorFlushed
      if (unflushed.length > 1) disk.image = chance.pick(unflushed)
    }
    totals.rewinds += forwarder.status().rewinds
    try {
      spool.close()
    } catch {
      // It would save its acks first; a dead process does not.
    }
    disk.image = how === 'close' ? last : disk.image
  }
  const ingest = createSpoolIngest(spool, host.clock, {
    commitWindowMs: plan.commitWindowMs,
    lanes,
  })
  const port = createSpoolPort(spool, ingest, series)
  const agentClock = createAgentClock(host, { floorUs: clockFloorUs, savedUs: spool.lastWallUs() })
  const tick = () => {
    void port.setClock(agentClock.reading()).then(
      () => void host.clock.after(1_000, tick),
      (error: unknown) => bug(error),
    )
  }
  const bug = (error: unknown) => {
    if (!living || failing) return
    parts.onBug(textOf(error))
  }
  tick()
  const transport = parts.network.transport(agentName, alive)
  let bytesSent = 0
  const destination = createRelayClient(
    { host, name: reader, agent: agentName, spool: port, farTime: agentClock.farTime },
    {
      transport: (post, signal) => {
        bytesSent += headerBytes + post.body.length
        return transport(post, signal)
      },
      requestTimeoutMs: 5_000,
      bodyBytesMax: plan.bodyBytesMax,
      bytesSent: () => bytesSent,
      troubleOf: (error) => ({ kind: 'later', text: textOf(error) }),
      close: async () => {},
    },
  )
  const forwarding = {
    spool: port,
    lanes: lanes
      .map(({ name }, at) => ({ lane: name, priority: at }))
      .filter(({ lane }) => isTaken(lane)),
    host,
  }
  const options = {
    from: setup === undefined ? 'oldest' : 'now',
    requestsInFlight: plan.requestsInFlight,
    bodyBytesMax: plan.bodyBytesMax,
    liveShare: plan.liveShare,
  } as const
  const forwarder = createForwarder({
    ...forwarding,
    destination,
    options: {
      ...options,
      ...(plan.bandwidthBytesPerSecond === undefined
        ? {}
        : { bandwidthBytesPerSecond: plan.bandwidthBytesPerSecond }),
    },
  })
  forwarder.run(new AbortController().signal).then(() => bug('the forwarder ended'), bug)
  const read: typeof port.read = (lane, after, bytesMax, upTo) =>
    port.read(lane, after, Math.min(bytesMax, plan.copyReadBytes), upTo)
  const selections = createSelections({ spool: { ...port, read }, series, host })
  if (plan.copies)
    selections.run(new AbortController().signal).then(() => bug('the copying ended'), bug)
  if (parts.historian !== undefined) {
    const floorOf = (name: string) => spool.lanes().find(({ lane }) => lane === name)?.floor ?? 1
    const second = parts.historian.destination(floorOf)
    createForwarder({ ...forwarding, destination: second, options })
      .run(new AbortController().signal)
      .then(() => bug('the second forwarder ended'), bug)
  }

  return {
    port,
    series,
    forwarder,
    selections,
    spool,
    stage,
    real: real.map((one) => one.stage),
    alive,
    failing: () => failing,
    clock: agentClock.reading,
    era: parts.config,
    drained: async () => {
      const statuses = await port.lanes()
      const open = selections.list().some(({ state }) => state === 'waiting' || state === 'running')
      return (
        !open &&
        statuses.every(({ lane, readers }) =>
          readers.every(
            (one) => one.pending === 0 || (!isTaken(lane) && one.cursor.backlog >= leftAt(lane)),
          ),
        ) &&
        (await port.stats()).waitingForClock === 0
      )
    },
    die: (how) => {
      closing = how === 'close'
      living = closing
      if (how === 'kill') totals.crashes++
      if (how === 'power-cut') totals.powerCuts++
      leave(how)
      living = false
    },
    snapshot: () =>
      copyDisk({
        image: spool.image(),
        anchor: disk.anchor,
        anchorFlushed: disk.anchor,
        record: disk.record,
        archive: disk.archive,
      }),
  }
}

const tracing = (name: string, trace: (event: string, fields?: unknown) => void): Host['log'] => {
  const line = (event: string, fields?: unknown) => trace(`${name} ${event}`, fields)
  const log: Host['log'] = {
    debug: line,
    info: line,
    warn: line,
    error: line,
    child: () => log,
  }
  return log
}
