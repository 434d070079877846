/** The two databases a region may stand on, for tests that must hold on both. */
import { createCertificates, type TestCertificates } from './certificates.ts'
import { type Postgres, startPgBouncer, startPostgres } from './servers.ts'

export const databaseKinds = ['postgres', 'embedded'] as const
export type DatabaseKind = (typeof databaseKinds)[number]

export interface TestDatabase {
  readonly certificates: TestCertificates
  /** What a site is given: PostgreSQL by way of PgBouncer, nothing for the embedded store. */
  readonly site: {
    readonly certificates: TestCertificates
    readonly database?: { readonly url: string; readonly postgres: Postgres }
  }
  readonly stop: () => Promise<void>
}

export const openDatabase = async (kind: DatabaseKind): Promise<TestDatabase> => {
  const certificates = await createCertificates()
  if (kind === 'embedded') return { certificates, site: { certificates }, stop: async () => {} }
  const postgres = await startPostgres({ certificates })
  const bouncer = await startPgBouncer(postgres, certificates)
  return {
    certificates,
    site: { certificates, database: { url: bouncer.url, postgres } },
    stop: async () => {
      await bouncer.stop()
      await postgres.stop()
    },
  }
}
