/**
 * Who a request is from where TLS ends at a proxy: the agent's key signs each request, and the
 * region believes the signature alone, never a bare header.
 *
 * Invariants: the signed text begins with its purpose and holds method, path, agent, epoch,
 * audience, body digest and counter, so that a signature fits one request to one region; the
 * certificate leads to the region's CA, is within its dates and made for clients; a counter is
 * taken once. Pure but for the keys: time is an argument.
 */
import {
  createHash,
  createPublicKey,
  type KeyObject,
  sign,
  verify,
  X509Certificate,
} from 'node:crypto'
import type { EpochId } from '../model.ts'

export const identityHeaders = {
  /** The agent's certificate and its intermediates, DER in base64, separated by spaces. */
  certificate: 'holdfast-certificate',
  signature: 'holdfast-signature',
  /** Host and port as the agent's configuration names the region. */
  audience: 'holdfast-audience',
  /** Grows with each request of an epoch. */
  counter: 'holdfast-counter',
} as const

const purpose = 'holdfast-request-1'
const certificatesMax = 4
const certificateCharsMax = 12 * 1024
const clientAuth = '1.3.6.1.5.5.7.3.2'
/** Requests in flight may overtake each other; older counters than this many are refused. */
const counterWindow = 256
const speakersMax = 100_000

export interface SignedParts {
  readonly method: string
  readonly path: string
  readonly agent: string
  readonly epoch: EpochId
  readonly audience: string
  readonly counter: number
  readonly body: Uint8Array
}

/** One part a line; none of them can hold a line break (headers and paths cannot). */
const signedText = (parts: SignedParts): Buffer => {
  const digest = createHash('sha256').update(parts.body).digest('hex')
  const { method, path, agent, epoch, audience, counter } = parts
  const lines = [purpose, method, path, agent, epoch, audience, String(counter), digest]
  return Buffer.from(lines.join('\n'), 'utf8')
}
/** Ed25519 hashes for itself. */
const hashFor = (key: KeyObject): string | null =>
  key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyType === 'ed448' ? null : 'sha256'

export const signRequest = (parts: SignedParts, key: KeyObject): string =>
  sign(hashFor(key), signedText(parts), key).toString('base64')

export const encodeCertificates = (chain: readonly X509Certificate[]): string =>
  chain.map((one) => one.raw.toString('base64')).join(' ')

export type Verified = { readonly agent: string } | { readonly refused: string }

const decodeCertificates = (header: string): X509Certificate[] | null => {
  if (header.length > certificateCharsMax) return null
  const texts = header.split(' ')
  if (texts.length > certificatesMax) return null
  try {
    return texts.map((text) => new X509Certificate(Buffer.from(text, 'base64')))
  } catch {
    return null
  }
}
const withinDates = (certificate: X509Certificate, nowMs: number): boolean =>
  Date.parse(certificate.validFrom) <= nowMs && nowMs <= Date.parse(certificate.validTo)
const issues = (issuer: X509Certificate, issued: X509Certificate): boolean =>
  issuer.ca && issued.checkIssued(issuer) && issued.verify(issuer.publicKey)

/** Follows the chain from the leaf to one of `roots`; null when it leads there. */
export const chainTrouble = (
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  nowMs: number,
): string | null => {
  for (const [at, certificate] of chain.entries()) {
    if (!withinDates(certificate, nowMs))
      return `certificate is valid ${certificate.validFrom} to ${certificate.validTo} only`
    if (roots.some((root) => withinDates(root, nowMs) && issues(root, certificate))) return null
    const next = chain[at + 1]
    if (next === undefined || !issues(next, certificate)) break
  }
  return 'certificate does not lead to a CA of this region'
}

/** The one common name, or null when there is none or more than one. */
export const commonNameOf = (certificate: X509Certificate): string | null => {
  const { subject } = certificate.toLegacyObject() as { subject?: { CN?: string | string[] } }
  const name = subject?.CN
  return typeof name === 'string' && name !== '' ? name : null
}

/** Everything but the counter: see `createCounters`. */
export const verifyRequest = (
  parts: SignedParts,
  headers: { readonly certificate: string; readonly signature: string },
  roots: readonly X509Certificate[],
  nowMs: number,
): Verified => {
  const chain = decodeCertificates(headers.certificate)
  const leaf = chain?.[0]
  if (chain === null || leaf === undefined) return { refused: 'certificate header does not read' }
  const trouble = chainTrouble(chain, roots, nowMs)
  if (trouble !== null) return { refused: trouble }
  if (leaf.ca || !leaf.keyUsage?.includes(clientAuth))
    return { refused: 'certificate is not made for clients' }
  const name = commonNameOf(leaf)
  if (name === null || name !== parts.agent)
    return { refused: `certificate names "${name ?? ''}", the request "${parts.agent}"` }
  const key = createPublicKey(leaf.publicKey.export({ type: 'spki', format: 'pem' }))
  const signature = Buffer.from(headers.signature, 'base64')
  if (signature.length === 0 || !verify(hashFor(key), signedText(parts), key, signature))
    return { refused: 'signature does not match' }
  return { agent: name }
}

export interface Counters {
  /** False: this counter was seen, or is too old to tell. */
  readonly take: (agent: string, epoch: EpochId, counter: number) => boolean
}
/**
 * Per node and in memory: a request caught and sent again elsewhere is a duplicate there, and
 * changes nothing.
 */
export const createCounters = (): Counters => {
  const speakers = new Map<string, { highest: number; seen: Set<number> }>()
  return {
    take: (agent, epoch, counter) => {
      if (!Number.isSafeInteger(counter) || counter < 1) return false
      const key = `${epoch}/${agent}`
      const speaker = speakers.get(key) ?? { highest: 0, seen: new Set() }
      if (counter <= speaker.highest - counterWindow || speaker.seen.has(counter)) return false
      speaker.seen.add(counter)
      speaker.highest = Math.max(speaker.highest, counter)
      if (speaker.seen.size > 2 * counterWindow) {
        const oldest = speaker.highest - counterWindow
        for (const one of speaker.seen) if (one <= oldest) speaker.seen.delete(one)
      }
      // Insertion order is order of last use: the first is the longest silent.
      speakers.delete(key)
      speakers.set(key, speaker)
      if (speakers.size > speakersMax) speakers.delete(speakers.keys().next().value as string)
      return true
    },
  }
}
