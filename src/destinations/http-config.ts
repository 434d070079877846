/** What the configurations of HTTP destinations share. */
import { z } from 'zod'

const isHere = (name: string) =>
  name === 'localhost' || name === '[::1]' || /^127(?:\.\d+){3}$/.test(name)
/** HTTPS, or plain HTTP to this machine; no user in it. */
export const urlSchema = z.string().transform((given, context) => {
  const url = URL.canParse(given) ? new URL(given) : undefined
  const plain = url?.protocol === 'http:' && isHere(url.hostname)
  if (url !== undefined && url.username === '' && (url.protocol === 'https:' || plain)) return url
  const message = 'must begin with https://, or http:// and this machine, and hold no user'
  context.addIssue({ code: 'custom', message })
  return z.NEVER
})
export const textSchema = () => z.string().min(1).max(1_024)
export const tlsSchema = z
  .strictObject({
    ca: textSchema().optional().describe('CA of the server (PEM); without it the system’s'),
    cert: textSchema().optional().describe('Own certificate, where the server asks for one'),
    key: textSchema().optional().describe('Its key'),
  })
  .prefault({})
  .describe('TLS 1.3; changed files are taken without a restart')

/** `Authorization` of user and password, or of a token; nothing of neither. */
export const authorizationOf = (
  given: {
    readonly token?: string | undefined
    readonly username?: string | undefined
    readonly password?: string | undefined
  },
  scheme = 'Bearer',
): Record<string, string> => {
  const { token, username, password } = given
  if (token !== undefined) return { authorization: `${scheme} ${token}` }
  if (username === undefined) return {}
  const pair = Buffer.from(`${username}:${password}`, 'utf8').toString('base64')
  return { authorization: `Basic ${pair}` }
}
