/** What the configurations of HTTP destinations share. */
import { z } from 'zod'
import { duration } from '../units.ts'

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

/** Of every HTTP server that is written to. */
export const httpShape = {
  url: urlSchema.describe('Address of the server; http only to this machine'),
  token: textSchema()
    .optional()
    .describe('API token, where the product takes one; a reference to a secret'),
  username: textSchema().optional().describe('With password, where the product takes them'),
  password: textSchema().optional().describe('A reference to a secret'),
  tls: tlsSchema,
  request_timeout: duration()
    .prefault('30s')
    .describe('Without an answer for so long a request is sent again; large bodies get more'),
}
const httpSchema = z.strictObject(httpShape)
export type HttpConfig = z.output<typeof httpSchema>
type Login = Pick<HttpConfig, 'token' | 'username' | 'password'>

/** Says which key is wrong, and why. */
export const checkLogin = (
  { token, username, password }: Login,
  miss: (key: string, why: string) => void,
): void => {
  if ((username === undefined) !== (password === undefined))
    miss('username', 'and password belong together')
  if (token !== undefined && username !== undefined)
    miss('token', 'cannot be used beside a username: one of them logs in')
}

/** People paste the whole address that is written to, and there it would stand twice. */
export const checkUrl = (
  [key, url]: readonly [key: string, url: unknown],
  path: string,
  miss: (key: string, why: string) => void,
): void => {
  if (url instanceof URL && url.pathname.replace(/\/+$/, '').endsWith(path))
    miss(key, `must end before ${path}, which the agent adds`)
}

/** `Authorization` of user and password, or of a token; nothing of neither. */
export const authorizationOf = (given: Login, scheme = 'Bearer'): Record<string, string> => {
  const { token, username, password } = given
  if (token !== undefined) return { authorization: `${scheme} ${token}` }
  if (username === undefined) return {}
  const pair = Buffer.from(`${username}:${password}`, 'utf8').toString('base64')
  return { authorization: `Basic ${pair}` }
}
