/**
 * The plain story: a quiet start, the link cut, the agent killed while it is cut, both back, the plant stopped, the
 * backlog drained, everything ended in order.
 */
import type { SceneSite } from './site.ts'
import { createTelling, type Look, type StoryOutcome, type StoryParts } from './telling.ts'

/** 40 pumps × 8 fields × 10 scans a second: 3,200 points a second. */
export const plainSite: SceneSite = { hertz: 10 }

const describe = ({ accepted, pending }: Look): string =>
  `${accepted} durable on the gateway, ${Math.max(0, accepted - pending)} committed in the region, ` +
  `${Math.min(accepted, pending)} waiting`

export const playStory = async (parts: StoryParts): Promise<StoryOutcome> => {
  const { site, screen } = parts
  screen.turn('the agent starts and subscribes')
  const telling = createTelling(parts, describe)
  await telling.begin()
  await telling.until(0.3)
  screen.turn('the link is cut')
  site.link.cut()
  await telling.until(0.45)
  screen.turn('the agent is killed (SIGKILL)')
  await telling.kill()
  await telling.until(0.55)
  screen.turn('the agent starts again; it holds what it acknowledged')
  telling.revive()
  await telling.until(0.7)
  screen.turn('the link is back')
  site.link.heal()
  await telling.until(1)
  screen.turn('the plant stops; the backlog drains')
  await telling.drain(await telling.stopPlant())
  await telling.end()
  return { wireBytes: site.link.bytesUp(), kills: 1, cuts: 1 }
}
