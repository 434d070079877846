/**
 * A gateway and its region as a technician would set them up, on one test machine: the Debian package installed, keys as
 * credentials of the unit, agent and regional node (embedded store) talking over mutual TLS.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { packageDeb } from '../../build/package-deb.ts'
import { nativeArchitecture } from '../../build/package-parts.ts'
import { extendDictionaryHash } from '../../src/codec/series-id.ts'
import { createControlClient } from '../../src/control/client.ts'
import type { AgentStatus } from '../../src/control/view.ts'
import { createEmbeddedStore } from '../../src/database/embedded.ts'
import { createEmbeddedReadBack, type ReadBack } from '../../src/database/read-back.ts'
import { createSystemHost } from '../../src/host.ts'
import { check, type JournalPoint, type Verdict } from '../../src/verify/checker.ts'
import { readEvidence } from '../../src/verify/evidence.ts'
import { createCertificates } from './certificates.ts'
import { bootMachine, type Inside, type Machine } from './machine.ts'
import { type Published, readPublished } from './machine-publisher.ts'
import { temporaryFolder } from './temp.ts'

export const agentName = 'gw-1'
export const door = 'http://127.0.0.1:8086'
const etc = '/etc/holdfast'
const regionState = '/var/lib/holdfast-regional'

export const unit = 'holdfast'

/** The same program in parts of other names, as any change would make it: none of the old files is left. */
const renameParts = (lib: string): void => {
  const files = readdirSync(lib).filter((name) => name.endsWith('.mjs'))
  for (const name of files) {
    const text = readFileSync(join(lib, name), 'utf8')
    rmSync(join(lib, name))
    const later = (one: string) => one.replace(/\bpart-(?=\w+\.mjs)/g, 'part-later')
    writeFileSync(join(lib, later(name)), later(text))
  }
}
/** The same package under a later version, uncompressed. */
const later = (file: string, folder: string): void => {
  const tree = join(folder, 'later')
  execFileSync('dpkg-deb', ['-R', file, tree])
  const control = join(tree, 'DEBIAN/control')
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^(Version: .*)$/m, '$1+later'))
  renameParts(join(tree, 'usr/lib/holdfast'))
  rmSync(join(tree, 'DEBIAN/md5sums'))
  const out = join(folder, 'later.deb')
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '-b', tree, out], { stdio: 'ignore' })
}
/** A machine that sees the package, not installed, as /drop/holdfast.deb, and under a later version as /drop/later.deb. */
export const bootWithPackage = async (): Promise<Machine> => {
  const folder = temporaryFolder('deb')
  const file = join(folder, 'holdfast.deb')
  renameSync(await packageDeb(nativeArchitecture, folder, true), file)
  later(file, folder)
  return await bootMachine({ '/drop': folder })
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** What systemd says of a unit. */
export const show = async (
  machine: Inside,
  unit: string,
  ...names: readonly string[]
): Promise<Record<string, string>> => {
  const text = await machine.run('systemctl', 'show', unit, `--property=${names.join()}`)
  return Object.fromEntries(
    text
      .trimEnd()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
}
/** Resolves with the first answer that is not undefined; rejects after `seconds`, with what `why` says. */
export const until = async <T>(
  look: () => Promise<T | undefined>,
  why: () => string | Promise<string>,
  seconds = 60,
): Promise<T> => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(100)) {
    const found = await look().catch(() => undefined)
    if (found !== undefined) return found
  }
  throw new Error(`not so in ${seconds} s: ${await why()}`)
}

/** What the journal has, its messages alone unless told otherwise. */
export const journalOf = (machine: Inside, ...more: readonly string[]): Promise<string> =>
  machine.run('journalctl', '--no-pager', '-o', 'cat', ...more)
export const restartsOf = async (machine: Inside): Promise<number> =>
  Number((await show(machine, unit, 'NRestarts')).NRestarts)
/** Waits until the unit is active and has been started more than `restarts` times by systemd itself. */
export const restarted = (machine: Inside, restarts: number, seconds?: number): Promise<true> =>
  until(
    async () => {
      const seen = await show(machine, unit, 'ActiveState', 'NRestarts')
      return seen.ActiveState === 'active' && Number(seen.NRestarts) > restarts ? true : undefined
    },
    () => journalOf(machine, '-u', unit, '-n', '30'),
    seconds,
  )

export const status = (machine: Machine): Promise<AgentStatus> =>
  createControlClient(machine.outside('/run/holdfast/control.sock'), 5_000).get('/v1/status')
/** Waits until every point is with the region. */
export const drained = (machine: Machine, seconds = 90): Promise<AgentStatus> => {
  let last: unknown
  return until(
    async () => {
      const seen = await status(machine)
      last = seen.destinations
      const readers = seen.lanes.flatMap((lane) => lane.readers)
      return readers.length > 0 && readers.every((one) => one.pending === 0) ? seen : undefined
    },
    () => JSON.stringify(last),
    seconds,
  )
}

const withStore = async <T>(
  folder: string,
  work: (back: ReadBack, delivered: number) => Promise<T>,
): Promise<T> => {
  const path = join(folder, 'region.db')
  await using store = createEmbeddedStore({ path, host: createSystemHost(), extendDictionaryHash })
  await store.prepare()
  const answer = await store.agents()
  const agents = answer.kind === 'ok' ? answer.agents : []
  const delivered = agents.find((one) => one.agent === agentName)?.points ?? 0
  return await work(createEmbeddedReadBack(store.database), delivered)
}

