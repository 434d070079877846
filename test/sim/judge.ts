/** The verdict on what a seed left in the region, and on what the test's own stage gave. */
import { createEmbeddedReadBack } from '../../src/database/read-back.ts'
import { replayLane } from '../../src/pipeline/selections.ts'
import { check, type ExactPoint, type GapFound, type Verdict } from '../../src/verify/checker.ts'
import { type Recorded, replayed } from '../unit/spool/stage-support.ts'
import { type AgentProcess, agentName, derivedPrefix } from './agent.ts'
import type { Plan, Totals } from './plan.ts'
import { type createPublisher, untimed } from './publisher.ts'
import type { SimRegion } from './region.ts'

/** Lanes of the stage, and what they took in: what an uninterrupted stage would have given, as `judgeDerived` sees to. */
export const derivedOf = (agent: AgentProcess | undefined) => {
  const lanes = (agent?.spool.lanes() ?? []).filter(
    ({ lane, derived }) => derived && lane !== replayLane,
  )
  return {
    ids: new Set(lanes.map(({ id }) => id)),
    accepted: lanes.reduce((sum, lane) => sum + lane.accepted, 0),
  }
}
/** Lanes of stages, also of earlier ones, and of copies: what they hold adds nothing to what was accepted. */
const beside = (plan: Plan, agent: AgentProcess | undefined) =>
  agent?.spool.lanes().filter(({ lane }) => !plan.lanes.some(({ name }) => name === lane)) ?? []

/** The stage's lanes are what it gives when nothing interrupts it: in its books, and in the region where none was lost. */
export const judgeDerived = async (
  { windowUs }: Plan,
  region: SimRegion,
  agent: AgentProcess,
  record: ReadonlyMap<number, Recorded>,
  totals: Totals,
): Promise<readonly string[]> => {
  const history = agent.stage.history()
  totals.ticks += history.filter(([kind]) => kind === 'tick').length
  totals.windowsCut += history.filter(([kind]) => kind === 'letGo').length
  const { accepted, ids } = derivedOf(agent)
  const back = createEmbeddedReadBack(region.store().database)
  const { told, count } = replayed(history, record, { prefix: derivedPrefix, windowUs })
  if (accepted !== count) return [`derived: ${accepted} points in its lanes, not ${count}`]
  if ((await back.gapsOf(agentName)).some(({ lane }) => ids.has(lane))) return []
  const left = new Map(told)
  for await (const row of back.readBack(agentName)) {
    if (!row.name.startsWith(derivedPrefix)) continue
    totals.derived++
    const key = `${JSON.stringify([row.name, Object.entries(row.tags)])} ${row.timeUs}`
    const expected = left.get(key)
    left.delete(key)
    const found = `${row.bits}:${row.quality}`
    if (found !== expected) return [`derived: ${key} is ${found}, not ${expected}`]
  }
  const [missing] = left.keys()
  return missing === undefined ? [] : [`derived: ${left.size} missing, as ${missing}`]
}

/** Points of these lanes in the region's ledger, of openings that it still knows one by one. */
const takenOf = (region: SimRegion, lanes: ReadonlySet<number>): number => {
  const { database } = region.store()
  const rows = database.prepare('select lane, points from ledger').all() as {
    readonly lane: number
    readonly points: number
  }[]
  return rows.reduce((sum, { lane, points }) => (lanes.has(lane) ? sum + points : sum), 0)
}
const floatBits = new DataView(new ArrayBuffer(8))
export const judge = async (
  plan: Plan,
  region: SimRegion,
  publisher: ReturnType<typeof createPublisher>,
  agent: AgentProcess | undefined,
  totals: Totals,
  /** Its disk lost what lanes of stages, or copies, may have given the region. */
  restored: boolean,
): Promise<Verdict> => {
  const store = region.store()
  const back = createEmbeddedReadBack(store.database)
  const rows: ExactPoint[] = []
  const names = new Map<bigint, string>()
  for await (const { seriesId, name, timeUs, kind, bits, quality } of back.readBack(agentName)) {
    names.set(seriesId, name)
    if (name.startsWith(derivedPrefix)) continue
    const isText = typeof bits === 'string'
    const row = { series: name, kind, bits: isText ? 0n : bits, text: isText ? bits : null }
    if (!untimed(name)) rows.push({ ...row, timeUs, quality })
    else {
      // The agent gave it its time: its value says which one it is.
      floatBits.setBigUint64(0, row.bits)
      rows.push({ ...row, timeUs: floatBits.getFloat64(0), quality: 0 })
    }
  }
  const writes: { series: string; timeUs: number }[] = []
  for await (const { seriesId, timeUs, op } of back.auditOf(agentName)) {
    const series = names.get(seriesId) ?? '?'
    if (series.startsWith(derivedPrefix)) continue
    if (op === 'update') totals.merges++
    if (op !== 'delete' && !untimed(series)) writes.push({ series, timeUs })
  }
  const lanes = beside(plan, agent)
  const derived = {
    ids: new Set(lanes.map(({ id }) => id)),
    accepted: lanes.reduce((sum, lane) => sum + lane.accepted, 0),
  }
  // Also by a life that is gone, of which this spool knows nothing.
  const copied = lanes.some(
    ({ lane, id, accepted }) =>
      lane === replayLane && (accepted > 0 || takenOf(region, new Set([id])) > 0),
  )
  const all = await back.gapsOf(agentName)
  const found = all.filter(({ lane }) => !derived.ids.has(lane))
  // Sums of epochs folded long ago no longer say of which lane they were.
  const lostDerived = all
    .filter(({ lane }) => derived.ids.has(lane))
    .reduce((sum, { count }) => sum + count, 0)
  totals.gaps += found.length
  totals.forgotten += found.filter(({ reason }) => reason === 'forgotten').length
  totals.quotaHits += found.filter(({ reason }) => reason === 'quota').length
  const whole = totals.untimed > 0
  const gaps = found.map((gap): GapFound => (whole ? { ...gap, timeUsMin: 0, timeUsMax: 0 } : gap))
  const taken = takenOf(region, derived.ids)
  const known = derived.accepted - lostDerived
  // Of what lives that are gone gave, only the region knows; and of a region that takes not all, only it.
  const given = plan.stages === 'changing' ? taken : restored ? Math.max(taken, known) : known
  const listed = await store.agents()
  const mine =
    listed.kind === 'ok' ? listed.agents.find((one) => one.agent === agentName) : undefined
  return await check({
    journal: [publisher.journal()],
    losses: publisher.losses(),
    rows: [rows],
    // A copy that reaches further than what it is of may be written over it once more.
    writes: copied ? [] : [writes],
    gaps,
    delivered: (mine?.points ?? 0) - given,
    reduced: 0,
    pending: 0,
  })
}
