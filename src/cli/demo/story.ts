/**
 * The demo's story: a quiet start, the link cut, the agent killed while it is cut, both back, the plant stopped, the
 * backlog drained, everything ended in order.
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

const lookMs = 500
/** After the plant has stopped, everything must have arrived within this. */
const drainMs = 45_000

interface Look {
  /** The source is connected and subscribed: from now on the broker keeps what the agent misses. */
  readonly subscribed: boolean
  readonly accepted: number
  readonly pending: number
}
const createEye = (site: Site) => {
  const client = createControlClient(site.controlSocket, 1_000)
  let last: Look = { subscribed: false, accepted: 0, pending: 0 }
  return async (): Promise<Look> => {
    try {
      const { lanes, sources } = await client.get<AgentStatus>('/v1/status')
      last = {
        subscribed: sources.every((one) => one.state === 'running'),
        accepted: lanes.reduce((sum, lane) => sum + lane.accepted, 0),
        pending: lanes.flatMap((lane) => lane.readers).reduce((sum, one) => sum + one.pending, 0),
      }
    } catch {
      // The agent is being killed, or starting: the last look stands.
    }
    return last
  }
}

export const playStory = async (parts: StoryParts): Promise<StoryOutcome> => {
  const { host, site, screen, seconds, signal } = parts
  const { clock } = host
  const look = createEye(site)
  let agent: Part = site.startAgent()
  const show = async () => {
    const { accepted, pending } = await look()
    screen.show({
      accepted,
      committed: accepted - pending,
      linkUp: site.link.isUp(),
      agentUp: agent.alive(),
    })
  }
  screen.turn('the agent starts and subscribes')
  while (!(await look()).subscribed) {
    if (!agent.alive() || signal.aborted) throw new Failure('HF-X020', 'the agent did not start')
    await clock.sleep(100, signal)
  }
  screen.turn('the plant publishes')
  const startedMs = clock.monotonicMs()
  const until = async (share: number) => {
    const endMs = startedMs + share * seconds * 1000
    while (clock.monotonicMs() < endMs && !signal.aborted) {
      await show()
      await clock.sleep(Math.min(lookMs, Math.max(1, endMs - clock.monotonicMs())), signal)
    }
    if (signal.aborted) throw new Failure('HF-X012', 'interrupted')
  }

  const sensors = site.startSensors()
  await until(0.3)
  screen.turn('the link is cut')
  site.link.cut()
  await until(0.45)
  screen.turn('the agent is killed (SIGKILL)')
  agent.signal('SIGKILL')
  await agent.ended
  await until(0.55)
  screen.turn('the agent starts again; it holds what it acknowledged')
  agent = site.startAgent()
  await until(0.7)
  screen.turn('the link is back')
  site.link.heal()
  await until(1)
  screen.turn('the plant stops; the backlog drains')
  sensors.signal('SIGTERM')
  const { acked } = await sensors.firstLine
  await sensors.ended
  const pointsSent = Number(acked) * site.pointsPerMessage
  const deadlineMs = clock.monotonicMs() + drainMs
  for (;;) {
    await show()
    const { accepted, pending } = await look()
    if (accepted >= pointsSent && pending === 0) break
    if (clock.monotonicMs() > deadlineMs || signal.aborted) break
    await clock.sleep(lookMs, signal)
  }
  for (const part of [agent, site.regional]) {
    part.signal('SIGTERM')
    await part.ended
  }
  await site.link[Symbol.asyncDispose]()
  return { wireBytes: site.link.bytesUp(), kills: 1, cuts: 1 }
}
