/**
 * Keeps secrets out of everything printed: by field name, by known value, and in URLs (user part, telling parameters).
 * Invariant: what is hidden is hidden wherever it stands in the text, also when JSON has escaped it.
 */

export interface Redactor {
  /** From now on this text never leaves. Shorter than 4 characters would blacken ordinary text, and is ignored. */
  readonly add: (secret: string) => void
  /** One that replaces another while the program runs: the newest of these are kept, however often that happens. */
  readonly renew: (secret: string) => void
  readonly hide: (text: string) => string
}

const mask = '[hidden]'
const secretsMax = 1_000
/** Field and config names whose values are secrets. */
export const isSecretName = (name: string): boolean =>
  /(^|[_.-]|[a-z](?=[A-Z]))(password|passphrase|passwd|secret|token|tokens|api_?key|authorization|cookie|psk)$/i.test(
    name,
  )
// Every repetition is bounded: unbounded ones took minutes on one long field.
const urlUser = /([a-z][a-z0-9+.-]{0,15}:\/\/)([^\s/@:"]{0,256}):([^\s/@"]{1,256})@/gi
/** `https://TOKEN@host`: alone it is a secret more often than a name. */
const urlUserAlone = /([a-z][a-z0-9+.-]{0,15}:\/\/)[^\s/@:"]{1,256}@/gi
const urlParameter =
  /([?&](?:p|[\w.-]{0,64}(?:token|key|secret|password|passwd|signature|sig|auth))=)[^&\s"'#]{1,2048}/gi
const bearer = /\b(Bearer|Basic|Token)\s+[A-Za-z0-9._~+/=-]{8,}/g

export const createRedactor = (): Redactor => {
  const secrets = new Set<string>()
  /** Oldest first. */
  const renewed = new Set<string>()
  /** The longest first, so that a secret that contains another leaves no tail. */
  let ordered: readonly string[] = []
  const order = () => {
    ordered = [...secrets, ...renewed].sort((a, b) => b.length - a.length)
  }
  const formsOf = (secret: string) =>
    [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())].filter(
      (text) => text.length >= 4,
    )
  return {
    add: (secret) => {
      for (const text of formsOf(secret)) if (secrets.size < secretsMax) secrets.add(text)
      order()
    },
    renew: (secret) => {
      for (const text of formsOf(secret)) {
        renewed.delete(text)
        renewed.add(text)
      }
      for (const oldest of renewed) {
        if (renewed.size <= secretsMax) break
        renewed.delete(oldest)
      }
      order()
    },
    hide: (text) => {
      let out = text
      for (const secret of ordered) if (out.includes(secret)) out = out.replaceAll(secret, mask)
      return out
        .replace(urlUser, `$1$2:${mask}@`)
        .replace(urlUserAlone, `$1${mask}@`)
        .replace(urlParameter, `$1${mask}`)
        .replace(bearer, `$1 ${mask}`)
    },
  }
}

/** A copy of `value`, secret-named fields masked, `hide` over all text; depth, breadth and cycles are bounded. */
export const withoutSecrets = (
  value: unknown,
  hide: (text: string) => string,
  depthLeft = 6,
): unknown => {
  if (typeof value === 'string') return hide(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Error) {
    const { code, hint } = value as { code?: unknown; hint?: unknown }
    return {
      text: hide(value.message),
      ...(code ? { code: hide(String(code)) } : {}),
      ...(hint ? { hint: hide(String(hint)) } : {}),
    }
  }
  if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`
  if (depthLeft === 0) return '…'
  const below = (one: unknown) => withoutSecrets(one, hide, depthLeft - 1)
  if (Array.isArray(value)) return value.slice(0, 100).map(below)
  if (value instanceof URL) return hide(value.href)
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, 100)
      .map(([name, one]) => [
        hide(name),
        isSecretName(name) && one !== undefined && one !== null && one !== '' ? mask : below(one),
      ]),
  )
}
