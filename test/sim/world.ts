/**
 * One seed: a gateway, its publishers, a link and a region, faults by plan; then all heals, everything must drain without
 * anybody's help, and the checker gives its verdict. The same seed gives the same digest.
 */
import { createHash } from 'node:crypto'
import { type Host, silentLog, silentMeter } from '../../src/host.ts'
import { replayLane } from '../../src/pipeline/selections.ts'
import type { Verdict } from '../../src/verify/checker.ts'
import { type AgentProcess, KilledAtOpening, type Machine, startAgent } from './agent.ts'
import { laneNames } from './changing.ts'
import { createVirtualClock, createVirtualTime } from './clock.ts'
import { emptyDisk } from './disk.ts'
import { createHistorian, historianName } from './historian.ts'
import { judge, judgeDerived } from './judge.ts'
import { judgeChanging } from './judge-changing.ts'
import { judgeReal } from './judge-real.ts'
import { createSimNetwork } from './network.ts'
import { cloneMs, drawPlan, noTotals, type Plan, type Totals } from './plan.ts'
import { createPublisher } from './publisher.ts'
import { createChance } from './random.ts'
import { createSimRegion } from './region.ts'
import { strikes } from './strikes.ts'

export interface SeedResult {
  readonly seed: number
  readonly ok: boolean
  readonly reasons: readonly string[]
  readonly verdict: Verdict | null
  readonly digest: string
  readonly totals: Totals
  readonly virtualMs: number
}

const trueTimeUs = 1.76e15
/** Long enough for the idle minute: a failover with nothing left to send is found too. */
const idleMs = 85_000
const drainMs = 120_000
/** A restored spool is let in once its other self has been silent for ten minutes. */
const fencedMs = 800_000

