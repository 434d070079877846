/**
 * The region: production nodes (`createRegional`) over one embedded store, and a standby that lags behind it.
 * A crash leaves what `serialize()` gives after the roll-back; a failover goes on from the standby's last image.
 */
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createEmbeddedStore, type EmbeddedStore } from '../../src/database/embedded.ts'
import { createEmbeddedReadBack } from '../../src/database/read-back.ts'
import type { Host } from '../../src/host.ts'
import {
  createRegional,
  type Regional,
  type RelayRequest,
  type RelayResponse,
} from '../../src/regional/handle.ts'
import type { VirtualTime } from './clock.ts'
import type { Plan, Totals } from './plan.ts'
import type { Chance } from './random.ts'

export interface SimRegion {
  /** Undefined: no node answers (the connection is refused, or reset half-way). */
  readonly handle: (request: RelayRequest) => Promise<RelayResponse | undefined>
  readonly failOver: (older: boolean, downMs: number) => void
  readonly heal: () => Promise<void>
  readonly store: () => EmbeddedStore
  /** Forks that were answered: a seq with two contents. */
  readonly forks: () => number
  /** The highest seq of a lane that it ever said to be committed. */
  readonly told: (lane: number) => number
}

const imagesKept = 4

export const createSimRegion = async (
  plan: Plan,
  time: VirtualTime,
  host: Host,
  chance: Chance,
  totals: Totals,
): Promise<SimRegion> => {
  let healed = false
  let up = true
  let forks = 0
  const images: Uint8Array[] = []

  const open = async (image?: Uint8Array, promoted = false): Promise<EmbeddedStore> => {
    const store = createEmbeddedStore({
      host,
      extendDictionaryHash,
      ...(image === undefined ? {} : { image }),
      promoted,
      failpoint: (moment) => {
        if (healed || plan.regionCrashOneIn === 0 || !chance.hit(1 / plan.regionCrashOneIn)) return
        up = false
        totals.regionCrashes++
        throw new Error(`the node dies at "${moment}"`)
      },
    })
    const prepared = await store.prepare()
    if (prepared.kind !== 'ok') throw new Error(`prepare: ${prepared.kind}`)
    await createEmbeddedReadBack(store.database).installAudit()
    return store
  }
  const nodesOf = (over: EmbeddedStore): Regional[] =>
    Array.from({ length: plan.regionNodes }, () => createRegional({ store: over, host }))

  let store = await open()
  let nodes = nodesOf(store)
  /** Nodes that answer nothing any more: what they still say was never heard. */
  let generation = 0

  const replace = async (image: Uint8Array, promoted: boolean) => {
    generation++
    const old = store
    store = await open(image, promoted)
    nodes = nodesOf(store)
    await old[Symbol.asyncDispose]()
    up = true
  }
  const restart = (downMs: number, image: () => Uint8Array, promoted: boolean) => {
    up = false
    const mine = ++generation
    time.at(downMs, () => {
      if (mine === generation) void replace(image(), promoted)
    })
  }
  const replicate = () => {
    if (healed) return
    if (up) {
      images.push(store.image())
      if (images.length > imagesKept) images.shift()
    }
    time.at(chance.between(500, 5_000), replicate)
  }
  const copied = plan.events.some(({ kind }) => kind === 'failover' || kind === 'restore-region')
  if (copied || plan.lateFailover) replicate()
  const told = new Map<number, number>()
  const note = (body: Uint8Array) => {
    const said = JSON.parse(Buffer.from(body).toString()) as {
      lanes?: readonly { lane: number; contiguous: number; above: readonly [number, number][] }[]
    }
    for (const { lane, contiguous, above } of said.lanes ?? [])
      told.set(lane, Math.max(told.get(lane) ?? 0, contiguous, above.at(-1)?.[1] ?? 0))
  }

  return {
    handle: async (request) => {
      const mine = generation
      if (!up) return undefined
      const answer = await chance.pick(nodes).handle(request)
      if (mine !== generation) return undefined
      if (!up) {
        restart(chance.between(200, 2_000), () => store.image(), false)
        return undefined
      }
      if (answer.status === 200) note(answer.body)
      if (answer.status === 409 && Buffer.from(answer.body).includes('"code":"fork"')) forks++
      return answer
    },
    failOver: (older, downMs) => {
      const image = older ? images[0] : images.at(-1)
      if (image === undefined || !up) return
      if (older) {
        images.length = 0
        totals.restores++
      } else totals.failovers++
      restart(downMs, () => image, true)
    },
    heal: async () => {
      healed = true
      if (!up) await replace(store.image(), false)
    },
    store: () => store,
    forks: () => forks,
    told: (lane) => told.get(lane) ?? 0,
  }
}
