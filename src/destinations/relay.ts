/**
 * `type: relay`: sends to a Holdfast regional node, which commits to its database and keeps the
 * books. Only the wiring stands here: `relay-client.ts` speaks the protocol, `relay-http.ts`
 * carries it.
 */
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { relayBodyBytesDefault, relayBodyBytesMax } from '../limits.ts'
import type { Destination } from '../model.ts'
import { contentTypes, protocolVersion, relayHeaders, relayPaths } from '../protocol/relay.ts'
import { openTlsFiles } from '../tls.ts'
import { duration, size } from '../units.ts'
import { type DestinationDeps, defineDestination } from './destination.ts'
import { type LinkTarget, type Reading, unwell, well } from './link.ts'
import { createRelayClient } from './relay-client.ts'
import { createHttpTransport, loadHttp } from './relay-http.ts'
import { readReply, relayCodes } from './relay-outcome.ts'
import type { RelayReply } from './relay-transport.ts'
import { troubleOf } from './relay-trouble.ts'

const path = z.string().min(1)
const urlOf = (protocols: readonly string[]) =>
  z.string().transform((text, context) => {
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (url !== undefined && protocols.includes(url.protocol)) return url
    const wanted = protocols.map((one) => `${one}//`).join(' or ')
    context.addIssue({ code: 'custom', message: `must be a URL that begins with ${wanted}` })
    return z.NEVER
  })

const relayConfig = z.strictObject({
  type: z.literal('relay'),
  url: urlOf(['https:']).describe('Address of the regional node, https://host:port'),
  tls: z
    .strictObject({
      ca: path.describe('CA of the regional node (PEM)'),
      cert: path.describe('Certificate of this agent (PEM); its CN is the agent’s name'),
      key: path.describe('Its key (PEM)'),
    })
    .describe('Both sides prove who they are; changed files are taken without a restart'),
  proxy: urlOf(['http:']).optional().describe('HTTP proxy to CONNECT through'),
  request_timeout: duration()
    .prefault('30s')
    .describe('Without an answer for so long a request is sent again; large bodies get more'),
  body_max: size()
    .prefault(`${relayBodyBytesDefault / 1024}KiB`)
    .pipe(
      z
        .number()
        .min(16 * 1024)
        .max(relayBodyBytesMax),
    )
    .describe('Largest request'),
  sign_requests: z
    .boolean()
    .default(false)
    .describe('Sign each request with the agent’s key, for a region behind a proxy that ends TLS'),
})

const create = (deps: DestinationDeps, config: z.output<typeof relayConfig>): Destination => {
  const { host } = deps
  const tls = openTlsFiles(config.tls, host, { watch: true })
  const { url, proxy, sign_requests: sign } = config
  const showExpiry = () => {
    const expiresUs = tls.expiresAtUs()
    const name = 'holdfast_certificate_expiry_timestamp_seconds'
    if (expiresUs !== null) host.meter.gauge(name, expiresUs / 1e6, { use: deps.name })
  }
  showExpiry()
  tls.onChange(showExpiry)
  const http = createHttpTransport({ url, tls, host, proxy, sign })
  let answered = false
  return createRelayClient(deps, {
    transport: async (post, signal) => {
      const reply = await http.transport(post, signal)
      answered = true
      return reply
    },
    requestTimeoutMs: config.request_timeout,
    bodyBytesMax: config.body_max,
    bytesSent: http.bytesSent,
    troubleOf: (error) => {
      const trouble = troubleOf(error, {
        authority: url.host,
        nowUs: host.clock.nowUs(),
        certificateExpiresAtUs: tls.expiresAtUs(),
        answered,
      })
      // Not every filesystem tells of changes: look for mended files where certificates may be it.
      if (trouble.kind === 'blocked') tls.reload()
      return trouble
    },
    close: async () => {
      await http.close()
      tls[Symbol.dispose]()
    },
  })
}

/** A hello that says nothing is refused only after the region has seen who asks: that refusal is the good answer. */
const readEmptyHello = (reply: RelayReply): Reading => {
  const reading = readReply(reply, 0)
  if (reading.kind !== 'setback') return well('a regional node answers')
  const { setback } = reading
  const understood = `the region did not understand: protocol`
  if (setback.kind !== 'blocked')
    return unwell('HF-N020', setback.text, 'Look at the regional node, and what stands before it.')
  if (setback.code === relayCodes.notUnderstood && !setback.text.startsWith(understood))
    return well('a regional node answers, and takes the certificate of this agent')
  return unwell(setback.code, setback.text, setback.hint)
}
const link = (config: z.output<typeof relayConfig>, agent: string): LinkTarget => {
  const { url, proxy, tls, sign_requests: sign } = config
  const headers = {
    'content-type': contentTypes.json,
    [relayHeaders.protocol]: String(protocolVersion),
    [relayHeaders.agent]: agent,
    // Signed requests are counted by epoch: one of its own, so that no count of the agent's is used up.
    [relayHeaders.epoch]: randomBytes(16).toString('hex'),
  }
  const body = new Uint8Array(Buffer.from('{}'))
  return {
    url,
    proxy,
    tls,
    sign,
    hello: { path: relayPaths.hello, headers, body, read: readEmptyHello },
  }
}

export const relayDestination = defineDestination({
  type: 'relay',
  config: relayConfig,
  load: loadHttp,
  create,
  link,
})