export const runSeed = async (
  seed: number,
  trace?: (event: string, fields?: unknown) => void,
): Promise<SeedResult> => {
  const plan = drawPlan(seed)
  const totals = noTotals()
  const time = createVirtualTime()
  const chance = createChance(seed, 'world')
  const reasons: string[] = []
  const bug = (text: string) => {
    if (reasons.length < 5) reasons.push(`bug: ${text}`)
  }
  const note = (event: string, fields?: unknown) =>
    trace?.(`${time.nowMs().toFixed(0).padStart(7)} ${event}`, fields)

  const regionHost: Host = {
    clock: createVirtualClock(time, { offsetUs: trueTimeUs }, 0, () => true),
    random: createChance(seed, 'region').next,
    randomBytes: createChance(seed, 'region-bytes').bytes,
    bootId: 'region',
    log: trace === undefined ? silentLog : { ...silentLog, warn: note, error: note },
    meter: silentMeter,
  }
  const region = await createSimRegion(plan, time, regionHost, createChance(seed, 'nodes'), totals)
  const network = createSimNetwork(plan, time, createChance(seed, 'network'), region, totals)
  const publisher = createPublisher(plan, time, createChance(seed, 'publisher'), totals, bug)
  const gateway: Machine = {
    name: 'gateway',
    disk: emptyDisk(),
    wall: { offsetUs: plan.clockUnknownMs > 0 ? 0 : trueTimeUs },
    bootMs: 0,
    bootId: 'boot-0',
  }
  if (plan.clockUnknownMs > 0)
    time.at(plan.clockUnknownMs, () => {
      gateway.wall.offsetUs = trueTimeUs
    })

  const historian = plan.historian
    ? createHistorian(plan, time, createChance(seed, 'historian'), totals)
    : undefined
  let agent: AgentProcess | undefined
  let boots = 0
  let config = 0
  let restored = false
  const spared = { untilMs: 0 }
  const startOn = (machine: Machine, stream: string, onDeath: (why: string) => void) =>
    startAgent({
      opening: boots,
      plan,
      time,
      chance: createChance(seed, `${stream}-${boots++}`),
      network,
      totals,
      machine,
      onDeath,
      onBug: bug,
      spared: () => time.nowMs() < spared.untilMs,
      config,
      historian: stream === 'gateway' ? historian : undefined,
      ...(trace === undefined ? {} : { trace: note }),
    })
  const start = () => {
    if (agent?.alive()) return
    note('start')
    const died = (why: string) => {
      note('killed at', why)
      publisher.forsaken()
      time.at(chance.between(50, 3_000), start)
    }
    try {
      agent = startOn(gateway, 'gateway', died)
      publisher.start(agent)
    } catch (error) {
      if (!(error instanceof KilledAtOpening)) throw error
      totals.changesKilled++
      died('its opening')
    }
  }
  const die = (how: 'kill' | 'power-cut' | 'close', backMs: number) => {
    if (!agent?.alive()) return
    note(how)
    agent.die(how)
    publisher.forsaken()
    if (how === 'power-cut') {
      gateway.bootMs = time.nowMs()
      gateway.bootId = `boot-${boots}`
    }
    time.at(backMs, start)
  }

  const strike = strikes(
    { plan, time, region, network, totals, note },
    {
      gateway,
      agent: () => agent,
      die,
      restored: () => {
        restored = true
      },
      reclass: () => {
        config = 1
        totals.reclassed++
      },
      change: () => {
        config++
        totals.changes++
      },
      mark: publisher.mark,
      twins: publisher.twins,
      clone: (disk) => {
        spared.untilMs = time.nowMs() + cloneMs
        publisher.twins()
        const machine = { ...gateway, name: 'clone', disk, wall: { ...gateway.wall } }
        const clone = startOn(machine, 'clone', () => {})
        time.at(cloneMs, () => {
          if (clone.forwarder.status().code === 'HF-F110') totals.fenced++
          if (clone.alive()) clone.die('kill')
        })
      },
    },
  )
  /** I6: nothing counts as delivered that the region did not call committed. */
  const watch = () => {
    for (const { id, lane, readers } of agent?.alive() ? agent.spool.lanes() : [])
      for (const { reader, cursor, stage } of readers)
        if (
          !stage &&
          reader !== historianName &&
          // Of a lane that it takes from a change on, it has nothing of before.
          !(plan.stages === 'changing' && laneNames.includes(lane)) &&
          cursor.backlog > region.told(id) &&
          reasons.length < 5
        )
          reasons.push(`ahead: ${lane} is acked to ${cursor.backlog}, told ${region.told(id)}`)
    time.at(500, watch)
  }
  watch()
  for (const event of plan.events) time.at(event.atMs, () => strike(event))
  start()
  await time.run(() => false, plan.faultsMs)

  // Healing: everything is well from here on, and nobody lifts a finger.
  publisher.stop()
  network.heal()
  historian?.heal()
  await region.heal()
  gateway.wall.offsetUs = trueTimeUs
  start()
  note('healed')
  if (plan.lateFailover) time.at(5_000, () => region.failOver(false, 500))
  const healedMs = time.nowMs()
  await time.run(() => false, healedMs + idleMs)
  const limitMs =
    healedMs + (restored || spared.untilMs > 0 ? fencedMs : drainMs) + (slowDrainMs(plan) ?? 0)
  let drained = false
  while (!drained && time.nowMs() < limitMs) {
    drained = publisher.outstanding() === 0 && agent?.alive() === true && (await agent.drained())
    if (!drained) await time.run(() => false, time.nowMs() + 1_000)
  }
  if (!drained) {
    const { waitingForClock, blockedReason, bytesUsed } = (await agent?.port.stats()) ?? {}
    const facts = { waitingForClock, blockedReason, bytesUsed, out: publisher.outstanding() }
    const lanes = agent?.spool.lanes()
    const heads = agent?.spool.heads()
    reasons.push(
      `not drained: ${JSON.stringify({ ...facts, heads, lanes, status: agent?.forwarder.status() })}`,
    )
  }
  const verdict = await judge(plan, region, publisher, agent, totals, restored)
  reasons.push(...verdict.reasons)
  if (plan.stages === 'test' && agent?.alive() && drained)
    reasons.push(...(await judgeDerived(plan, region, agent, gateway.disk.record, totals)))
  if (plan.stages === 'real' && agent?.alive() && drained)
    reasons.push(...(await judgeReal(plan, region, agent, gateway.disk.archive, totals)))
  if (plan.stages === 'changing' && drained)
    reasons.push(...(await judgeChanging(plan, region, publisher, totals)))
  if (agent?.alive() && drained) reasons.push(...((await historian?.judge(agent)) ?? []))
  if (region.forks() > 0 && !restored && spared.untilMs === 0)
    reasons.push(`${region.forks()} forks: a seq with two contents`)
  if (trace !== undefined) {
    for (const table of ['agents', 'epochs', 'ledger', 'ledger_above', 'gaps'])
      for (const row of region.store().database.prepare(`select * from ${table}`).all())
        note(table, JSON.stringify(row))
    for (const lane of agent?.spool.lanes() ?? []) note('lane', JSON.stringify(lane))
    note('epochs', JSON.stringify(agent?.spool.epochs()))
  }
  if (totals.forgotten > 0 && totals.failovers + totals.restores === 0)
    reasons.push(`unexplained: ${totals.forgotten} losses of a region that never forgot`)
  count(agent, totals)
  agent?.die('kill')
  const digest = createHash('sha256')
    .update(JSON.stringify([verdict, totals, time.events(), region.forks()]))
    .digest('hex')
    .slice(0, 16)
  await region.store()[Symbol.asyncDispose]()
  return {
    seed,
    ok: reasons.length === 0,
    reasons,
    verdict,
    digest,
    totals,
    virtualMs: time.nowMs(),
  }
}

/** A narrow link takes its time for what a whole run has published. */
const slowDrainMs = (plan: Plan): number | undefined =>
  plan.bandwidthBytesPerSecond === undefined ? undefined : 120_000

const count = (agent: AgentProcess | undefined, totals: Totals) => {
  const status = agent?.spool.stats()
  totals.copied += agent?.spool.lanes().find(({ lane }) => lane === replayLane)?.accepted ?? 0
  totals.quarantines += status?.quarantined ?? 0
  totals.segments += agent?.spool.lanes().reduce((sum, lane) => sum + lane.head, 0) ?? 0
}
