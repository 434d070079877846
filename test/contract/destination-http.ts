/** A rig for a destination that posts to an HTTP server: real TLS and a mischievous front before it. */
import assert from 'node:assert/strict'
import type { z } from 'zod'
import type { DestinationType } from '../../src/destinations/destination.ts'
import { createSystemHost, type Meter } from '../../src/host.ts'
import type { Value } from '../../src/model.ts'
import { createCertificates } from '../support/certificates.ts'
import type { DestinationRig, RigOptions } from './destination.ts'
import { openFront } from './destination-front.ts'
import type { TestLog } from './destination-log.ts'

const certificates = createCertificates()
const others = createCertificates()

/** Points left out, by reason. */
const countingHost = () => {
  const leftOut: Record<string, number> = {}
  const meter: Meter = {
    count: (name, value = 1, labels = {}) => {
      if (!name.endsWith('points_left_out_total')) return
      const reason = labels.reason ?? ''
      leftOut[reason] = (leftOut[reason] ?? 0) + value
    },
    gauge: () => {},
    observe: () => {},
  }
  return { host: createSystemHost({ meter }), leftOut }
}
export interface HttpRig extends DestinationRig {
  readonly leftOut: Readonly<Record<string, number>>
}
const noForgetting = async () => assert.fail('it keeps no books')

export const makeHttpRig = async <Schema extends z.ZodType>(
  of: DestinationType<Schema>,
  far: { readonly url: string; readonly arrived: () => Promise<number> },
  log: TestLog,
  config: object,
  { fault }: RigOptions = {},
  unholdable?: Value,
): Promise<HttpRig> => {
  const mine = await certificates
  const late = { fromMs: Date.now() - 3 * 86_400_000, days: 2 }
  const server =
    fault === 'server-expired'
      ? await mine.serverFor('late', ['localhost'], late)
      : fault === 'server-of-other-host'
        ? await mine.serverFor('other', ['another.example'])
        : mine.server
  const front = await openFront(far.url, server)
  const { host, leftOut } = countingHost()
  const ca = fault === 'server-of-other-ca' ? (await others).ca : mine.ca
  const url = `https://localhost:${front.port}`
  const settings = of.config.parse({ type: of.type, url, tls: { ca }, ...config })
  const deps = { host, name: of.type, agent: 'gw-7', spool: log.spool, farTime: () => {} }
  const destination = of.create(deps, settings)
  return {
    destination,
    log,
    leftOut,
    ...(unholdable === undefined ? {} : { unholdable }),
    arrived: far.arrived,
    answerNext: front.answerNext,
    loseNextAnswer: front.loseNextAnswer,
    holdNext: front.holdNext,
    remember: noForgetting,
    forget: noForgetting,
    [Symbol.asyncDispose]: async () => {
      await destination[Symbol.asyncDispose]()
      await front[Symbol.asyncDispose]()
    },
  }
}
