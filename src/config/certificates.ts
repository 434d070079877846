/**
 * What can be known of certificates before anything connects: that they parse, fit their keys, have
 * not ended, and name
 * this agent. Invariant: looks only; files that cannot be read are reported elsewhere (HF-C015).
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { textOf } from '../errors.ts'
import type { Path, Trouble } from './source-text.ts'

export interface CertificateOptions {
  readonly nowUs: number
  /** The agent's name: a relay's certificate must carry it as its CN. */
  readonly agent: string | undefined
}
const soonDays = 14
const dayUs = 86_400e6

const read = (file: unknown): string | undefined => {
  try {
    return typeof file === 'string' ? readFileSync(file, 'utf8') : undefined
  } catch {
    return undefined
  }
}
const dates = (certificate: X509Certificate, nowUs: number, path: Path): Trouble[] => {
  const days = Math.floor((certificate.validToDate.getTime() * 1_000 - nowUs) / dayUs)
  if (days >= soonDays) return []
  const text =
    days < 0
      ? `the certificate has ended (${certificate.validTo})`
      : `the certificate ends in ${days} days`
  const hint = 'a renewed file is taken without a restart'
  return [{ severity: 'warning', code: 'HF-C042', text, hint, path, on: 'value' }]
}
const pair = (certificate: X509Certificate, pem: string, path: Path): Trouble[] => {
  try {
    if (certificate.checkPrivateKey(createPrivateKey(pem))) return []
    const text = 'this is not the key of the certificate beside it'
    return [{ code: 'HF-C022', text, hint: 'install the pair', path, on: 'value' }]
  } catch (error) {
    const text = `holds no usable private key: ${textOf(error)}`
    return [{ code: 'HF-C022', text, hint: 'PEM form, without a passphrase', path, on: 'value' }]
  }
}
const identity = (certificate: X509Certificate, agent: string, path: Path): Trouble[] => {
  const name = /^CN=(.*)$/m.exec(certificate.subject)?.[1]
  if (name === agent) return []
  return [
    {
      code: 'HF-C023',
      text: `the certificate is for "${name ?? ''}", but this agent is "${agent}"`,
      hint: 'the region knows an agent by the CN of its certificate: agent.name must be the same',
      path,
      on: 'value',
    },
  ]
}

type Raw = Readonly<Record<string, unknown>>
const isMap = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Every `tls: {cert, key}` below `root`, paths already absolute. */
export const checkCertificates = (
  root: unknown,
  options: CertificateOptions,
  path: Path = [],
): Trouble[] => {
  if (Array.isArray(root))
    return root.flatMap((one, index) => checkCertificates(one, options, [...path, index]))
  if (!isMap(root)) return []
  const below = Object.entries(root).flatMap(([key, one]) =>
    checkCertificates(one, options, [...path, key]),
  )
  const { tls } = root
  if (!isMap(tls)) return below
  const at = (key: string): Path => [...path, 'tls', key]
  const [cert, key] = [read(tls.cert), read(tls.key)]
  if (cert === undefined) return below
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(cert)
  } catch (error) {
    const text = `holds no certificate in PEM form: ${textOf(error)}`
    return [...below, { code: 'HF-C021', text, path: at('cert'), on: 'value' }]
  }
  return [
    ...below,
    ...dates(certificate, options.nowUs, at('cert')),
    ...(key === undefined ? [] : pair(certificate, key, at('key'))),
    ...(root.type === 'relay' && options.agent !== undefined
      ? identity(certificate, options.agent, at('cert'))
      : []),
  ]
}
