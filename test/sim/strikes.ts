/** What each planned event does to the world. */
import type { AgentProcess, Machine } from './agent.ts'
import type { VirtualTime } from './clock.ts'
import { copyDisk, type Disk } from './disk.ts'
import { damageSegment, damageStage } from './disk-faults.ts'
import type { SimNetwork } from './network.ts'
import type { Plan, PlannedEvent, Totals } from './plan.ts'
import { baseUs } from './publisher.ts'
import type { SimRegion } from './region.ts'

interface Setting {
  readonly plan: Plan
  readonly time: VirtualTime
  readonly region: SimRegion
  readonly network: SimNetwork
  readonly totals: Totals
  readonly note: (event: string, fields?: unknown) => void
}
interface Acts {
  readonly gateway: Machine
  readonly agent: () => AgentProcess | undefined
  readonly die: (how: 'kill' | 'power-cut' | 'close', backMs: number) => void
  readonly restored: () => void
  readonly reclass: () => void
  readonly change: () => void
  readonly mark: () => () => void
  readonly twins: () => void
  readonly clone: (disk: Disk) => void
}

export const strikes = (setting: Setting, acts: Acts) => {
  const { plan, time, region, network, totals, note } = setting
  const { gateway } = acts
  return (event: PlannedEvent): void => {
    const { kind, forMs, draw } = event
    const agent = acts.agent()
    note(`strike ${kind}`, { forMs: Math.round(forMs) })
    switch (kind) {
      case 'kill':
      case 'power-cut':
        acts.die(kind, forMs)
        return
      case 'reclass':
        acts.reclass()
        acts.die('kill', forMs)
        return
      case 'change':
        acts.change()
        acts.die(draw < 0.5 ? 'close' : 'kill', forMs)
        return
      case 'partition':
        network.cut(forMs)
        return
      case 'portal':
        network.portal(forMs)
        return
      case 'failover':
        region.failOver(false, forMs)
        return
      case 'restore-region':
        region.failOver(true, forMs)
        return
      case 'wall-jump':
        gateway.wall.offsetUs += Math.round((draw - 0.5) * 2e11)
        return
      case 'clone':
        if (agent?.alive()) acts.clone(agent.snapshot())
        return
      case 'damage':
        if (!agent?.alive()) return
        acts.die('kill', forMs)
        damageSegment(gateway.disk, draw)
        return
      case 'stage-damage': {
        if (!agent?.alive()) return
        const { archive } = gateway.disk
        for (const one of agent.real[0]?.totals() ?? [])
          if (one.lateUnmended > 0) archive.unmended.add(one.class)
        acts.die('kill', forMs)
        if (damageStage(gateway.disk, draw)) totals.stageDamages++
        return
      }
      case 'lost-tail': {
        if (!agent?.alive()) return
        // The disk said it was flushed; only the anchor was.
        const { image } = agent.snapshot()
        acts.twins()
        time.at(Math.min(forMs, 1_000), () => {
          const now = acts.agent()
          if (!now?.alive() || time.nowMs() > plan.faultsMs) return
          gateway.disk.archive.abandoned.push(now.real.map((one) => one.history()))
          acts.die('kill', 500)
          gateway.disk.image = image
          acts.restored()
          totals.lostTails++
        })
        return
      }
      case 'replay': {
        if (!agent?.alive()) return
        const lane = plan.lanes[0]?.name ?? 'raw'
        void agent.forwarder.replay(lane, 0, 4e15).then(
          () => void totals.replays++,
          () => {},
        )
        return
      }
      case 'copy': {
        if (!agent?.alive()) return
        // Some of what is held, of some series; at the end most of it.
        const [fromUs, toUs] = draw < 0.3 ? [baseUs + draw * 1e7, 4e15] : [0, 4e15]
        const lane = (plan.lanes[Math.floor(draw * plan.lanes.length)] ?? plan.lanes[0])?.name
        const series = draw > 0.8 ? ['*/1', '*/2'] : ['*']
        void agent.selections
          .start({ lane: lane ?? 'raw', series, fromUs, toUs })
          .then(undefined, () => {})
        return
      }
      case 'restore-spool': {
        if (!agent?.alive()) return
        const backup = agent.snapshot()
        const undo = acts.mark()
        acts.twins()
        time.at(forMs, () => {
          if (!acts.agent()?.alive() || time.nowMs() > plan.faultsMs) return
          acts.die('kill', 500)
          // With the old anchor nothing can know what is gone; with the present one the loss is declared.
          if (draw < 0.5) {
            Object.assign(gateway.disk, copyDisk(backup))
            undo()
          } else gateway.disk.image = backup.image
          acts.restored()
          totals.restores++
        })
      }
    }
  }
}
