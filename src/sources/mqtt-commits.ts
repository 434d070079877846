/**
 * From gathered messages to acks: emits what has come in, and acks it in the order of arrival once it is durable.
 *
 * Invariants: nothing is acked before everything of its message is durable; acks keep the order of arrival though
 * commits may end in another; messages are handed on `tickMs * ticksMax` after they came at the latest, unless every
 * slot of the redelivery window is taken.
 */
import { emptyBatch } from '../batch.ts'
import type { Host } from '../host.ts'
import type { Emit, Intake } from '../model.ts'
import type { Gather } from './mqtt-gather.ts'
import type { Redelivery } from './mqtt-redelivery.ts'
import { createStallWatch } from './mqtt-stall.ts'
import type { Wire } from './mqtt-wire.ts'

/** Short beside a commit window, long beside a message. */
const tickMs = 4
/** Ticks after which messages are handed on though more keep coming. */
const ticksMax = 2
/** Points and payloads handed on or gathered: beyond it the socket is not read. */
const bytesWaitingMax = 2 * 1024 * 1024

interface Commit {
  readonly packetIds: readonly number[]
  readonly number: number
  readonly bytes: number
  durable: boolean
}
export interface Commits {
  /** Messages were gathered just now. */
  readonly arrived: () => void
  /** Makes durable that no earlier connection's messages can come again: its session is gone. */
  readonly forgetBefore: () => Promise<void>
  /** Hands on what has gathered and resolves when nothing is under way any more. */
  readonly settle: () => Promise<void>
}
export interface CommitsParts {
  readonly host: Host
  readonly source: string
  readonly emit: Emit
  readonly gather: Gather
  readonly redelivery: Redelivery
  readonly wire: Pick<Wire, 'ack' | 'probe' | 'hold'>
  readonly failed: (error: unknown) => void
}

export const createCommits = (parts: CommitsParts): Commits => {
  const { host, gather, redelivery, wire } = parts
  const labels = { source: parts.source }
  const queue: Commit[] = []
  const running = new Set<Promise<void>>()
  const stall = createStallWatch(() => host.clock.monotonicMs())
  let bytesWaiting = 0
  let unacked = 0
  let settling = false

  const ackDurable = () => {
    const packetIds: number[] = []
    let number = -1
    while (queue[0]?.durable) {
      const done = queue.shift() as Commit
      for (const id of done.packetIds) packetIds.push(id)
      number = done.number
    }
    if (number < 0) return
    const answered = stall.acking(unacked + gather.messages())
    unacked -= packetIds.length
    wire.ack(packetIds)
    wire.probe(() => {
      redelivery.confirmed(number)
      if (packetIds.length > 0) answered()
    })
  }
  const emit = async (intakes: readonly Intake[], commit?: Commit) => {
    try {
      await Promise.all(intakes.map((intake) => parts.emit(intake)))
      if (commit === undefined) return
      commit.durable = true
      redelivery.committed(commit.number)
      bytesWaiting -= commit.bytes
      ackDurable()
      regulate()
      if (gather.messages() > 0) startTick()
    } catch (error) {
      parts.failed(error)
    }
  }
  const start = (intakes: readonly Intake[], commit?: Commit): Promise<void> => {
    const work = emit(intakes, commit)
    running.add(work)
    return work.finally(() => running.delete(work))
  }
  const flush = (urgent: boolean) => {
    if (gather.messages() === 0 || !redelivery.free()) return
    const { number, kept } = redelivery.seal()
    const { intakes, packetIds, messages, bytes } = gather.take([kept], urgent)
    host.meter.count('holdfast_messages_received_total', messages, labels)
    host.meter.count('holdfast_bytes_received_total', bytes, labels)
    const commit = { packetIds, number, bytes, durable: false }
    queue.push(commit)
    bytesWaiting += bytes
    unacked += packetIds.length
    void start(intakes, commit)
  }
  const regulate = () => {
    if (settling) return
    // Only what waits for the disk counts: the broker's answers to probes stand behind what is not read.
    const bytes = bytesWaiting + gather.bytes()
    if (bytes > bytesWaitingMax) wire.hold(true)
    else if (bytes < bytesWaitingMax / 2) wire.hold(false)
  }

  let ticking = false
  let arrivals = 0
  let ticks = 0
  const tick = () => {
    ticking = false
    const quiet = arrivals === 0
    arrivals = 0
    ticks++
    if (quiet || ticks >= ticksMax) {
      ticks = 0
      flush(false)
    }
    if (!quiet) startTick()
  }
  const startTick = () => {
    if (ticking) return
    ticking = true
    host.clock.after(tickMs, tick)
  }
  return {
    arrived: () => {
      arrivals++
      stall.arrived()
      regulate()
      if (stall.stalled(unacked + gather.messages())) flush(true)
      startTick()
    },
    forgetBefore: () => {
      const { number, kept } = redelivery.seal()
      const commit = { packetIds: [], number, bytes: 0, durable: false }
      queue.push(commit)
      return start([{ points: emptyBatch, kept: [kept], urgent: true }], commit)
    },
    settle: async () => {
      settling = true
      wire.hold(true)
      flush(true)
      // Without a free slot it stays unacked, and comes again.
      gather.take([], false)
      while (running.size > 0) await Promise.all(running)
    },
  }
}
