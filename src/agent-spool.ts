/** What a configuration asks of a spool and its stages: the agent's own, and one that `holdfast plan` rehearses in. */
import type { StagesConfig } from './agent-stages.ts'
import { derivedLanes } from './config/classes.ts'
import type { Config } from './config/schema.ts'
import { segmentPointsMax } from './limits.ts'
import { replayLane } from './pipeline/selections.ts'
import { releasedAtUs } from './release.ts'
import type { SpoolOptions } from './spool/state.ts'

export const laneOptions = ({
  lanes,
  classes,
}: Pick<Config, 'lanes' | 'classes'>): SpoolOptions['lanes'] => {
  const derived = derivedLanes(classes)
  return lanes.map((lane) => ({
    name: lane.name,
    maxDelayMs: lane.max_delay,
    segmentPointsMax,
    policy: lane.when_full,
    derived: derived.has(lane.name) || lane.name === replayLane,
    copies: lane.name === replayLane,
  }))
}
export const stagesConfig = ({
  classes,
  agent,
  destinations,
}: Pick<Config, 'classes' | 'agent' | 'destinations'>): readonly StagesConfig[] => {
  const takers = Object.fromEntries(
    [...derivedLanes(classes)].map((lane) => [
      lane,
      destinations.filter(({ lanes }) => lanes.includes(lane)).map(({ name }) => name),
    ]),
  )
  return classes.map((one) => ({ ...one, timeZone: agent.time_zone, agent: agent.name, takers }))
}
export const spoolOptions = (config: Config): SpoolOptions => ({
  agent: config.agent.name,
  lanes: laneOptions(config),
  bytesMax: config.spool.size_max,
  diskFreeBytesMin: config.spool.disk_free_min,
  keepSentMs: config.spool.keep_sent,
  compressor: config.spool.compression,
  configRevision: 0,
  configDigest: config.digest,
  clockFloorUs: releasedAtUs,
})
