/**
 * The scene on a thin link: raw points stay on the gateway, windows and thinned series travel over 64 kbit/s, a pump
 * goes wrong, and its raw points are asked for with the verb a technician would use.
 */
import type { ReplayAnswer } from '../../control/view.ts'
import { Failure } from '../../errors.ts'
import type { LaneStatus } from '../../spool-port.ts'
import { isoText } from '../context.ts'
import { pumpName } from './sensors.ts'
import type { SceneSite } from './site.ts'
import { createTelling, type Look, type StoryOutcome, type StoryParts } from './telling.ts'

export const cellularBitsPerSecond = 64_000
/** What is a minute in a plant is ten seconds here. */
const windowMs = 10_000
/** A broker that has kept points for an agent that was away may send new ones ahead of them. */
const latenessMs = 15_000
const everyS = windowMs / 1_000
const statistics = ['count', 'good_count', 'min', 'max', 'mean', 'first', 'last']
const windows = [{ every: `${everyS}s`, lateness: `${latenessMs / 1_000}s`, statistics }]
const failing = 7
/** Parts of the story's time. */
const wrong = { from: 0.25, to: 0.45 } as const

/** 40 pumps × 8 fields × 30 scans a second, of fine instruments: 9,600 points a second, more than the link takes. */
export const cellularSite = (seconds: number): SceneSite => ({
  hertz: 30,
  moreDigits: 2,
  incident: { pump: failing, fromS: wrong.from * seconds, toS: wrong.to * seconds },
  bitsPerSecond: cellularBitsPerSecond,
  config: {
    lanes: { raw: {}, reduced: { priority: 3 }, windows: { priority: 4 }, replay: { priority: 9 } },
    classes: {
      states: {
        match: { names: ['*.state', '*.running', '*.starts'] },
        reduce: { method: 'on_change' },
      },
      temperature: {
        match: { names: ['*.temperature'] },
        reduce: { method: 'swinging_door', deviation: 0.5, max_hold: '5s' },
        windows,
      },
      rest: { windows },
    },
  },
  destination: {
    lanes: ['reduced', 'windows', 'replay'],
    bandwidth: `${cellularBitsPerSecond / 1_000} kbit/s`,
  },
})

/** The raw points asked for: series by glob, and times. */
export interface Asked {
  readonly series: string
  readonly fromUs: number
  readonly toUs: number
}
export interface CellularOutcome extends StoryOutcome {
  readonly asked: Asked
  /** Segments of the raw lane, as they would have travelled. */
  readonly rawBytes: number
  /** How long the plant published. */
  readonly seconds: number
  /** The agent's own books at the end, to be held against what is found. */
  readonly books: readonly LaneStatus[]
}

const kilobytes = (bytes: number): string => `${(bytes / 1_000).toFixed(1)} kB`
const rawLane = ({ status }: Look) => status?.lanes.find(({ lane }) => lane === 'raw')
const secondUs = 1_000_000
/** Stages look at the clock once a second; a busy machine takes longer, and what they give out has to be sealed. */
const closingUs = 5 * secondUs
const quietMs = 4_000

/** Asks as a technician does: `holdfast replay`, as a process of its own. */
const askForRaw = async (parts: StoryParts, fromUs: number, toUs: number): Promise<Asked> => {
  const { site, screen } = parts
  const series = `plant.${pumpName(failing)}.*`
  const [from, to] = [isoText(fromUs / 1_000), isoText(toUs / 1_000)]
  const args = ['replay', '--series', series, '--from', from, '--to', to]
  screen.say(`         $ holdfast ${args.join(' ')}`)
  const verb = parts.parts.start(
    'replay',
    [...args, '--json', '--socket', site.controlSocket],
    `${site.folder}/replay.log`,
  )
  const answer = (await verb.firstLine) as unknown as ReplayAnswer
  if ((await verb.ended) !== 0) throw new Failure('HF-X020', 'the replay was refused')
  const [part] = answer.parts
  screen.say(
    `         ${answer.id}: about ${part?.points ?? 0} points, ${kilobytes(part?.bytes ?? 0)}, ` +
      `${(part?.seconds ?? 0).toFixed(1)} s of the link`,
  )
  return { series, fromUs, toUs }
}

export const playCellular = async (parts: StoryParts): Promise<CellularOutcome> => {
  const { host, site, screen, seconds } = parts
  const { clock } = host
  const describe = (look: Look): string =>
    `${look.accepted} points durable; sent ${kilobytes(site.link.bytesUp())} ` +
    `of ${kilobytes(rawLane(look)?.bytes ?? 0)} raw`
  screen.turn('the agent starts; its uplink carries 64 kbit/s')
  const telling = createTelling(parts, describe)
  await telling.begin()
  const startedUs = clock.nowUs()
  const at = (share: number) =>
    Math.floor((startedUs + share * seconds * secondUs) / secondUs) * secondUs
  await telling.until(wrong.from)
  screen.turn(`${pumpName(failing)} shakes: the windows tell, raw stays here`)
  await telling.until(wrong.to)
  screen.turn('a tunnel: the link is cut')
  site.link.cut()
  await telling.until(0.5)
  screen.turn('the agent is killed (SIGKILL) with its windows open, and starts again')
  await telling.kill()
  telling.revive()
  await telling.until(0.6)
  screen.turn('the link is back')
  site.link.heal()
  await telling.until(0.7)
  await telling.ready()
  screen.turn('what did the pump do? Its raw points are asked for')
  const asked = await askForRaw(parts, at(wrong.from), at(wrong.to) + secondUs)
  await telling.until(1)
  screen.turn('the plant stops; the last windows close, the backlog drains')
  const accepted = await telling.stopPlant()
  const publishedS = (clock.nowUs() - startedUs) / secondUs
  const last = await drainWindows(parts, telling, accepted)
  await telling.end()
  return {
    wireBytes: site.link.bytesUp(),
    rawBytes: rawLane(last)?.bytes ?? 0,
    seconds: publishedS,
    kills: 1,
    cuts: 1,
    asked,
    books: last.status?.lanes ?? [],
  }
}

/** Windows close by the clock, some time after their end: until then nothing is pending, and not all is there. */
const drainWindows = async (
  { host: { clock } }: StoryParts,
  telling: ReturnType<typeof createTelling>,
  accepted: number,
): Promise<Look> => {
  const windowUs = windowMs * 1_000
  const closedUs = Math.ceil(clock.nowUs() / windowUs) * windowUs + latenessMs * 1_000
  let [made, quietSinceMs] = [-1, 0]
  return await telling.drain(accepted, ({ status }) => {
    const now = status?.lanes.reduce((sum, one) => sum + (one.derived ? one.accepted : 0), 0) ?? 0
    if (now !== made) [made, quietSinceMs] = [now, clock.monotonicMs()]
    const quiet = clock.monotonicMs() - quietSinceMs > quietMs
    const copied = status?.selections.every(({ state }) => state === 'done') ?? false
    return copied && quiet && clock.nowUs() > closedUs + closingUs
  })
}
