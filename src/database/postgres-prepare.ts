/**
 * Bringing PostgreSQL's schema up to date, or saying precisely what is missing.
 *
 * Invariant: any number of regional nodes may prepare at once: one migrates, the others find it done.
 */
import type pg from 'pg'
import { lookIdentity } from './postgres-books.ts'
import { standbyError } from './postgres-hosts.ts'
import { codeOf } from './postgres-trouble.ts'
import { migrationLock, migrationSql, postgresMigrations, rightsNeeded } from './schema-postgres.ts'
import type { StoreAnswer } from './store.ts'

const versionOf = async (client: pg.ClientBase): Promise<number> => {
  // Reading pg_class (unlike to_regclass) also takes in what another node has created since this transaction began.
  const there = await client.query(
    `select from pg_class where relname = 'schema_version' and pg_table_is_visible(oid)`,
  )
  if (there.rowCount === 0) return 0
  const { rows } = await client.query<{ version: number }>(
    'select coalesce(max(version), 0) as version from schema_version',
  )
  return rows[0]?.version ?? 0
}

const missingRights = async (client: pg.ClientBase): Promise<readonly string[]> => {
  const { rows } = await client.query<{ missing: string }>({
    text: `select r || ' on ' || t as missing from unnest($1::text[], $2::text[]) as need (t, r)
      where not has_table_privilege(t, r)`,
    values: [rightsNeeded.map(([table]) => table), rightsNeeded.map(([, right]) => right)],
  })
  return rows.map((row) => row.missing)
}

const missingText = (version: number): string =>
  `the schema is at version ${version} of ${postgresMigrations.length}: missing ${postgresMigrations
    .slice(version)
    .map((_, at) => `migration ${version + at + 1}`)
    .join(', ')}`

const hint =
  'As the owner of the database run the plan: holdfast regional plan --role ROLE | psql DATABASE ' +
  '(for an agent that writes by itself: holdfast destination plan NAME)'

export const prepareSchema = async (
  client: pg.ClientBase,
  /** Null: only look. */
  onMigrated: ((version: number) => void) | null,
): Promise<StoreAnswer<object>> => {
  const latest = postgresMigrations.length
  const { rows } = await client.query<{ standby: boolean; encoding: string }>(
    `select pg_is_in_recovery() as standby, current_setting('server_encoding') as encoding`,
  )
  const { standby = false, encoding = '' } = rows[0] ?? {}
  if (standby) throw standbyError()
  if (encoding !== 'UTF8') {
    const text = `the database has the encoding ${encoding}, which cannot hold every text`
    const made = 'Make a database with: create database NAME encoding UTF8 template template0'
    return { kind: 'blocked', code: 'HF-D026', text, hint: made }
  }
  let version = await versionOf(client)
  if (version < latest && onMigrated === null)
    return { kind: 'blocked', code: 'HF-D024', text: missingText(version), hint }
  if (version < latest && onMigrated !== null) {
    try {
      await client.query('begin')
      await client.query(`select pg_advisory_xact_lock(${migrationLock})`)
      version = await versionOf(client)
      if (version < latest) await client.query(migrationSql(version))
      await client.query('commit')
      if (version < latest) onMigrated(latest)
      version = latest
    } catch (error) {
      await client.query('rollback')
      if (codeOf(error) !== '42501') throw error
      return { kind: 'blocked', code: 'HF-D024', text: missingText(version), hint }
    }
  }
  if (version > latest) {
    const text = `the database has schema ${version}, this version knows up to ${latest}`
    const newer = 'Start the newer version again: a schema does not go back.'
    return { kind: 'blocked', code: 'HF-D002', text, hint: newer }
  }
  await lookIdentity(client)
  const missing = await missingRights(client)
  if (missing.length === 0) return { kind: 'ok' }
  return { kind: 'blocked', code: 'HF-D023', text: `missing rights: ${missing.join(', ')}`, hint }
}
