/**
 * Certificate files of one endpoint: loaded, checked, and swapped while running.
 *
 * Invariants: what `current()` gives was parsed, the key matches the certificate, and a secure
 * context was made of it; files that fail this leave the earlier ones in use, with a WARN;
 * verification is never off and TLS is 1.3 at least.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import { createSecureContext } from 'node:tls'
import { Failure, textOf } from './errors.ts'
import type { Host } from './host.ts'

export const tlsVersionMin = 'TLSv1.3'

export interface TlsPaths {
  /** CAs that the other side is verified by; without it the system's. */
  readonly ca?: string | undefined
  /** Own certificate, intermediates after it, and its key: both or none. */
  readonly cert?: string | undefined
  readonly key?: string | undefined
}
export interface TlsMaterial {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}
export interface TlsFiles extends Disposable {
  readonly current: () => TlsMaterial
  /**
   * When the own certificate (or the first of its intermediates) expires, microseconds since 1970;
   * null without one.
   */
  readonly expiresAtUs: () => number | null
  /** Called after each swap; the returned function ends it. */
  readonly onChange: (listener: () => void) => () => void
  /** Reads the files again now (SIGHUP). False: they do not work, the earlier ones stay. */
  readonly reload: () => boolean
}
export interface TlsOptions {
  /** Follow changes on disk by themselves. */
  readonly watch?: boolean
}
type TlsHost = Pick<Host, 'clock' | 'log'>

/** Programs replace several files one after another: look once they are done. */
const settleMs = 500
const hint =
  'PEM files: the CA, the own certificate (intermediates after it), its key without passphrase.'

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Failure('HF-N001', `cannot read ${path}: ${textOf(error)}`, hint, { cause: error })
  }
}
/** Every certificate of a PEM file, in its order. */
export const certificatesIn = (pem: string): X509Certificate[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (one) => new X509Certificate(one),
  )
const parse = (path: string, pem: string): X509Certificate[] => {
  try {
    const certificates = certificatesIn(pem)
    if (certificates.length > 0) return certificates
  } catch (error) {
    throw new Failure('HF-N002', `${path} holds a broken certificate: ${textOf(error)}`, hint)
  }
  throw new Failure('HF-N002', `${path} holds no certificate in PEM form`, hint)
}

interface Loaded {
  readonly material: TlsMaterial
  readonly expiresAtUs: number | null
}

const load = (paths: TlsPaths): Loaded => {
  const { ca: caPath, cert: certPath, key: keyPath } = paths
  if ((certPath === undefined) !== (keyPath === undefined))
    throw new Failure('HF-N003', 'a certificate needs its key, and a key its certificate', hint)
  const ca = caPath === undefined ? {} : { ca: readText(caPath) }
  if (caPath !== undefined && ca.ca !== undefined) parse(caPath, ca.ca)
  let own: { cert: string; key: string } | undefined
  let expiresAtUs: number | null = null
  if (certPath !== undefined && keyPath !== undefined) {
    own = { cert: readText(certPath), key: readText(keyPath) }
    const chain = parse(certPath, own.cert)
    let matches: boolean
    try {
      matches = (chain[0] as X509Certificate).checkPrivateKey(createPrivateKey(own.key))
    } catch (error) {
      throw new Failure('HF-N002', `${keyPath} holds no usable key: ${textOf(error)}`, hint)
    }
    if (!matches)
      throw new Failure('HF-N003', `${keyPath} is not the key of ${certPath}`, 'Install the pair.')
    expiresAtUs = Math.min(...chain.map((one) => Date.parse(one.validTo))) * 1000
  }
  const material: TlsMaterial = { ...ca, ...own }
  try {
    createSecureContext({ ...material, minVersion: tlsVersionMin })
  } catch (error) {
    throw new Failure('HF-N004', `these certificates are not usable: ${textOf(error)}`, hint)
  }
  return { material, expiresAtUs }
}

/** Folders, not files: Kubernetes swaps a link beside them, certbot the files themselves. */
const watchFolders = (paths: TlsPaths, host: TlsHost, changed: () => void): (() => void) => {
  const files = [paths.ca, paths.cert, paths.key].filter((path) => path !== undefined)
  const ended = (folder: string, error: unknown) =>
    host.log.warn('certificates_not_watched', { folder, error: textOf(error) })
  const watchers = [...new Set(files.map((file) => dirname(file)))].flatMap((folder) => {
    try {
      const watcher = watch(folder, { persistent: false }, changed)
      watcher.on('error', (error) => {
        ended(folder, error)
        watcher.close()
      })
      return [watcher]
    } catch (error) {
      // Out of watches: a reload by hand, or the next trouble with a certificate, still looks.
      ended(folder, error)
      return []
    }
  })
  return () => {
    for (const watcher of watchers) watcher.close()
  }
}

/** Throws Failure HF-N001…N004 when the files do not work at the start. */
export const openTlsFiles = (
  paths: TlsPaths,
  host: TlsHost,
  options: TlsOptions = {},
): TlsFiles => {
  let loaded = load(paths)
  const listeners = new Set<() => void>()
  const same = (one: TlsMaterial, other: TlsMaterial) =>
    one.ca === other.ca && one.cert === other.cert && one.key === other.key

  const reload = (): boolean => {
    let next: Loaded
    try {
      next = load(paths)
    } catch (error) {
      const code = error instanceof Failure ? error.code : undefined
      host.log.warn('certificates_not_taken', { code, error: textOf(error) })
      return false
    }
    if (same(next.material, loaded.material)) return true
    loaded = next
    host.log.info('certificates_taken', { cert: paths.cert, expiresAtUs: next.expiresAtUs })
    for (const listener of listeners) listener()
    return true
  }
  let cancel: (() => void) | undefined
  const stopWatching =
    options.watch === true
      ? watchFolders(paths, host, () => {
          cancel?.()
          cancel = host.clock.after(settleMs, reload)
        })
      : () => {}
  return {
    current: () => loaded.material,
    expiresAtUs: () => loaded.expiresAtUs,
    onChange: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    reload,
    [Symbol.dispose]: () => {
      stopWatching()
      cancel?.()
      listeners.clear()
    },
  }
}
