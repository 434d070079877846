/**
 * The relay protocol, pure: paths, message shapes, frame bytes. Byte for byte in docs/formats/relay.md.
 *
 * History: 1 = hello, series, segments over HTTPS; self-contained segments (frame kind 1); JSON answers.
 */
export const protocolVersion = 1
export const relayPaths = {
  hello: '/v1/hello',
  series: '/v1/series',
  segments: '/v1/segments',
} as const
