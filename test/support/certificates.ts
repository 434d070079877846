/** Certificates of one test: a CA, a server for localhost, agents by name, written where any user may read them. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  createDevelopmentCa,
  type DevelopmentCa,
  type Validity,
} from '../../src/regional/development-ca.ts'
import { temporaryFolder } from './temp.ts'

export interface KeyFiles {
  readonly cert: string
  readonly key: string
}
export interface TestCertificates {
  readonly folder: string
  readonly authority: DevelopmentCa
  /** Path of the CA's certificate. */
  readonly ca: string
  readonly server: KeyFiles
  readonly agent: (name: string, validity?: Validity) => Promise<KeyFiles>
  readonly serverFor: (
    file: string,
    names: readonly string[],
    validity?: Validity,
  ) => Promise<KeyFiles>
}

/** `validity` of the CA and, by it, of everything it signs: for clocks that are far from right. */
export const createCertificates = async (
  validity: Validity = { fromMs: Date.now(), days: 2 },
): Promise<TestCertificates> => {
  const folder = temporaryFolder('tls')
  chmodSync(folder, 0o755)
  const authority = await createDevelopmentCa('Holdfast test CA', validity)
  const write = (file: string, pair: { certPem: string; keyPem: string }): KeyFiles => {
    const files = { cert: join(folder, `${file}.crt`), key: join(folder, `${file}.key`) }
    writeFileSync(files.cert, pair.certPem)
    // World-readable: servers of the tests run as another user than the tests.
    writeFileSync(files.key, pair.keyPem, { mode: 0o644 })
    return files
  }
  const ca = join(folder, 'ca.crt')
  writeFileSync(ca, authority.caPem)
  return {
    folder,
    authority,
    ca,
    server: write('server', await authority.server(['localhost', '127.0.0.1'])),
    agent: async (name, validity) => write(name, await authority.agent(name, validity)),
    serverFor: async (file, names, validity) =>
      write(file, await authority.server(names, validity)),
  }
}
