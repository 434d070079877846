/**
 * `holdfast init`: a commented configuration to start from, by prompts or by flags; on request a development CA too.
 * Invariant: run again it changes nothing that is there: files stay unless --force (the package's own, in which nobody
 * has configured anything, goes), keys and certificates always stay; no link is followed to write. Where the package's
 * units look, their user can read what root has written, but for the CA's own key.
 */
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { parse } from 'yaml'
import { exitCodes, Failure } from '../errors.ts'
import { systemClock } from '../host.ts'
import { unitGroupOf, unitUser } from '../unit-user.ts'
import type { CliContext } from './context.ts'

export interface InitOptions {
  readonly directory: string
  readonly name?: string
  readonly region?: string
  readonly developmentCa?: string | true
  readonly serverName?: readonly string[]
  readonly force?: boolean
}

const port = 8443
const certificateDays = 825
const quoted = (text: string) => JSON.stringify(text)

/** Where the package's units look; they give the state folders themselves. */
const packageFolder = '/etc/holdfast'
const unitsGroupIn = (folder: string): number | undefined =>
  process.geteuid?.() === 0 && (folder === packageFolder || folder.startsWith(`${packageFolder}/`))
    ? unitGroupOf()
    : undefined

interface AgentChoices {
  readonly name: string
  readonly region: string
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly development: boolean
  /** null: the unit gives it. */
  readonly stateDir: string | null
}
const stateLine = (indent: string, folder: string | null, use: string) =>
  folder === null ? '' : `${indent}state_dir: ${folder}   # ${use}\n`
const agentYaml = ({ name, region, tls, development, stateDir }: AgentChoices): string => `\
# Holdfast on this gateway. What may stand here: holdfast config schema; is it right: holdfast check
agent:
  name: ${name}                  # part of every series, and the CN of the certificate below
${stateLine('  ', stateDir, 'the spool; a disk that survives power cuts')}
sources:
  - name: http
    type: http                   # InfluxDB line protocol on /write and /api/v2/write, so Telegraf can send here
    listen: 127.0.0.1:8086
${development ? simulated : mqttExample}
spool:
  size_max: 1GiB                 # then sources wait; or, per lane: when_full: drop_oldest
  keep_sent: 24h                 # what was sent stays so long, so that it can be sent again

destinations:
  - name: region                 # a destination is its name: a new url keeps its place
    type: relay
    url: ${quoted(region)}
    tls:
      ca: ${quoted(tls.ca)}
      cert: ${quoted(tls.cert)}
      key: ${quoted(tls.key)}
`
const simulated = `\
  - name: plant
    type: simulate               # readings of a plant that does not exist; remove it when real ones come
`
const mqttExample = `\
#  - name: plant
#    type: mqtt
#    url: mqtts://broker.example:8883
#    subscribe:
#      - topic: plant/#
#    password: \${file:/etc/holdfast/mqtt-password}
`
const regionalYaml = (tls: AgentChoices['tls'], stateDir: string | null): string => `\
# A Holdfast regional node. What may stand here: holdfast config schema --regional
listen: 0.0.0.0:${port}
tls:
  ca: ${quoted(tls.ca)}        # signs the agents' certificates
  cert: ${quoted(tls.cert)}
  key: ${quoted(tls.key)}
${stateLine('', stateDir, 'embedded database; used while "database" is not set')}# database:
#   url: postgres://holdfast@db.example:5432/plant   # several: a list, tried in order
#   password: \${file:/etc/holdfast/database-password}
`

const create = (path: string, text: string, mode: number, group: number | undefined): void => {
  const file = openSync(path, 'wx', mode)
  try {
    writeFileSync(file, text, { flush: true })
    if (group === undefined || mode === 0o600) return
    fchownSync(file, 0, group)
    fchmodSync(file, mode)
  } finally {
    closeSync(file)
  }
}
/**
 * Writes unless the file is there; answers whether it wrote. What is replaced is replaced whole, in the rights it had;
 * a link in its place goes, and where it leads nothing is written.
 */
const writeNew = (path: string, text: string, mode: number, replace: boolean): boolean => {
  const group = unitsGroupIn(dirname(path))
  try {
    if (!replace) create(path, text, mode, group)
    else {
      const there = lstatSync(path, { throwIfNoEntry: false })
      const partial = `${path}.${randomBytes(4).toString('hex')}`
      create(partial, text, mode, group)
      if (there?.isFile()) {
        chownSync(partial, there.uid, there.gid)
        chmodSync(partial, there.mode & 0o777)
      }
      renameSync(partial, path)
    }
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    throw new Failure('HF-X014', `cannot write ${path} (${code})`, 'choose another --directory')
  }
}
/** What the package's file says; whoever has changed more than its comments has a configuration to keep. */
const asInstalled = {
  agent: { name: 'unnamed-gateway' },
  sources: [],
  spool: { size_max: '1GiB', keep_sent: '24h' },
  destinations: [],
}
const isAsInstalled = (path: string): boolean => {
  try {
    return isDeepStrictEqual(parse(readFileSync(path, 'utf8')), asInstalled)
  } catch {
    return false
  }
}
const report = (context: CliContext, path: string, wrote: boolean) =>
  context.say(`${wrote ? 'wrote' : 'kept '}  ${path}`)

