/**
 * What a configuration says of a PostgreSQL server, for a regional node and for an agent that writes by itself.
 * Invariant: TLS is verified in full, and off only for a socket or an address of this machine.
 */
import { z } from 'zod'

export const postgresUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\/.+/, 'must be postgres://USER@HOST:PORT/DATABASE')
export const postgresUrls = z
  .union([postgresUrl, z.array(postgresUrl).min(1).max(16)])
  .describe('One server, or several that are tried in order')
export const postgresTls = z
  .union([
    z.literal('off'),
    z.strictObject({
      ca: z.string().optional().describe("PEM file; the system's authorities unless given"),
      cert: z.string().optional().describe('PEM file, for a server that asks for one'),
      key: z.string().optional().describe('PEM file of its key'),
      server_name: z
        .string()
        .optional()
        .describe("Name in the server's certificate, where the URL has another"),
    }),
  ])
  .prefault({})
  .describe('Verified in full; "off" only for a Unix socket or this machine')

/** A socket in a folder, or an address nobody else can listen in on. */
export const isPrivateUrl = (url: string): boolean => {
  const [, name = ''] = /^[a-z]+:\/\/(?:[^/]*@)?(\[[^\]]*\]|[^/:?]*)/.exec(url) ?? []
  const host = (/[?&]host=([^&]*)/.exec(url)?.[1] ?? name).replaceAll(/%2f/gi, '/')
  return host === '' || host.startsWith('/') || /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(host)
}
