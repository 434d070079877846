/** A region in this process: the production handler over the embedded store, and what stands in its tables. */
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createEmbeddedStore, type EmbeddedStore } from '../../src/database/embedded.ts'
import type { RelayTransport } from '../../src/destinations/relay-transport.ts'
import { createSystemHost } from '../../src/host.ts'
import { createRegional, type Regional, type RegionalLimits } from '../../src/regional/handle.ts'

export interface TestRegion extends AsyncDisposable {
  readonly regional: Regional
  readonly store: EmbeddedStore
  readonly transport: (agent: string) => RelayTransport
  /** Rows of `points`. */
  readonly points: () => number
}
export const createTestRegion = async (
  image?: Uint8Array,
  limits: Partial<RegionalLimits> = {},
): Promise<TestRegion> => {
  const host = createSystemHost()
  const store = createEmbeddedStore({
    host,
    extendDictionaryHash,
    ...(image === undefined ? {} : { image, promoted: true }),
  })
  const prepared = await store.prepare()
  if (prepared.kind !== 'ok') throw new Error(JSON.stringify(prepared))
  const regional = createRegional({ store, host, limits })
  return {
    regional,
    store,
    transport: (agent) => async (post, signal) => {
      const answer = await regional.handle({ ...post, method: 'POST', agent, signal })
      return { ...answer, headers: { date: new Date().toUTCString(), ...answer.headers } }
    },
    points: () => store.database.prepare('select count(*) from points').pluck().get() as number,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  }
}
