/**
 * A small certificate authority for development, demo and tests: P-256 keys, a CA, server and agent certificates.
 * Production sites bring their own PKI; `holdfast init --development-ca` says so when it writes these.
 */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

type CryptoKey = webcrypto.CryptoKey

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0])

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const dayMs = 86_400_000

export interface KeyPairPem {
  readonly certPem: string
  readonly keyPem: string
}
export interface Validity {
  /** Milliseconds since 1970; certificates start an hour earlier, so that a slightly slow clock accepts them. */
  readonly fromMs: number
  readonly days: number
}
export interface DevelopmentCa {
  readonly caPem: string
  readonly caKeyPem: string
  /** TLS server certificate for these DNS names and IP addresses. */
  readonly server: (names: readonly string[], validity?: Validity) => Promise<KeyPairPem>
  /** Client certificate whose CN is the agent's name. */
  readonly agent: (name: string, validity?: Validity) => Promise<KeyPairPem>
}

const pemOfKey = async (key: CryptoKey): Promise<string> => {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64')
  return `-----BEGIN PRIVATE KEY-----\n${der.replace(/.{64}/g, '$&\n').trimEnd()}\n-----END PRIVATE KEY-----\n`
}
const keyOfPem = async (pem: string): Promise<CryptoKey> => {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  return webcrypto.subtle.importKey('pkcs8', der, algorithm, true, ['sign'])
}
const isAddress = (name: string) => /^[\d.]+$/.test(name) || name.includes(':')
const serial = () => Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString('hex')
const dates = ({ fromMs, days }: Validity) => ({
  notBefore: new Date(fromMs - 3_600_000),
  notAfter: new Date(fromMs + days * dayMs),
})

const issue = async (
  caCert: x509.X509Certificate,
  caKey: CryptoKey,
  validity: Validity,
  subject: string,
  names: readonly string[],
  use: 'server' | 'agent',
): Promise<KeyPairPem> => {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const usage =
    use === 'server' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [{ CN: [subject] }],
    issuer: caCert.subject,
    ...dates(validity),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: caKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage]),
      await x509.AuthorityKeyIdentifierExtension.create(caCert),
      ...(use === 'server'
        ? [
            new x509.SubjectAlternativeNameExtension(
              names.map((name) => ({ type: isAddress(name) ? 'ip' : 'dns', value: name })),
            ),
          ]
        : []),
    ],
  })
  return { certPem: `${certificate.toString('pem')}\n`, keyPem: await pemOfKey(keys.privateKey) }
}

const open = (
  caPem: string,
  caKeyPem: string,
  caKey: CryptoKey,
  standard: Validity,
): DevelopmentCa => {
  const caCert = new x509.X509Certificate(caPem)
  return {
    caPem,
    caKeyPem,
    server: (names, validity = standard) =>
      issue(caCert, caKey, validity, names[0] ?? 'localhost', names, 'server'),
    agent: (name, validity = standard) => issue(caCert, caKey, validity, name, [], 'agent'),
  }
}

export const createDevelopmentCa = async (
  name: string,
  validity: Validity,
): Promise<DevelopmentCa> => {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [name] }],
    ...dates(validity),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return open(
    `${certificate.toString('pem')}\n`,
    await pemOfKey(keys.privateKey),
    keys.privateKey,
    validity,
  )
}

/** Goes on with a CA made earlier, so that a second agent can be added to it. */
export const openDevelopmentCa = async (
  caPem: string,
  caKeyPem: string,
  validity: Validity,
): Promise<DevelopmentCa> => open(caPem, caKeyPem, await keyOfPem(caKeyPem), validity)
