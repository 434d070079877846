/**
 * What is lost is told where the points are. Invariant: a server that refuses even this is told nothing, and holds up
 * no points: the gap records stand here.
 */
import type { Outcome, SendBatch } from '../model.ts'
import { gapLines, type Losses } from './influx-losses.ts'
import type { InfluxReading } from './influx-outcome.ts'
import type { SenderParts } from './influx-send.ts'

type Setback = Extract<Outcome, { kind: 'later' | 'blocked' }>

export const createGapTeller = ({ deps, dialect, limits, post }: SenderParts) => {
  const { host, agent } = deps
  return async (
    batch: SendBatch,
    losses: Losses,
    signal: AbortSignal,
  ): Promise<Setback | undefined> => {
    const writing = { agent, nowUs: host.clock.nowUs(), ...dialect }
    const whole = { fromUs: Number.NEGATIVE_INFINITY, toUs: Number.POSITIVE_INFINITY }
    // What holds no point before 1970 holds no record of it either.
    const { fromUs, toUs } =
      limits?.() ?? (dialect.layout === 'rows' ? { ...whole, fromUs: 0 } : whole)
    const holds = (timeUs: number) => timeUs >= fromUs && timeUs < toUs
    const linesOf = (late: boolean) => gapLines(batch, losses.lost(), { ...writing, late, holds })
    const lines = linesOf(false)
    if (lines.length === 0) return undefined
    let said = await post(lines, signal)
    const tooOld = ({ kind }: InfluxReading) => kind === 'too-old' || kind === 'out-of-keep'
    const some = tooOld(said) || (said.kind === 'suspect' && Number(said.tooOld) > 0)
    // Their own times are no longer kept there.
    for (const [at, line] of some ? linesOf(true).entries() : []) {
      said = await post([lines[at] as string], signal)
      if (tooOld(said)) said = await post([line], signal)
      if (said.kind === 'setback') break
    }
    if (said.kind === 'setback') return said.setback
    if (said.kind === 'suspect' || said.kind === 'too-big')
      host.log.warn('gap_records_refused', { lane: batch.lane, text: said.text })
    return undefined
  }
}
