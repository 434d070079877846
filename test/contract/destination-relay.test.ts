/** The destination contract over the relay: real TLS, the real server, the embedded store. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openLink } from '../../src/cli/demo/link.ts'
import { relayDestination } from '../../src/destinations/relay.ts'
import { createSystemHost } from '../../src/host.ts'
import type { Regional, RelayRequest, RelayResponse } from '../../src/regional/handle.ts'
import { openRegionalServer, type RegionalServerOptions } from '../../src/regional/server.ts'
import { openTlsFiles } from '../../src/tls.ts'
import { createCertificates, type TestCertificates } from '../support/certificates.ts'
import {
  type Answer,
  type DestinationRig,
  type RigOptions,
  runDestinationContract,
} from './destination.ts'
import { createTestLog } from './destination-log.ts'
import { createTestRegion, type TestRegion } from './destination-region.ts'

const agent = 'gw-7'
const host = createSystemHost()
const certificates = createCertificates()
const others = createCertificates()

const serverFiles = async (mine: TestCertificates, fault: RigOptions['fault']) => {
  const expired = { fromMs: Date.now() - 3 * 86_400_000, days: 2 }
  if (fault === 'server-expired') return mine.serverFor('late', ['localhost'], expired)
  if (fault === 'server-of-other-host') return mine.serverFor('other', ['region.example'])
  return mine.server
}
const clientFiles = async (mine: TestCertificates, fault: RigOptions['fault']) =>
  fault === 'credentials'
    ? mine.agent('expired', { fromMs: Date.now() - 3 * 86_400_000, days: 2 })
    : mine.agent(agent)

/** Does to single requests what a rig is asked to do, between the server and the region. */
const createMischief = (regional: () => Regional, cut: () => void) => {
  let next: ((request: RelayRequest) => Promise<RelayResponse>) | undefined
  return {
    set: (act: typeof next) => {
      next = act
    },
    regional: (): Regional => ({
      ...regional(),
      handle: async (request) => {
        const act = request.path === '/v1/segments' ? next : undefined
        if (act === undefined) return regional().handle(request)
        next = undefined
        return act(request)
      },
    }),
    cut,
  }
}

const makeRelayRig = async (
  { fault }: RigOptions = {},
  signed = false,
): Promise<DestinationRig> => {
  const mine = await certificates
  const server = await serverFiles(mine, fault)
  const { ca } = fault === 'server-of-other-ca' ? await others : mine
  let region: TestRegion = await createTestRegion()
  let image: Uint8Array | undefined
  const mischief = createMischief(
    () => region.regional,
    () => link.cut(),
  )
  const audiences: string[] = []
  const options: RegionalServerOptions = {
    regional: mischief.regional(),
    host,
    listen: { address: '127.0.0.1', port: 0 },
    // Signed: TLS ends somewhere else, no client certificate arrives here.
    tls: openTlsFiles(signed ? server : { ca: mine.ca, ...server }, host),
    ...(signed ? { proxy: { agents: openTlsFiles({ ca: mine.ca }, host), audiences } } : {}),
    metrics: { text: async () => '', contentType: 'text/plain' },
    health: async () => ({ good: true, text: '' }),
  }
  const running = await openRegionalServer(options)
  const link = await openLink(running.port)
  audiences.push(`localhost:${link.port}`)
  const log = createTestLog(agent)
  const config = relayDestination.config.parse({
    type: 'relay',
    sign_requests: signed,
    url: `https://localhost:${link.port}`,
    tls: { ca, ...(await clientFiles(mine, fault)) },
  })
  const destination = relayDestination.create(
    { host, name: 'region', agent, spool: log.spool, farTime: () => {} },
    config,
  )
  return {
    destination,
    log,
    arrived: async () => region.points(),
    answerNext: ({ status, headers = {}, body = '' }: Answer) =>
      mischief.set(async () => ({ status, headers, body: Buffer.from(body) })),
    loseNextAnswer: () =>
      mischief.set(async (request) => {
        const answer = await region.regional.handle(request)
        link.cut()
        link.heal()
        return answer
      }),
    holdNext: (arrives) =>
      mischief.set(async (request) => {
        arrives()
        await new Promise((resolve) => request.signal.addEventListener('abort', resolve))
        return region.regional.busy()
      }),
    remember: async () => {
      image = region.store.image()
    },
    forget: async () => {
      await region[Symbol.asyncDispose]()
      region = await createTestRegion(image)
    },
    [Symbol.asyncDispose]: async () => {
      await destination[Symbol.asyncDispose]()
      await link[Symbol.asyncDispose]()
      await running[Symbol.asyncDispose]()
      await region[Symbol.asyncDispose]()
    },
  }
}

runDestinationContract('relay', makeRelayRig, [
  'answers',
  'credentials',
  'lost-answer',
  'rewind',
  'server-expired',
  'server-of-other-ca',
  'server-of-other-host',
])

runDestinationContract('relay, signed', (options) => makeRelayRig(options, true), [
  'lost-answer',
  'rewind',
])

test('relay: nobody at the address is later', async () => {
  const log = createTestLog(agent)
  const mine = await certificates
  const config = relayDestination.config.parse({
    type: 'relay',
    url: 'https://localhost:1',
    tls: { ca: mine.ca, ...(await mine.agent(agent)) },
  })
  const deps = { host, name: 'region', agent, spool: log.spool, farTime: () => {} }
  await using destination = relayDestination.create(deps, config)
  const said = await destination.standing(log.standing(0), new AbortController().signal)
  assert.ok(said.kind === 'later')
  assert.match(said.text, /no answer from localhost:1: .*ECONNREFUSED/)
})
