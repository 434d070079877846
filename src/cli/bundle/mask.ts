/**
 * What must not stand in a support bundle, found by name, by look and by what the configuration resolves to.
 * Invariant: every repetition in a pattern is bounded, whatever text it meets.
 */
import { readFileSync } from 'node:fs'
import { parseDocument, stringify } from 'yaml'
import { type Environment, resolveSecrets } from '../../config/secrets.ts'
import { isSecretName, type Redactor, withoutSecrets } from '../../observability/redact.ts'

const configDepthMax = 24

/** Raw text of a source the redactor knows nothing of may still hold these. */
const keyBlock =
  /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]{0,20000}?(-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g
/** Names with their values, as programs print their environment. */
const assignment =
  /\b([A-Za-z_][A-Za-z0-9_.-]{0,80})(\s{0,3}[=:]\s{0,3})("[^"\n]{1,512}"|'[^'\n]{1,512}'|[^\s"',;]{1,512})/g

export const masked = (text: string, { hide }: Pick<Redactor, 'hide'>): string =>
  hide(text.replace(keyBlock, '[hidden key]')).replace(
    assignment,
    (whole, name: string, sign: string) => (isSecretName(name) ? `${name}${sign}[hidden]` : whole),
  )

/** Keys of the files named in the configuration, a line of base64 each: they are nowhere printed, and shall not be. */
export const addKeyLines = (value: unknown, add: (secret: string) => void) => {
  if (typeof value !== 'object' || value === null) return
  for (const [name, one] of Object.entries(value)) {
    if (name !== 'key' || typeof one !== 'string') addKeyLines(one, add)
    else
      try {
        for (const line of readFileSync(one, 'utf8').split('\n'))
          if (line.length > 16 && !line.startsWith('-----')) add(line)
      } catch {
        // A key that cannot be read cannot be printed.
      }
  }
}

/**
 * Secrets by the look of the text alone, so that those of a configuration that is no YAML are known too: what follows
 * a secret's name, and what references resolve to.
 */
export const secretsIn = (text: string, environment: Environment): readonly string[] => {
  const named = [...text.matchAll(assignment)].flatMap(([, name = '', , value = '']) =>
    isSecretName(name) ? [value.replace(/^["']|["']$/g, '')] : [],
  )
  const references = [...text.matchAll(/\$\{(?:env|file|cred):[^}\n]{1,512}\}/g)]
  const resolved = references.map(([password]) => resolveSecrets({ password }, environment).secrets)
  return [...named, ...resolved.flat()]
}

/** The configuration as it is meant: comments, own keys (`x-`) and secrets left out, references left as they are. */
export const configText = (text: string, hide: (text: string) => string): string => {
  const document = parseDocument(text)
  if (document.errors.length > 0) return 'it is no YAML and is left out: holdfast check says why\n'
  const strip = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(strip)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value)
        .filter(([name]) => !name.startsWith('x-'))
        .map(([name, one]) => [name, strip(one)]),
    )
  }
  return stringify(withoutSecrets(strip(document.toJS()), hide, configDepthMax))
}