interface Authority {
  readonly ca: string
  readonly agent: { readonly cert: string; readonly key: string }
  readonly server: { readonly cert: string; readonly key: string }
}
const makeAuthority = async (
  context: CliContext,
  folder: string,
  agent: string,
  serverNames: readonly string[],
): Promise<Authority> => {
  const { createDevelopmentCa, openDevelopmentCa } = await import('../regional/development-ca.ts')
  const group = unitsGroupIn(folder)
  const made = mkdirSync(folder, { recursive: true, mode: 0o750 })
  if (made !== undefined && group !== undefined)
    for (const one of new Set([made, folder])) {
      chownSync(one, 0, group)
      chmodSync(one, 0o750)
    }
  const keyMode = group === undefined ? 0o600 : 0o640
  const at = (name: string) => join(folder, name)
  const validity = { fromMs: systemClock.nowUs() / 1_000, days: certificateDays }
  const known = existsSync(at('ca.pem')) && existsSync(at('ca-key.pem'))
  const ca = known
    ? await openDevelopmentCa(
        readFileSync(at('ca.pem'), 'utf8'),
        readFileSync(at('ca-key.pem'), 'utf8'),
        validity,
      )
    : await createDevelopmentCa(`Holdfast development ${randomBytes(3).toString('hex')}`, validity)
  const keep = (name: string, text: string, mode: number) =>
    report(context, at(name), writeNew(at(name), text, mode, false))
  keep('ca-key.pem', ca.caKeyPem, 0o600)
  keep('ca.pem', ca.caPem, 0o644)
  const pair = async (name: string, make: () => Promise<{ certPem: string; keyPem: string }>) => {
    const [cert, key] = [`${name}.pem`, `${name}-key.pem`]
    if (existsSync(at(cert)) && existsSync(at(key))) report(context, at(cert), false)
    else {
      const made = await make()
      // Half a pair is of no use, and a new key needs its certificate.
      report(context, at(key), writeNew(at(key), made.keyPem, keyMode, true))
      report(context, at(cert), writeNew(at(cert), made.certPem, 0o644, true))
    }
    return { cert: at(cert), key: at(key) }
  }
  return {
    ca: at('ca.pem'),
    server: await pair('region', () => ca.server(serverNames)),
    agent: await pair(agent, () => ca.agent(agent)),
  }
}

const nameFrom = (text: string) =>
  text
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 64) || 'gateway-1'

/** `ready`: somebody has begun already, with the package; a development CA is for those who try it out elsewhere. */
const choose = async (context: CliContext, options: InitOptions, ready: boolean) => {
  const name = options.name ?? (await context.ask('Name of this gateway?', nameFrom(hostname())))
  if (name !== nameFrom(name))
    throw new Failure('HF-X002', `"${name}" is no name`, 'use letters, digits, ".", "_" and "-"')
  const standard = `https://localhost:${port}`
  const region =
    options.region ?? (await context.ask('Where does the regional node listen?', standard))
  if (!URL.canParse(region) || !region.startsWith('https://'))
    throw new Failure('HF-X002', `"${region}" is no https address`, `write https://HOST:${port}`)
  const asked = options.developmentCa === undefined && !ready
  const wanted = asked
    ? await context.ask('Make a development CA with certificates for both sides?', 'no')
    : 'no'
  const ca = options.developmentCa ?? (/^y(es)?$/i.test(wanted) ? true : undefined)
  return { name, region, ca }
}

export const init = async (context: CliContext, options: InitOptions): Promise<number> => {
  const folder = resolve(options.directory)
  const file = join(folder, 'holdfast.yaml')
  const untouched = isAsInstalled(file)
  const packaged = folder === packageFolder
  const { name, region, ca } = await choose(context, options, untouched || packaged)
  mkdirSync(folder, { recursive: true })
  const force = options.force === true
  const regionalFile = join(folder, 'regional.yaml')
  const fromHere = (path: string) => {
    const short = relative(folder, path)
    return short.startsWith('..') ? path : short
  }
  let tls = {
    ca: '/etc/holdfast/ca.pem',
    cert: '/etc/holdfast/agent.pem',
    key: '/etc/holdfast/agent-key.pem',
  }
  if (ca !== undefined) {
    const names = options.serverName ?? [
      ...new Set([new URL(region).hostname, 'localhost', '127.0.0.1', '::1']),
    ]
    const made = await makeAuthority(
      context,
      ca === true ? join(folder, 'ca') : resolve(ca),
      name,
      names,
    )
    const short = (cert: string, key: string) => ({
      ca: fromHere(made.ca),
      cert: fromHere(cert),
      key: fromHere(key),
    })
    tls = short(made.agent.cert, made.agent.key)
    const stateDir = packaged ? null : 'region-state'
    const text = regionalYaml(short(made.server.cert, made.server.key), stateDir)
    report(context, regionalFile, writeNew(regionalFile, text, 0o640, force))
  }
  const development = ca !== undefined
  const stateDir = packaged ? null : development ? 'state' : '/var/lib/holdfast'
  const text = agentYaml({ name, region, tls, development, stateDir })
  const wrote = writeNew(file, text, 0o640, force || untouched)
  report(context, file, wrote)
  if (context.flags.json)
    context.json({ file, wrote, regional: ca === undefined ? null : regionalFile })
  if (ca !== undefined) {
    context.say(
      'The CA is for development: who holds ca-key.pem can be any agent. A site brings its own PKI.',
    )
    context.say(
      `next:  ${packaged ? 'systemctl enable --now holdfast-regional' : `holdfast regional -c ${regionalFile}`}`,
    )
  } else if (packaged) {
    context.say(`next:  install -m 640 -g ${unitUser} ca.pem agent.pem agent-key.pem ${folder}/`)
    context.say(`       sudo -u ${unitUser} holdfast check`)
  } else
    context.say(`next:  put the certificates named there in place, then: holdfast check -c ${file}`)
  context.say(`       ${packaged ? 'systemctl restart holdfast' : `holdfast run -c ${file}`}`)
  return exitCodes.good
}
