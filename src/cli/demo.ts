/**
 * `holdfast demo`: a plant, a broker, an agent and a region as real processes on this machine; the
 * link is cut, the agent
 * is killed, both come back, and a checker that trusts none of them says whether every point arrived once, unaltered.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exitCodes, Failure } from '../errors.ts'
import { createSystemHost } from '../host.ts'
import type { Verdict } from '../verify/checker.ts'
import type { CliContext } from './context.ts'
import { runBroker } from './demo/broker.ts'
import { createParts } from './demo/processes.ts'
import { createScreen } from './demo/screen.ts'
import { runSensors } from './demo/sensors.ts'
import { buildSite } from './demo/site.ts'
import { playStory } from './demo/story.ts'
import { judge } from './demo/verdict.ts'

export interface DemoOptions {
  readonly seconds?: number
  /** Leave the files (journal, spool, region, logs) where they are. */
  readonly keep?: boolean
  /** One process of the demo, with its options as JSON: how the demo starts itself. */
  readonly part?: string
}

const secondsDefault = 30
const secondsMin = 10

const runPart = async (part: string): Promise<number> => {
  const { kind, ...options } = JSON.parse(part)
  if (kind === 'broker') await runBroker(options)
  else if (kind === 'sensors') await runSensors(options)
  else throw new Failure('HF-X002', `the demo has no part "${kind}"`)
  return exitCodes.good
}

const sentence = (verdict: Verdict): string =>
  verdict.ok
    ? `VERIFIED  ${verdict.accepted} accepted = ${verdict.delivered} delivered + ${verdict.reduced} reduced + ` +
      `${verdict.pending} pending + ${verdict.declared_lost} declared lost; ` +
      `duplicates ${verdict.duplicates}, altered ${verdict.altered}`
    : `FAILED  ${verdict.reasons.join('; ')}`

export const demo = async (context: CliContext, options: DemoOptions): Promise<number> => {
  if (options.part !== undefined) return await runPart(options.part)
  const seconds = options.seconds ?? secondsDefault
  if (seconds < secondsMin)
    throw new Failure(
      'HF-X002',
      `${seconds} seconds are too few for the story`,
      `give --seconds ${secondsMin} or more`,
    )
  const host = createSystemHost()
  const folder = mkdtempSync(join(tmpdir(), 'hf-demo-'))
  const parts = createParts([process.execPath, process.argv[1] ?? ''])
  const screen = createScreen(context, host.clock)
  let kept = options.keep === true
  try {
    screen.say(
      `a plant, a broker, an agent and a region on this machine, for ${seconds} s; files in ${folder}`,
    )
    const site = await buildSite(host, folder, parts)
    const outcome = await playStory({ host, site, parts, screen, seconds, signal: context.signal })
    const verdict = await judge(
      host,
      { region: site.regionDatabase, journal: site.journal },
      site.agent,
    )
    const perPoint = outcome.wireBytes / Math.max(1, verdict.delivered)
    screen.verdict(sentence(verdict), verdict.ok)
    screen.say(
      `${perPoint.toFixed(2)} bytes a point on the wire, TLS and all; ` +
        `the agent was killed ${outcome.kills}×, the link cut ${outcome.cuts}×`,
    )
    if (context.flags.json) {
      const { accepted, delivered, reduced, pending, declared_lost, duplicates, altered } = verdict
      const line = { accepted, delivered, reduced, pending, declared_lost, duplicates, altered }
      context.json({ ...line, wire_bytes_per_point: Number(perPoint.toFixed(3)) })
    }
    kept ||= !verdict.ok
    return verdict.ok ? exitCodes.good : exitCodes.failed
  } catch (error) {
    kept ||= !context.signal.aborted
    throw error
  } finally {
    parts.killAll()
    if (kept) context.warn(`journal, spool, region and logs stand in ${folder}`)
    else rmSync(folder, { recursive: true, force: true })
  }
}
