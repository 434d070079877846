/** The demo's site: certificates, configurations, the region and the broker running, the link between. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import type { Host } from '../../host.ts'
import { createDevelopmentCa, type KeyPairPem } from '../../regional/development-ca.ts'
import { type Link, openLink } from './link.ts'
import type { Part, Parts } from './processes.ts'
import { fieldTypes, type Incident } from './sensors.ts'
import { prepareRegion } from './verdict.ts'

export interface Site {
  readonly agent: string
  readonly folder: string
  readonly link: Link
  readonly regional: Part
  readonly regionalUrl: string
  readonly regionDatabase: string
  readonly spoolFile: string
  readonly journal: string
  readonly pointsPerMessage: number
  readonly pointsPerSecond: number
  readonly controlSocket: string
  readonly startAgent: () => Part
  readonly startSensors: () => Part
}

/** What of the site a scene makes otherwise. */
export interface SceneSite {
  /** Scans of every pump a second. */
  readonly hertz: number
  readonly moreDigits?: number
  readonly incident?: Incident
  /** Of the link to the region; as fast as the machine without. */
  readonly bitsPerSecond?: number
  /** Keys of the agent's configuration, and of its destination. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly destination?: Readonly<Record<string, unknown>>
}

const agent = 'demo-gateway'
const pumps = 40

const writeCertificates = async (host: Host, folder: string) => {
  const ca = await createDevelopmentCa('Holdfast demo', {
    fromMs: host.clock.nowUs() / 1000,
    days: 1,
  })
  const write = (name: string, pair: KeyPairPem) => {
    const files = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) }
    writeFileSync(files.cert, pair.certPem)
    writeFileSync(files.key, pair.keyPem, { mode: 0o600 })
    return files
  }
  const caFile = join(folder, 'ca.crt')
  writeFileSync(caFile, ca.caPem)
  return {
    ca: caFile,
    server: write('server', await ca.server(['localhost', '127.0.0.1'])),
    agent: write('agent', await ca.agent(agent)),
    plant: write('plant', await ca.agent('plant')),
  }
}

const agentConfig = (
  folder: string,
  tls: Awaited<ReturnType<typeof writeCertificates>>,
  brokerPort: number,
  linkPort: number,
  { config, destination }: SceneSite,
) => ({
  ...config,
  agent: { name: agent, state_dir: join(folder, 'agent') },
  sources: [
    {
      name: 'plant',
      type: 'mqtt',
      url: `mqtts://localhost:${brokerPort}`,
      version: '3.1.1',
      tls: { ca: tls.ca, ...tls.agent },
      subscribe: [{ topic: 'plant/+', qos: 1, time: 'time', time_unit: 'us', fields: fieldTypes }],
    },
  ],
  destinations: [
    {
      name: 'region',
      type: 'relay',
      url: `https://localhost:${linkPort}`,
      tls: { ca: tls.ca, ...tls.agent },
      ...destination,
    },
  ],
})

export const buildSite = async (
  host: Host,
  folder: string,
  parts: Parts,
  scene: SceneSite,
): Promise<Site> => {
  const tls = await writeCertificates(host, folder)
  const path = (name: string) => join(folder, name)
  mkdirSync(path('agent'))
  mkdirSync(path('region'))
  const regionDatabase = join(path('region'), 'region.db')
  await prepareRegion(host, regionDatabase)
  writeFileSync(
    path('regional.yaml'),
    stringify({
      listen: '127.0.0.1:0',
      state_dir: path('region'),
      tls: { ca: tls.ca, ...tls.server },
    }),
  )
  const brokerArgs = [
    'demo',
    '--part',
    JSON.stringify({ kind: 'broker', ca: tls.ca, ...tls.server }),
  ]
  const broker = parts.start('broker', brokerArgs, path('broker.log'))
  const regional = parts.start(
    'regional',
    ['regional', '-c', path('regional.yaml'), '--json'],
    path('regional.log'),
  )
  const [{ port: brokerPort }, { port: regionPort }] = await Promise.all([
    broker.firstLine,
    regional.firstLine,
  ])
  const { bitsPerSecond } = scene
  const link = await openLink(
    Number(regionPort),
    bitsPerSecond === undefined ? undefined : { clock: host.clock, bitsPerSecond },
  )
  writeFileSync(
    path('holdfast.yaml'),
    stringify(agentConfig(folder, tls, Number(brokerPort), link.port, scene)),
  )
  const sensors = {
    kind: 'sensors',
    port: Number(brokerPort),
    ca: tls.ca,
    ...tls.plant,
    journal: path('journal.ndjson'),
    pumps,
    hertz: scene.hertz,
    moreDigits: scene.moreDigits,
    incident: scene.incident,
  }
  return {
    agent,
    folder,
    link,
    regional,
    regionalUrl: `https://localhost:${regionPort}`,
    regionDatabase,
    spoolFile: join(path('agent'), 'spool.db'),
    journal: sensors.journal,
    pointsPerMessage: Object.keys(fieldTypes).length,
    pointsPerSecond: pumps * scene.hertz * Object.keys(fieldTypes).length,
    controlSocket: join(path('agent'), 'control.sock'),
    startAgent: () => parts.start('agent', ['run', '-c', path('holdfast.yaml')], path('agent.log')),
    startSensors: () =>
      parts.start('sensors', ['demo', '--part', JSON.stringify(sensors)], path('sensors.log')),
  }
}
