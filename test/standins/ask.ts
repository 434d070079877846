/** A POST to a stand-in, and what the tests compare of its answer. */
import { gzipSync } from 'node:zlib'

export interface AskOptions {
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly gzip?: boolean
}
export interface Answered {
  readonly status: number
  readonly body: string
  readonly headers: Headers
}
export const ask = async (
  url: string,
  body: string | Uint8Array,
  { query = {}, headers = {}, gzip = false }: AskOptions = {},
): Promise<Answered> => {
  const bytes = new Uint8Array(gzip ? gzipSync(body) : Buffer.from(body))
  const answer = await fetch(`${url}?${new URLSearchParams(query)}`, {
    method: 'POST',
    headers: { ...headers, ...(gzip ? { 'content-encoding': 'gzip' } : {}) },
    body: bytes,
  })
  return { status: answer.status, body: await answer.text(), headers: answer.headers }
}
