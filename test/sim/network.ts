/**
 * The link between an agent and its region: the relay's transport, with everything that links do.
 * Nothing here knows what the bytes mean, except the captive portal, which answers as one would.
 */
import type { RelayTransport } from '../../src/destinations/relay-transport.ts'
import type { VirtualTime } from './clock.ts'
import type { Plan, Totals } from './plan.ts'
import type { Chance } from './random.ts'
import type { SimRegion } from './region.ts'

export interface SimNetwork {
  readonly transport: (agent: string, alive: () => boolean) => RelayTransport
  readonly cut: (forMs: number) => void
  readonly portal: (forMs: number) => void
  readonly heal: () => void
}
type Reply = Awaited<ReturnType<RelayTransport>>

const html = 'text/html; charset=utf-8'
const json = 'application/json'

export const createSimNetwork = (
  plan: Plan,
  time: VirtualTime,
  chance: Chance,
  region: SimRegion,
  totals: Totals,
): SimNetwork => {
  const { network } = plan
  let healed = false
  let cutUntilMs = 0
  let portalUntilMs = 0
  let lastGood: Reply | undefined

  const delayMs = () =>
    healed ? 1 : network.latencyMs + (chance.hit(0.1) ? 5 : 1) * chance.between(0, network.jitterMs)
  const cut = () => time.nowMs() < cutUntilMs
  const hit = (share: number) => !healed && chance.hit(share)
  const reply = (status: number, type: string, body: string | Uint8Array, more = {}): Reply => ({
    status,
    headers: {
      'content-type': type,
      date: new Date(1.76e12 + time.nowMs()).toUTCString(),
      ...more,
    },
    body: typeof body === 'string' ? Buffer.from(body) : body,
  })
  const portalReply = (): Reply => {
    totals.portalAnswers++
    const kind = chance.int(0, 4)
    if (kind === 0) return reply(200, json, '{}')
    if (kind === 1)
      return reply(200, json, '{"region":"portal","timeline":1,"results":[],"lanes":[]}')
    if (kind === 2 && lastGood !== undefined) return lastGood
    if (kind === 3) return reply(302, html, '', { location: 'http://portal.example/' })
    return reply(200, html, '<html>Welcome, please accept our terms</html>')
  }
  const turnedAway = (): Reply => {
    const after = { 'retry-after': String(chance.int(1, 3)) }
    const kind = chance.int(0, 3)
    if (kind === 0) return reply(503, html, '<html>no upstream</html>', after)
    if (kind === 1) return reply(502, html, '<html>bad gateway</html>')
    if (kind === 2) return reply(504, html, '<html>timeout</html>')
    const error = { code: 'busy', text: 'too much work at once', afterMs: 1_500 }
    return reply(429, json, JSON.stringify({ error }), after)
  }

  const transport =
    (agent: string, alive: () => boolean): RelayTransport =>
    (request, signal) =>
      new Promise((resolve, reject) => {
        let over = false
        const end = (work: () => void) => {
          if (over) return
          over = true
          cancelTimeout()
          signal.removeEventListener('abort', abort)
          if (alive()) work()
        }
        const abort = () => end(() => reject(new Error('aborted')))
        const cancelTimeout = time.at(request.timeoutMs, () =>
          end(() => reject(new Error('timeout'))),
        )
        signal.addEventListener('abort', abort, { once: true })
        if (signal.aborted) return abort()
        const answer = (one: Reply) => {
          time.at(delayMs(), () => {
            if (!cut()) end(() => resolve(one))
          })
        }
        const arrive = async () => {
          const carried = {
            ...request,
            method: 'POST',
            agent,
            signal: new AbortController().signal,
          }
          const said = await region.handle(carried)
          if (said === undefined)
            return void time.at(delayMs(), () => end(() => reject(new Error('reset'))))
          const good = reply(
            said.status,
            said.headers['content-type'] ?? '',
            said.body,
            said.headers,
          )
          if (request.path.endsWith('segments') && said.status === 200) {
            lastGood = good
            if (hit(network.loseAnswer)) return void totals.answersLost++
          }
          answer(good)
        }
        const leave = () => {
          if (cut()) return
          if (time.nowMs() < portalUntilMs && request.path.endsWith('segments'))
            return answer(portalReply())
          if (hit(network.refuse)) return answer(turnedAway())
          if (!healed && request.body.length > network.proxyBytesMax)
            return answer(reply(413, html, '<html>request entity too large</html>'))
          if (hit(network.loseRequest)) return
          void arrive()
          if (!hit(network.duplicate)) return
          totals.duplicatesSent++
          time.at(chance.between(0, 2_000), () => void arrive())
        }
        if (cut() && chance.hit(0.5)) {
          time.at(1, () => end(() => reject(new Error('refused'))))
          return
        }
        time.at(delayMs(), leave)
      })

  return {
    transport,
    cut: (forMs) => {
      cutUntilMs = Math.max(cutUntilMs, time.nowMs() + forMs)
    },
    portal: (forMs) => {
      portalUntilMs = Math.max(portalUntilMs, time.nowMs() + forMs)
    },
    heal: () => {
      healed = true
      cutUntilMs = portalUntilMs = 0
    },
  }
}
