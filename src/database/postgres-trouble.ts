/**
 * What PostgreSQL, PgBouncer, TLS and the network say, sorted by who must act: nobody (`later`) or a person
 * (`blocked`).
 */
import { Failure, textOf } from '../errors.ts'
import type { StoreTrouble } from './store.ts'

/** An error's SQLSTATE, or Node's own code. */
export const codeOf = (error: unknown): string => {
  if (typeof error !== 'object' || error === null || !('code' in error)) return ''
  return typeof error.code === 'string' ? error.code : ''
}

/** The server is a standby: another host may be the primary. */
export const isStandby = (error: unknown): boolean => codeOf(error) === '25006'
export const isDuplicateKey = (error: unknown): boolean => codeOf(error) === '23505'
/** The same transaction may succeed at once. */
export const isConflict = (error: unknown): boolean =>
  ['40001', '40P01', '55P03'].includes(codeOf(error))

const renewHint =
  'A password in a file of its own (file:) is read again at each try; after a change of the configuration, ' +
  'of env: or of cred: restart.'
const plan = (who: string) =>
  `Run the plan ${who}: holdfast regional plan, or holdfast destination plan NAME.`
const blocked: readonly (readonly [pattern: RegExp, code: string, hint: string])[] = [
  [/^28/, 'HF-D020', `Check user and password, and pg_hba.conf on the server. ${renewHint}`],
  [/^3D000$/, 'HF-D020', 'The database does not exist: create it, or correct the name.'],
  [/^42501$/, 'HF-D023', plan('as the owner of the tables')],
  [/^(42P01|42703|3F000|42883)$/, 'HF-D024', plan('as the owner of the database')],
  [/^53100$/, 'HF-D010', 'The database’s disk is full: free space; sending goes on by itself.'],
  [/^22/, 'HF-D022', 'A value cannot be stored; look at the series named in the server’s log.'],
  [/^0A/, 'HF-D025', 'The database refuses this kind of write; check extensions and policies.'],
  [/^(XX|58P0)/, 'HF-D011', 'The database reports damage: look into its log at once.'],
  [
    /^(CERT_|ERR_TLS|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH|ERR_SSL|ERR_OSSL)/,
    'HF-D021',
    'Check the CA file, the host name in the address, and the server’s certificate.',
  ],
]

const certificate = 'the certificate of the database server'
const textFor = (error: unknown, code: string): string => {
  // Several addresses of one name that all fail come as one error without a text of its own.
  const text = textOf(error instanceof AggregateError ? error.errors[0] : error)
  if (text === 'Connection terminated due to connection timeout')
    return 'no connection in time: is the link up, and is it PostgreSQL that listens there?'
  if (code === 'CERT_HAS_EXPIRED') return `${certificate} has expired`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `${certificate} is for another name: ${text}`
  if (/^(UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|CERT_(SIGNATURE|UNTRUSTED|REJECTED))/.test(code))
    return `${certificate} is not signed by the configured CA (${code})`
  return code === '' ? text : `${text} (${code})`
}

export const troubleOf = (error: unknown): StoreTrouble => {
  const sqlstate = codeOf(error)
  const text = textFor(error, sqlstate)
  const row = blocked.find(([pattern]) => pattern.test(sqlstate))
  if (row !== undefined) return { kind: 'blocked', code: row[1], text, hint: row[2] }
  if (/does not support SSL/.test(text)) {
    const hint = 'Turn TLS on in the server (ssl = on), or in PgBouncer (client_tls_sslmode).'
    return { kind: 'blocked', code: 'HF-D021', text, hint }
  }
  // PgBouncer has one code for everything it refuses.
  if (/SASL|password|no such (user|database)|database .* does not exist/.test(text)) {
    const hint = `Check user, password and database, and that the server uses SCRAM. ${renewHint}`
    const said = /SASL/.test(text) ? `${text}: wrong user or password?` : text
    return { kind: 'blocked', code: 'HF-D020', text: said, hint }
  }
  if (!isOutOfTime(error)) return { kind: 'later', text }
  return { kind: 'later', text: `the database was not done in time: ${text}`, stalled: true }
}
/** The server's patience with a statement is over, or the client's (`query_timeout`), which has words alone. */
const isOutOfTime = (error: unknown): boolean =>
  codeOf(error) === '57014' || (error instanceof Error && error.message === 'Query read timeout')

/**
 * The server itself answered, in good order: the connection is fit for a ROLLBACK and for more. Only its answers have a
 * severity; pg's class for them is not asked for, since pg is loaded with the first connection.
 */
export const isServerAnswer = (error: unknown): boolean =>
  error instanceof Error && 'severity' in error && typeof error.severity === 'string'

/**
 * Is this something the outside said (an answer), or a bug of ours (to be thrown on)? pg's own messages about
 * lost connections are plain errors without a code.
 */
export const isExpected = (error: unknown): boolean =>
  error instanceof Error &&
  !(error instanceof Failure) &&
  !bugs.some((kind) => error instanceof kind) &&
  codeOf(error) !== 'ERR_ASSERTION'
const bugs = [TypeError, RangeError, ReferenceError, SyntaxError]