export interface Secrets {
  readonly token: string
  readonly password: string
}
/** The agent's unit with keys as credentials, one of them encrypted. */
const dropIn = `[Service]
LoadCredentialEncrypted=door-token:/etc/credstore.encrypted/door-token
LoadCredential=plant-password:/root/plant-password
LoadCredential=agent-key:/root/agent-key.pem
`
/** A watchdog for people in a hurry. */
const hurried = 'WatchdogSec=4\n'
/* biome-ignore-start lint/suspicious/noTemplateCurlyInString: this is what the user writes */
const agentConfig = {
  agent: { name: agentName },
  sources: [
    {
      name: 'door',
      type: 'http',
      listen: door.slice('http://'.length),
      token: '${cred:door-token}',
    },
    {
      name: 'plant',
      type: 'mqtt',
      url: 'mqtts://127.0.0.1:8883',
      username: 'gateway',
      password: '${cred:plant-password}',
      subscribe: [{ topic: 'plant/#' }],
    },
  ],
  spool: { size_max: '256MiB', disk_free_min: '1MiB' },
  destinations: [
    {
      name: 'region',
      type: 'relay',
      url: 'https://localhost:8443',
      tls: { ca: `${etc}/ca.pem`, cert: `${etc}/agent.pem`, key: '${cred:agent-key}' },
    },
  ],
}
/* biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above */

export const putAgentConfig = (machine: Inside): void =>
  machine.put(`${etc}/holdfast.yaml`, stringify(agentConfig))

/** Configures and starts both units of an installed package; resolves when both say that they are ready. */
export const configure = async (
  machine: Inside,
  secrets: Secrets,
  { watchdogAsShipped = false } = {},
): Promise<void> => {
  const certificates = await createCertificates()
  const key = await certificates.agent(agentName)
  const pem = (path: string) => readFileSync(path)
  putAgentConfig(machine)
  machine.put(`${etc}/ca.pem`, pem(certificates.ca))
  machine.put(`${etc}/agent.pem`, pem(key.cert))
  machine.put('/root/agent-key.pem', pem(key.key), 0o600)
  machine.put('/root/door-token', secrets.token, 0o600)
  machine.put('/root/plant-password', secrets.password, 0o600)
  machine.put(
    '/etc/systemd/system/holdfast.service.d/keys.conf',
    `${dropIn}${watchdogAsShipped ? '' : hurried}`,
  )
  machine.put(`${etc}/server.pem`, pem(certificates.server.cert))
  machine.put(`${etc}/server-key.pem`, pem(certificates.server.key), 0o600)
  machine.put(
    `${etc}/regional.yaml`,
    stringify({
      listen: '127.0.0.1:8443',
      tls: { ca: `${etc}/ca.pem`, cert: `${etc}/server.pem`, key: `${etc}/server-key.pem` },
    }),
  )
  // Every row that the region ever writes leaves a trace for the checker.
  const folder = temporaryFolder('region')
  await withStore(folder, (back) => back.installAudit())
  machine.copyIn(folder, regionState)
  await machine.sh(`
    chown -R holdfast: ${regionState}
    chown holdfast: ${etc}/server-key.pem
    systemd-creds setup
    mkdir -p /etc/credstore.encrypted
    systemd-creds encrypt --with-key=host --name=door-token /root/door-token /etc/credstore.encrypted/door-token
    shred -u /root/door-token
    systemctl daemon-reload
    systemctl enable --now holdfast-regional
    systemctl restart holdfast`)
}

/**
 * Points from now on, at their own pace, of series that begin with `name`; `stop` answers what became of them.
 */
export const publish = async (
  machine: Machine,
  token: string,
  name: string,
): Promise<{ readonly stop: () => Promise<Published> }> => {
  const file = join(temporaryFolder('published'), 'journal.json')
  const program = join(import.meta.dirname, 'machine-publisher.ts')
  const running = machine.startBeside(process.execPath, [program, door, token, file, name])
  await running.says('publishing')
  return {
    stop: async () => {
      await running.stop(60_000)
      return readPublished(readFileSync(file, 'utf8'))
    },
  }
}

/** The checker's word over everything published, against the region's own database; the regional unit must be stopped. */
export const verdictOf = async (
  machine: Inside,
  journal: readonly JournalPoint[],
): Promise<Verdict> => {
  const folder = temporaryFolder('region')
  await machine.copyOut(regionState, folder)
  try {
    return await withStore(folder, async (back, delivered) =>
      check({
        ...(await readEvidence(back, agentName)),
        journal: [journal],
        delivered,
        reduced: 0,
        pending: 0,
      }),
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Everything published is in the region's database, once, bit for bit; the regional unit is stopped for it. */
export const nothingLost = async (
  machine: Machine,
  journal: readonly JournalPoint[],
): Promise<Verdict> => {
  await drained(machine)
  return allArrived(machine, journal)
}
/** The same of an agent that has drained. */
export const allArrived = async (
  machine: Inside,
  journal: readonly JournalPoint[],
): Promise<Verdict> => {
  await machine.run('systemctl', 'stop', 'holdfast-regional')
  const verdict = await verdictOf(machine, journal)
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.declared_lost, 0)
  assert.equal(verdict.accepted, verdict.delivered)
  return verdict
}
