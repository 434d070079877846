/**
 * MQTT 3.1.1 and 5 as a source: messages of the subscribed topics become points; PUBACK only after the commit.
 *
 * Invariants: a connection that ends is made again with full-jitter backoff, which only a
 * connection that lasted resets
 * (so two clients of one id do not chase each other); TLS certificates are verified and read afresh
 * at each connection;
 * passwords appear in no log.
 */
import { readFileSync } from 'node:fs'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { IClientSubscribeOptions, MqttClient } from 'mqtt'
import { z } from 'zod'
import { textOf } from '../errors.ts'
import { backoffMsMax, backoffMsMin } from '../limits.ts'
import type { Source } from '../model.ts'
import { mappingShape } from '../pipeline/map.ts'
import { createStamper } from '../pipeline/stamp.ts'
import { createRenewed } from '../renewed.ts'
import { duration } from '../units.ts'
import { createGather } from './mqtt-gather.ts'
import { createRedelivery } from './mqtt-redelivery.ts'
import type { Ended } from './mqtt-session.ts'
import { defineSource, type SourceDeps } from './source.ts'

const versions = { '3.1.1': 4, 4: 4, 5: 5 } as const
const schemes = { 'mqtt:': 1883, 'mqtts:': 8883 } as const

const topicFilter = z
  .string()
  .min(1)
  .refine((text) => /^(?:[^#+\0]*|\+)(?:\/(?:[^#+/\0]*|\+))*(?:\/#)?$|^#$/.test(text), {
    error: 'must be a topic filter such as "plant/+/state" or "plant/#"',
  })
const config = z
  .strictObject({
    type: z.literal('mqtt'),
    url: z
      .string()
      .refine(
        (text) => {
          const url = URL.parse(text)
          return (
            url !== null && url.protocol in schemes && url.hostname !== '' && url.username === ''
          )
        },
        {
          error:
            'must be mqtt://HOST:PORT or mqtts://HOST:PORT; user and password have keys of their own',
        },
      )
      .describe('mqtts://HOST:PORT, or mqtt:// without TLS'),
    version: z
      .union([z.literal('3.1.1'), z.literal(4), z.literal(5), z.literal('5')])
      .default(5)
      .describe('MQTT 5, or 3.1.1'),
    client_id: z
      .string()
      .min(1)
      .max(256)
      .optional()
      .describe('Stable, or the broker cannot keep the session; made of agent and source without'),
    username: z.string().optional().describe('As the broker knows it'),
    password: z.string().optional().describe('A reference to a secret'),
    tls: z
      .strictObject({
        ca: z.string().optional().describe("PEM file; the system's authorities unless given"),
        cert: z.string().optional().describe('PEM file, for a broker that asks for one'),
        key: z.string().optional().describe('PEM file of its key'),
        servername: z
          .string()
          .optional()
          .describe("Name in the broker's certificate, where the URL has another"),
      })
      .optional(),
    clean: z
      .boolean()
      .default(false)
      .describe('A clean session loses what is sent while the agent is away'),
    keepalive: duration().prefault('30s').describe('A silent link is asked this often'),
    session_expiry: duration()
      .prefault('7d')
      .describe('How long the broker keeps the session without us (MQTT 5)'),
    receive_maximum: z
      .int()
      .min(1)
      .max(65_535)
      .default(8_192)
      .describe('Messages under way without an ack: what a commit window can hold'),
    subscribe: z
      .array(
        z.strictObject({
          topic: topicFilter.describe('Topic filter, + and # allowed'),
          qos: z
            .union([z.literal(0), z.literal(1)])
            .default(1)
            .describe('With 0 a message in flight may be lost'),
          ...mappingShape,
        }),
      )
      .min(1)
      .max(256),
  })
  .refine((one) => one.tls === undefined || one.url.startsWith('mqtts:'), {
    path: ['tls'],
    error: 'needs an mqtts:// URL',
  })
  .refine((one) => (one.tls?.cert === undefined) === (one.tls?.key === undefined), {
    path: ['tls'],
    error: 'cert and key go together',
  })
export type MqttConfig = z.output<typeof config>

/** Backoff after the broker gave our session to another client of the same id. */
const takenOverMsMin = 5_000
const codes = { takenOver: 0x8e, refusals: new Set([4, 5, 0x84, 0x85, 0x86, 0x87, 0x8a, 0x8c]) }

/** mqtt.js is half a megabyte of source text: an agent without MQTT does not read it. */
const load = () => import('./mqtt-session.ts')

export const mqttSource = defineSource({
  type: 'mqtt',
  config,
  load,
  create: (deps, config): Source => ({
    name: deps.name,
    run: async (emit, signal) => {
      const { host, name } = deps
      const { runSession } = await load()
      const log = host.log.child({ source: name })
      const version = versions[config.version]
      const redelivery = createRedelivery(name)
      await redelivery.load(deps.kept)
      const gather = createGather(name, config.subscribe, deps.series, createStamper(deps.clock))
      const settings = createRenewed(config, deps.renewed)
      let failures = 0
      let subscribed = false
      while (!signal.aborted) {
        const used = settings.current()
        const ended = await runSession(
          {
            host,
            source: name,
            emit,
            gather,
            redelivery,
            version,
            connect: () => connect(config),
            login: loginOf(deps, used, version),
            subscribe: async (client, resumed) => {
              // A resumed session has them. MQTT 3.1.1 would send every retained message again.
              const again = version === 5 || !resumed || !subscribed
              if (again) subscribed = await subscribe(client, config, version, log)
              host.meter.gauge('holdfast_source_up', 1, { source: name })
              log.info('connected', { url: config.url })
            },
          },
          signal,
        ).catch(
          (error: unknown): Ended => ({ text: textOf(error), code: undefined, connectedMs: 0 }),
        )
        host.meter.gauge('holdfast_source_up', 0, { source: name })
        if (signal.aborted) break
        failures = ended.connectedMs >= backoffMsMax ? 1 : failures + 1
        // There are others by now: tried at once.
        if (codes.refusals.has(ended.code ?? 0) && settings.refused(used)) failures = 0
        const waitMs = backoffMs(host.random(), failures, ended.code)
        tell(log, ended, waitMs)
        await host.clock.sleep(waitMs, signal)
      }
    },
  }),
})

const backoffMs = (random: number, failures: number, code: number | undefined): number => {
  const ceiling = Math.min(backoffMsMax, backoffMsMin * 2 ** Math.min(failures, 16))
  const least = code === codes.takenOver ? takenOverMsMin : 0
  return least + random * ceiling
}
const tell = (log: SourceDeps['host']['log'], ended: Ended, waitMs: number): void => {
  const fields = { why: ended.text, code: ended.code, retry_ms: Math.round(waitMs) }
  if (ended.code === codes.takenOver)
    log.error('another client uses this client id: give each its own', fields)
  else if (ended.code !== undefined && codes.refusals.has(ended.code))
    log.error('the broker refuses this client: check user, password and rights', fields)
  else log.warn('connection ended', fields)
}

const loginOf = (deps: SourceDeps, config: MqttConfig, version: 4 | 5) => ({
  clientId: config.client_id ?? `holdfast-${deps.agent}-${deps.name}`,
  clean: config.clean,
  keepalive: Math.max(1, Math.round(config.keepalive / 1000)),
  ...(config.username === undefined ? {} : { username: config.username }),
  ...(config.password === undefined ? {} : { password: config.password }),
  ...(version === 4
    ? {}
    : {
        properties: {
          sessionExpiryInterval: config.clean ? 0 : Math.round(config.session_expiry / 1000),
          receiveMaximum: config.receive_maximum,
        },
      }),
})

const connect = (config: MqttConfig): Socket => {
  const url = new URL(config.url)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const port = Number(url.port || schemes[url.protocol as keyof typeof schemes])
  if (url.protocol === 'mqtt:') return connectTcp({ host, port })
  const { tls = {} } = config
  const servername = tls.servername ?? host
  return connectTls({
    host,
    port,
    minVersion: 'TLSv1.2',
    ...(isIP(servername) ? {} : { servername }),
    ...(tls.ca === undefined ? {} : { ca: readFileSync(tls.ca) }),
    ...(tls.cert === undefined ? {} : { cert: readFileSync(tls.cert) }),
    ...(tls.key === undefined ? {} : { key: readFileSync(tls.key) }),
  })
}

/** True when the broker granted every one. */
const subscribe = async (
  client: MqttClient,
  config: MqttConfig,
  version: 4 | 5,
  log: SourceDeps['host']['log'],
): Promise<boolean> => {
  let all = true
  for (const { topic, qos } of config.subscribe) {
    // rh 1: a resumed subscription does not bring the retained messages again.
    const options: IClientSubscribeOptions = version === 5 ? { qos, rh: 1 } : { qos }
    try {
      const granted = await client.subscribeAsync(topic, options)
      if (granted.every((one) => one.qos < 128)) continue
      all = false
      log.error('subscription refused', { topic })
    } catch (error) {
      all = false
      log.error('subscription refused', { topic, why: textOf(error) })
    }
  }
  return all
}
