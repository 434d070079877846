/**
 * `holdfast demo`: a plant, a broker, an agent and a region as real processes on this machine; the
 * link is cut, the agent
 * is killed, both come back, and a checker that trusts none of them says whether every point arrived once, unaltered.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exitCodes, Failure } from '../errors.ts'
import { createSystemHost, type Host } from '../host.ts'
import type { Verdict } from '../verify/checker.ts'
import type { ReducedVerdict } from '../verify/reduction.ts'
import type { CliContext } from './context.ts'
import { runBroker } from './demo/broker.ts'
import {
  type CellularOutcome,
  cellularBitsPerSecond,
  cellularSite,
  playCellular,
} from './demo/cellular.ts'
import { createParts } from './demo/processes.ts'
import { createScreen, type Screen } from './demo/screen.ts'
import { runSensors } from './demo/sensors.ts'
import { buildSite } from './demo/site.ts'
import { plainSite, playStory } from './demo/story.ts'
import type { StoryOutcome, StoryParts } from './demo/telling.ts'
import { judge, judgeReduced } from './demo/verdict.ts'

export interface DemoOptions {
  readonly scene: keyof typeof scenes
  readonly seconds?: number
  /** Leave the files (journal, spool, region, logs) where they are. */
  readonly keep?: boolean
  /** One process of the demo, with its options as JSON: how the demo starts itself. */
  readonly part?: string
}

/** Each scene by its name: how long its story takes, and the least that it needs. */
const scenes = {
  plain: { secondsDefault: 30, secondsMin: 10 },
  cellular: { secondsDefault: 45, secondsMin: 24 },
} as const

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

interface Told {
  readonly host: Host
  readonly context: CliContext
  readonly screen: Screen
  readonly outcome: StoryOutcome
}
const countsOf = (verdict: Verdict) => {
  const { accepted, delivered, reduced, pending, declared_lost, duplicates, altered } = verdict
  return { accepted, delivered, reduced, pending, declared_lost, duplicates, altered }
}
const tellPlain = ({ context, screen, outcome }: Told, verdict: Verdict): void => {
  const perPoint = outcome.wireBytes / Math.max(1, verdict.delivered)
  screen.verdict(sentence(verdict), verdict.ok)
  screen.say(
    `${perPoint.toFixed(2)} bytes a point on the wire, TLS and all; ` +
      `the agent was killed ${outcome.kills}×, the link cut ${outcome.cuts}×`,
  )
  if (context.flags.json)
    context.json({ ...countsOf(verdict), wire_bytes_per_point: Number(perPoint.toFixed(3)) })
}
const tellCellular = (
  { context, screen }: Told,
  { wireBytes, rawBytes, seconds }: CellularOutcome,
  verdict: ReducedVerdict,
): void => {
  const saved = 100 * (1 - wireBytes / Math.max(1, rawBytes))
  const kilobits = (bytes: number) => ((bytes * 8) / 1_000 / seconds).toFixed(0)
  screen.verdict(sentence(verdict), verdict.ok)
  screen.say(
    `${verdict.windows} windows are what their points make; all of ${verdict.asked} raw points that were ` +
      'asked for are there, bit for bit',
  )
  screen.say(
    `${(wireBytes / 1_000).toFixed(1)} kB on the wire, TLS and all, where raw segments alone would have been ` +
      `${(rawBytes / 1_000).toFixed(1)} kB: ${saved.toFixed(0)} % saved`,
  )
  screen.say(
    `on average ${kilobits(wireBytes)} kbit/s of a link that carries ${cellularBitsPerSecond / 1_000}; ` +
      `raw would have needed ${kilobits(rawBytes)}`,
  )
  if (context.flags.json) {
    const bytes = { wire_bytes: wireBytes, raw_bytes: rawBytes, saved_percent: Math.round(saved) }
    context.json({
      ...countsOf(verdict),
      windows: verdict.windows,
      asked: verdict.asked,
      ...bytes,
    })
  }
}

const play = async (parts: StoryParts, context: CliContext, scene: string): Promise<Verdict> => {
  const { host, site, screen } = parts
  const files = { region: site.regionDatabase, journal: site.journal }
  if (scene === 'cellular') {
    const outcome = await playCellular(parts)
    writeFileSync(join(site.folder, 'outcome.json'), JSON.stringify(outcome))
    const verdict = await judgeReduced(host, files, site.agent, outcome)
    tellCellular({ host, context, screen, outcome }, outcome, verdict)
    return verdict
  }
  const outcome = await playStory(parts)
  const verdict = await judge(host, files, site.agent)
  tellPlain({ host, context, screen, outcome }, verdict)
  return verdict
}

export const demo = async (context: CliContext, options: DemoOptions): Promise<number> => {
  if (options.part !== undefined) return await runPart(options.part)
  const { secondsDefault, secondsMin } = scenes[options.scene]
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
    const scene = options.scene === 'cellular' ? cellularSite(seconds) : plainSite
    const site = await buildSite(host, folder, parts, scene)
    const story = { host, site, parts, screen, seconds, signal: context.signal }
    const verdict = await play(story, context, options.scene)
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
