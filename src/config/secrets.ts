/**
 * `${env:NAME}`, `${file:/path}`, `${cred:NAME}` in the fields that may hold a secret, and nowhere else; where a field
 * names a file, `${cred:NAME}` alone is the credential's path.
 * Invariants: what is resolved is returned as a secret, so that log and errors can hide it; a reference in any other
 * field is an error, not text that travels on silently.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { deniedBy, Failure, isDenied, isFailure, textOf } from '../errors.ts'
import { isSecretName } from '../observability/redact.ts'
import { isPathField } from './paths.ts'
import type { Path, Trouble } from './source-text.ts'

export type Environment = Readonly<Record<string, string | undefined>>
export interface Resolved {
  readonly value: unknown
  /** Resolved and literal secrets. */
  readonly secrets: readonly string[]
  /** Where secrets stand literally in the file. */
  readonly literal: readonly Path[]
  /** Addresses with a password written into them. */
  readonly inUrl: readonly Path[]
  readonly troubles: readonly Trouble[]
}

const secretBytesMax = 64 * 1024
const reference = /\$\{([^}]{0,512})\}/g
/** The key a value stands under; names inside `fields` and `tags` are the plant's, and mean nothing to us. */
const nameOf = (path: Path): string =>
  path.includes('fields') || path.includes('tags')
    ? ''
    : (path.findLast((step) => typeof step === 'string')?.toString() ?? '')
export const isSecretPath = (path: Path): boolean => isSecretName(nameOf(path))
/** `url` and `username` may refer to secrets, but a literal one there is none. */
const mayRefer = (path: Path) =>
  isSecretPath(path) || /^(url|urls|database|username|user)$/.test(nameOf(path))

const literalPassword = /^[a-z][a-z0-9+.-]{0,15}:\/\/[^\s/@:]{0,256}:(?!\$\{)([^\s/@]{1,256})@/i

const readSecret = (path: string): string => {
  if (statSync(path).size > secretBytesMax) throw new Error(`${path} is larger than 64 KiB`)
  return readFileSync(path, 'utf8').replace(/\r?\n$/, '')
}
const credentialPath = (name: string, environment: Environment): string => {
  const folder = environment.CREDENTIALS_DIRECTORY
  if (!/^[A-Za-z0-9_.-]+$/.test(name) || name.startsWith('.'))
    throw new SyntaxError(`"${name}" is no credential name`)
  if (!folder)
    throw new Failure(
      'HF-C012',
      `the credential "${name}" is given by systemd to the unit alone, and this is not the unit ` +
        '($CREDENTIALS_DIRECTORY is not set)',
      `the unit gives it by LoadCredential=${name}:FILE; while it runs, root can look: ` +
        'sudo holdfast check --unit holdfast',
    )
  return join(folder, name)
}
const lookUp = (text: string, environment: Environment): string => {
  const [, scheme, name = ''] = /^(env|file|cred):(.+)$/s.exec(text) ?? []
  if (scheme === 'env') {
    const value = environment[name]
    if (value === undefined || value === '')
      throw new Error(`environment variable ${name} is not set`)
    return value
  }
  if (scheme === 'file') {
    if (!name.startsWith('/'))
      throw new SyntaxError(`\${file:…} needs an absolute path, got "${name}"`)
    return readSecret(name)
  }
  if (scheme === 'cred') return readSecret(credentialPath(name, environment))
  throw new SyntaxError(
    `"\${${text}}" is no reference: use \${env:NAME}, \${file:/path} or \${cred:NAME}`,
  )
}

export interface RereadOptions {
  readonly environment: Environment
  /** Hears of every secret that is read later on. */
  readonly onSecret?: (secret: string) => void
}
export const resolveSecrets = (root: unknown, environment: Environment): Resolved => {
  const secrets: string[] = []
  const literal: Path[] = []
  const inUrl: Path[] = []
  const troubles: Trouble[] = []
  const orTrouble = (work: () => string, path: Path): string => {
    try {
      return work()
    } catch (error) {
      // A reference that is none is wrong in itself; what it refers to may be there at the next start.
      const passing = error instanceof SyntaxError ? {} : { surroundings: true as const }
      const { code, path: file } = error as NodeJS.ErrnoException
      const text = code === 'ENOENT' ? `${file} does not exist` : textOf(error)
      const trouble = { code: 'HF-C012', text, path, on: 'value' } as const
      const more = isFailure(error)
        ? { hint: error.hint, unitOnly: true as const }
        : isDenied(error)
          ? { hint: 'ask as root, or as the user of the agent: sudo -u holdfast holdfast check' }
          : code === 'ENOENT'
            ? { hint: 'write the secret into it, for the user of the agent to read' }
            : {}
      troubles.push({ ...trouble, ...more, ...passing, ...deniedBy(error) })
      return ''
    }
  }
  const leaf = (text: string, path: Path): string => {
    const name = nameOf(path)
    const [, password] = mayRefer(path) ? (literalPassword.exec(text) ?? []) : []
    if (password !== undefined && !isSecretPath(path)) {
      secrets.push(password)
      inUrl.push(path)
    }
    if (!text.includes('${')) {
      if (isSecretPath(path) && text !== '') {
        secrets.push(text)
        literal.push(path)
      }
      return text
    }
    const [, credential] = isPathField(path) ? (/^\$\{cred:([^}]*)\}$/.exec(text) ?? []) : []
    if (credential !== undefined)
      return orTrouble(() => credentialPath(credential, environment), path)
    if (!mayRefer(path)) {
      troubles.push({
        code: 'HF-C013',
        text: `"${name}" cannot refer to a secret or to the environment`,
        hint: 'references are resolved only in passwords, tokens, user names and URLs',
        path,
        on: 'value',
      })
      return text
    }
    return text.replace(reference, (_, inner: string) =>
      orTrouble(() => {
        const secret = lookUp(inner, environment)
        secrets.push(secret)
        return secret
      }, path),
    )
  }
  const walk = (value: unknown, path: Path): unknown => {
    if (typeof value === 'string') return leaf(value, path)
    if (typeof value === 'number' && isSecretPath(path)) literal.push(path)
    if (Array.isArray(value)) return value.map((one, index) => walk(one, [...path, index]))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, one]) => [name, walk(one, [...path, name])]),
    )
  }
  return { value: walk(root, []), secrets, literal, inUrl, troubles }
}

/** One secret of a file as it was read, to be asked for again: undefined where that cannot be read, or is too short. */
export const secretAgain =
  (
    root: unknown,
    path: readonly string[],
    { environment, onSecret }: RereadOptions,
    lengthMin = 1,
  ): (() => string | undefined) =>
  () => {
    const name = path.at(-1) as string
    const found = path.reduce<unknown>(
      (value, step) => (value as Readonly<Record<string, unknown>> | undefined | null)?.[step],
      root,
    )
    const { value, secrets, troubles } = resolveSecrets({ [name]: found }, environment)
    const text = (value as Readonly<Record<string, unknown>>)[name]
    if (troubles.length > 0 || typeof text !== 'string' || text.length < lengthMin) return undefined
    for (const secret of secrets) onSecret?.(secret)
    return text
  }
