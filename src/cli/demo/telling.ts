/**
 * What every story of the demo is told with: the agent started, watched, killed and started again, the plant stopped,
 * everything drained and ended in order.
 */
import { createControlClient } from '../../control/client.ts'
import type { AgentStatus } from '../../control/view.ts'
import { Failure } from '../../errors.ts'
import type { Host } from '../../host.ts'
import type { Part, Parts } from './processes.ts'
import type { Screen } from './screen.ts'
import type { Site } from './site.ts'

export interface StoryParts {
  readonly host: Host
  readonly site: Site
  readonly parts: Parts
  readonly screen: Screen
  readonly seconds: number
  readonly signal: AbortSignal
}
export interface StoryOutcome {
  readonly wireBytes: number
  readonly kills: number
  readonly cuts: number
}
/** What the agent says of itself: to show and to wait for, never to judge by. */
export interface Look {
  /** The source is connected and subscribed: from now on the broker keeps what the agent misses. */
  readonly subscribed: boolean
  /** By sources: lanes of rules, windows and copies add nothing. */
  readonly accepted: number
  readonly pending: number
  readonly status?: AgentStatus
}
export interface Telling {
  readonly look: () => Promise<Look>
  readonly begin: () => Promise<void>
  /** Resolves once the agent that runs now answers and is subscribed. */
  readonly ready: () => Promise<void>
  /** Shows what happens until so much of the story's time has passed. */
  readonly until: (share: number) => Promise<void>
  readonly kill: () => Promise<void>
  readonly revive: () => void
  /** Stops the plant; resolves with the points it had acknowledged. */
  readonly stopPlant: () => Promise<number>
  /** Until the agent has accepted so much, `done` holds and nothing is pending, or time is up. */
  readonly drain: (accepted: number, done?: (look: Look) => boolean) => Promise<Look>
  readonly end: () => Promise<void>
}

const lookMs = 500
/** After the plant has stopped, everything must have arrived within this. */
const drainMs = 45_000

const lookOf = (status: AgentStatus): Look => ({
  subscribed: status.sources.every((one) => one.state === 'running'),
  accepted: status.lanes.reduce((sum, lane) => sum + (lane.derived ? 0 : lane.accepted), 0),
  pending: status.lanes.flatMap((lane) => lane.readers).reduce((sum, one) => sum + one.pending, 0),
  status,
})
const createEye = (site: Site) => {
  const client = createControlClient(site.controlSocket, 1_000)
  let last: Look = { subscribed: false, accepted: 0, pending: 0 }
  /** Undefined while the agent is being killed, or starts. */
  const fresh = async (): Promise<Look | undefined> => {
    try {
      last = lookOf(await client.get<AgentStatus>('/v1/status'))
      return last
    } catch {
      return undefined
    }
  }
  return { fresh, look: async () => (await fresh()) ?? last }
}

/** `describe` says in a line what a look shows. */
export const createTelling = (
  { host, site, screen, seconds, signal }: StoryParts,
  describe: (look: Look) => string,
): Telling => {
  const { clock } = host
  const { look, fresh } = createEye(site)
  let agent: Part = site.startAgent()
  let sensors: Part | undefined
  let startedMs = 0
  const show = async (): Promise<Look> => {
    const seen = await look()
    screen.show({ text: describe(seen), linkUp: site.link.isUp(), agentUp: agent.alive() })
    return seen
  }
  const ready = async (): Promise<void> => {
    while ((await fresh())?.subscribed !== true) {
      if (!agent.alive() || signal.aborted) throw new Failure('HF-X020', 'the agent did not start')
      await clock.sleep(100, signal)
    }
  }
  return {
    look,
    ready,
    begin: async () => {
      await ready()
      screen.turn('the plant publishes')
      startedMs = clock.monotonicMs()
      sensors = site.startSensors()
    },
    until: async (share) => {
      const endMs = startedMs + share * seconds * 1000
      while (clock.monotonicMs() < endMs && !signal.aborted) {
        await show()
        await clock.sleep(Math.min(lookMs, Math.max(1, endMs - clock.monotonicMs())), signal)
      }
      if (signal.aborted) throw new Failure('HF-X012', 'interrupted')
    },
    kill: async () => {
      agent.signal('SIGKILL')
      await agent.ended
    },
    revive: () => {
      agent = site.startAgent()
    },
    stopPlant: async () => {
      if (sensors === undefined) return 0
      sensors.signal('SIGTERM')
      const { acked } = await sensors.firstLine
      await sensors.ended
      return Number(acked) * site.pointsPerMessage
    },
    drain: async (accepted, done = () => true) => {
      const deadlineMs = clock.monotonicMs() + drainMs
      for (;;) {
        const seen = await show()
        if (seen.accepted >= accepted && seen.pending === 0 && done(seen)) return seen
        if (clock.monotonicMs() > deadlineMs || signal.aborted) return seen
        await clock.sleep(lookMs, signal)
      }
    },
    end: async () => {
      for (const part of [agent, site.regional]) {
        part.signal('SIGTERM')
        await part.ended
      }
      await site.link[Symbol.asyncDispose]()
    },
  }
}
