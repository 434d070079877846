/**
 * The relay's transport in production: HTTP/1.1 over TLS 1.3 with the agent's certificate, by
 * undici, loaded when first used.
 *
 * Invariants: at most `connectionsMax` connections; the server's name and chain are always
 * verified; each request has a deadline that ends it whatever the connection does; changed
 * certificates are used from the next request on, requests in flight end on the old ones.
 */
import { createPrivateKey } from 'node:crypto'
import type { buildConnector, Dispatcher } from 'undici'
import { Failure } from '../errors.ts'
import type { Host } from '../host.ts'
import { relayBodyBytesMax, requestsInFlightDefault } from '../limits.ts'
import { encodeCertificates, identityHeaders, signRequest } from '../protocol/identity.ts'
import { relayHeaders } from '../protocol/relay.ts'
import { certificatesIn, type TlsFiles, tlsVersionMin } from '../tls.ts'
import type { RelayPost, RelayTransport } from './relay-transport.ts'
import { createWireCount, type WireCount } from './wire-count.ts'

export interface HttpOptions {
  /** `https://host:port/prefix`; a path stands before the protocol's own. */
  readonly url: URL
  readonly tls: TlsFiles
  readonly host: Pick<Host, 'clock'>
  /** CONNECT through this proxy, `http://user:password@host:port`. */
  readonly proxy?: URL | undefined
  /** Sign each request too, for a region whose TLS ends at a proxy. */
  readonly sign: boolean
}
export interface HttpTransport {
  readonly transport: RelayTransport
  readonly bytesSent: () => number
  readonly close: () => Promise<void>
}

/** Fresh points must not wait behind a backlog's requests: room for both pumps of a lane, by default. */
const connectionsMax = 2 * requestsInFlightDefault
const connectMs = 10_000
/** Longer than the minute between two hellos of an idle agent. */
const keepAliveMs = 90_000

/** Memory that an agent without such a destination does not need. */
export const loadHttp = async () => {
  const { Agent, Pool, ProxyAgent, buildConnector } = await import('undici')
  return { Agent, Pool, ProxyAgent, buildConnector }
}

const counting =
  (connect: buildConnector.connector, { track }: WireCount): buildConnector.connector =>
  (to, done) =>
    connect(to, (...answer) => {
      if (answer[0] === null) track(answer[1])
      done(...answer)
    })
const createDispatcher = async (options: HttpOptions, wire: WireCount): Promise<Dispatcher> => {
  const { Agent, Pool, ProxyAgent, buildConnector } = await loadHttp()
  const tls = { ...options.tls.current(), minVersion: tlsVersionMin } as const
  const common = {
    connections: connectionsMax,
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: keepAliveMs,
    keepAliveMaxTimeout: 10 * keepAliveMs,
    maxResponseSize: relayBodyBytesMax,
    // The deadline of each request is its own; see `createHttpTransport`.
    headersTimeout: 0,
    bodyTimeout: 0,
  } as const
  const { proxy } = options
  if (proxy === undefined) {
    const how = { ...tls, allowH2: false, timeout: connectMs, keepAlive: true }
    return new Agent({ ...common, connect: counting(buildConnector(how), wire) })
  }
  const { username, password } = proxy
  const user = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return new ProxyAgent({
    ...common,
    uri: proxy.origin,
    requestTls: { ...tls, timeout: connectMs },
    factory: (origin, { connect, ...rest }: { connect?: buildConnector.connector }) =>
      new Pool(origin, {
        ...rest,
        ...(connect === undefined ? {} : { connect: counting(connect, wire) }),
      }),
    ...(username === '' ? {} : { token: `Basic ${Buffer.from(user, 'utf8').toString('base64')}` }),
  })
}

/** Header that says who it is where TLS ends before the region. */
const createSigner = ({ tls, url }: HttpOptions) => {
  let counter = 0
  return ({ path, headers, body }: RelayPost): Record<string, string> => {
    const { cert = '', key = '' } = tls.current()
    counter++
    const parts = {
      method: 'POST',
      path,
      agent: headers[relayHeaders.agent] ?? '',
      epoch: headers[relayHeaders.epoch] ?? '',
      audience: url.host,
      counter,
      body,
    }
    return {
      [identityHeaders.certificate]: encodeCertificates(certificatesIn(cert)),
      [identityHeaders.audience]: url.host,
      [identityHeaders.counter]: String(counter),
      [identityHeaders.signature]: signRequest(parts, createPrivateKey(key)),
    }
  }
}

const headersOf = (raw: Dispatcher.ResponseData['headers']): Record<string, string | undefined> =>
  Object.fromEntries(
    Object.entries(raw).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]),
  )

/**
 * undici tells a request that waits for its connection of an abort only once that is made, or has
 * failed.
 */
const rejection = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

export const createHttpTransport = (options: HttpOptions): HttpTransport => {
  const { url, tls, host } = options
  const prefix = url.pathname.replace(/\/+$/, '')
  const signer = options.sign ? createSigner(options) : undefined
  const wire = createWireCount()
  let dispatcher: Promise<Dispatcher> | undefined
  const letGo = async () => {
    const old = dispatcher
    dispatcher = undefined
    // A dispatcher that never came to be has nothing to close.
    await old?.then((one) => one.close()).catch(() => undefined)
  }
  const stopListening = tls.onChange(() => void letGo())

  const exchange = async (using: Dispatcher, post: RelayPost, signal: AbortSignal) => {
    const answer = await using.request({
      origin: url.origin,
      path: `${prefix}${post.path}`,
      method: post.method ?? 'POST',
      headers: { ...post.headers, ...signer?.(post) },
      body: post.method === 'GET' ? null : post.body,
      signal,
    })
    const body = new Uint8Array(await answer.body.arrayBuffer())
    return { status: answer.statusCode, headers: headersOf(answer.headers), body }
  }
  const transport: RelayTransport = async (post, signal) => {
    dispatcher ??= createDispatcher(options, wire)
    const using = await dispatcher
    const stop = new AbortController()
    const give = () => stop.abort(signal.reason)
    if (signal.aborted) give()
    signal.addEventListener('abort', give, { once: true })
    const cancel = host.clock.after(post.timeoutMs, () =>
      stop.abort(new Failure('HF-N020', `no answer within ${post.timeoutMs} ms`)),
    )
    try {
      return await Promise.race([exchange(using, post, stop.signal), rejection(stop.signal)])
    } finally {
      cancel()
      signal.removeEventListener('abort', give)
    }
  }
  return {
    transport,
    bytesSent: wire.total,
    close: async () => {
      stopListening()
      const old = dispatcher
      dispatcher = undefined
      if (old !== undefined) await (await old).destroy()
    },
  }
}
