/**
 * `holdfast destination list` and `destination test`: what there is, how it is, and the way to one step by step.
 * Invariant: `test` goes past the agent and its spool: it works while none runs, moves no cursor, and what it writes
 * is one point of the series `holdfast.probe`: where the agent would pause, and where a point of now would do harm,
 * nothing.
 */
import { z } from 'zod'
import { createBatchBuilder } from '../batch.ts'
import { sealSegment } from '../codec/segment.ts'
import { dictionaryHashStart, extendDictionaryHash, seriesIdOf } from '../codec/series-id.ts'
import { catalog } from '../config/catalog.ts'
import type { DestinationConfig } from '../config/schema.ts'
import type { AgentStatus } from '../control/view.ts'
import type { DestinationDeps } from '../destinations/destination.ts'
import {
  isOpen,
  type LinkStep,
  probeLinks,
  type Reading,
  timed,
  unwell,
  well,
} from '../destinations/link.ts'
import { type Proof, proofOf, proofs } from '../destinations/proven.ts'
import { exitCodes, isFailure, textOf } from '../errors.ts'
import { createSystemHost, type Host } from '../host.ts'
import type { Destination, Outcome, SendBatch, SeriesEntry, Standing } from '../model.ts'
import type { DestinationStatus } from '../observability/health.ts'
import { printable } from '../observability/printable.ts'
import type { CliContext } from './context.ts'
import { destinationNamed, loadFor } from './destination.ts'
import { countText, table } from './format.ts'

/** What a configuration can name and nobody has proven is unproven, whether or not the table says so. */
const systems = (): readonly Proof[] =>
  catalog.destinations.flatMap(({ type, config }) => {
    const schema = z.toJSONSchema(config, { io: 'input', unrepresentable: 'any' })
    const dialect = schema.properties?.dialect
    const named = typeof dialect === 'object' ? ((dialect.enum ?? []) as string[]) : []
    const known = proofs.filter((one) => one.type === type)
    const missing = (named.length === 0 ? [null] : named).filter((one) =>
      known.every((proof) => proof.dialect !== one),
    )
    const unproven = { type, version: null, tests: [] }
    return [...known, ...missing.map((one) => ({ ...unproven, system: one ?? type, dialect: one }))]
  })
const proofText = ({ version, tests }: Proof) =>
  version === null ? 'unproven' : `proven ${version}  ${tests.join(', ')}`
const stateText = (one: DestinationStatus | undefined) => {
  if (one === undefined) return 'not known: no agent answers'
  const pending = one.pending > 0 ? `, ${countText(one.pending)} points pending` : ''
  const why = one.text === '' ? '' : `: ${one.code} ${printable(one.text)}`
  return `${one.state}${pending}${why}`
}

export const list = async (
  context: CliContext,
  flags: { readonly unit: string },
): Promise<number> => {
  const loaded = loadFor(context, flags)
  const configured = loaded.ok ? loaded.config.destinations : []
  let status: AgentStatus | undefined
  try {
    if (configured.length > 0)
      status = await (await context.client()).get<AgentStatus>('/v1/status')
  } catch (error) {
    if (!isFailure(error)) throw error
  }
  const rows = configured.map((one) => ({
    name: one.name,
    type: one.type,
    proof: proofOf(one.type, one.settings),
    status: status?.destinations.find(({ name }) => name === one.name),
  }))
  if (context.flags.json) {
    const types = systems().map((one) => ({ ...one, proven: one.version !== null }))
    context.json({
      types,
      configured: rows.map(({ name, type, proof, status: found }) => ({
        name,
        type,
        proven: proof !== undefined && proof.version !== null,
        status: found ?? null,
      })),
    })
    return exitCodes.good
  }
  const kinds = systems().map((one) => [one.type, one.dialect ?? '', one.system, proofText(one)])
  for (const line of table([['TYPE', 'DIALECT', 'SYSTEM', 'PROVEN BY'], ...kinds]))
    context.out(line)
  if (rows.length === 0) {
    context.say(
      loaded.ok ? 'none is configured' : 'no configuration to read: holdfast check says why',
    )
    return exitCodes.good
  }
  context.out('')
  const mine = rows.map(({ name, type, proof, status: found }) => [
    name,
    type,
    proof === undefined || proof.version === null ? 'unproven' : 'proven',
    stateText(found),
  ])
  for (const line of table([['NAME', 'TYPE', '', 'STATE'], ...mine])) context.out(line)
  return exitCodes.good
}

/** One point of a series of its own, in an epoch of its own, sealed as the spool would. */
const onePoint = (host: Host, agent: string) => {
  const key = { name: 'holdfast.probe', tags: [] }
  const entry: SeriesEntry = { ...key, id: seriesIdOf(agent, key), unit: '' }
  const epoch = Buffer.from(host.randomBytes(16)).toString('hex')
  const timeUs = Math.floor(host.clock.nowUs())
  const builder = createBatchBuilder()
  builder.addFloat(0, timeUs, 1, 0)
  const place = { epoch, lane: 1, seq: 1, sealNumber: 1, previousHash: '0'.repeat(32) }
  const names = {
    configRevision: 0,
    dictionaryLength: 1,
    dictionaryHash: extendDictionaryHash(dictionaryHashStart, entry.id),
  }
  const clock = { bootId: host.bootId, monotonicUs: 0, clockState: 'trusted' } as const
  const bytes = sealSegment({ ...place, ...names, ...clock }, builder.take(), 'zstd')
  const times = { timeUsMin: timeUs, timeUsMax: timeUs }
  const batch: SendBatch = {
    lane: 'probe',
    laneId: 1,
    items: [{ type: 'segment', seq: 1, epoch, pointCount: 1, ...times, bytes }],
    ackedThrough: 0,
    replay: false,
  }
  const spool: DestinationDeps['spool'] = {
    epoch,
    spoolId: epoch,
    dictionary: async (_, first) => [entry].slice(first),
    epochs: async () => [],
    kept: async () => null,
    keep: async () => {},
    allowFormat: async () => {},
  }
  return { batch, spool }
}
const isWell = (outcome: Outcome, leftOut: number) =>
  outcome.kind === 'stored' && leftOut === 0 && outcome.rejected.length === 0
const readingOf = (said: Outcome | Standing, leftOut = 0): Reading => {
  if (said.kind === 'known' || said.kind === 'unknown') return well('the agent would send there')
  if (isWell(said, leftOut)) return well('one point of holdfast.probe was written and acknowledged')
  if (said.kind === 'blocked') return unwell(said.code, said.text, said.hint)
  const text =
    said.kind === 'stored'
      ? 'the server answered, and refused the point'
      : 'text' in said
        ? said.text
        : said.kind
  return unwell('HF-N020', text, 'Look at the server, and what stands before it.')
}
/** As the agent does: it asks where the far side stands, and writes only where that is no trouble. */
const askAndWrite = async (
  { of, settings, name }: DestinationConfig,
  agent: string,
  write: boolean,
  signal: AbortSignal,
): Promise<readonly LinkStep[]> => {
  let leftOut = 0
  const system = createSystemHost()
  const count = (meter: string, value = 1) => {
    if (meter.endsWith('_left_out_total')) leftOut += value
  }
  const host: Host = { ...system, meter: { ...system.meter, count } }
  const { batch, spool } = onePoint(host, agent)
  const step = (what: LinkStep['step'], work: () => Promise<Reading>) =>
    timed(host, what, async () => {
      try {
        return await work()
      } catch (error) {
        if (!isFailure(error)) throw error
        return unwell(error.code, textOf(error), error.hint)
      }
    })
  const opening = { destination: undefined as Destination | undefined }
  try {
    const ready = await step('ready', async () => {
      opening.destination = of.create({ host, name, agent, spool, farTime: () => {} }, settings)
      return readingOf(await opening.destination.standing([], signal))
    })
    const { destination } = opening
    if (!ready.good || !write || destination === undefined) return [ready]
    const sent = async () => readingOf(await destination.send(batch, signal), leftOut)
    return [ready, await step('write', sent)]
  } finally {
    await opening.destination?.[Symbol.asyncDispose]()
  }
}

interface TestFlags {
  /** Undefined: unless it would do harm. */
  readonly write?: boolean
  readonly unit: string
}
const show = (context: CliContext, steps: readonly LinkStep[]) => {
  for (const { step, ms, text, code, hint, good, host, bearable } of steps) {
    const [style, mark] = good
      ? (['green', 'ok  '] as const)
      : bearable
        ? (['yellow', 'LOOK'] as const)
        : (['red', 'BAD '] as const)
    const time = `${ms.toFixed(1)} ms`.padStart(10)
    const at = host === undefined ? '' : `${host}: `
    context.out(
      `${context.paint(style, mark)} ${step.padEnd(5)} ${time}  ${code ? `${code} ` : ''}${at}${text}`,
    )
    if (hint !== '') context.out(`     = ${hint}`)
  }
  if (steps.some(({ bearable }) => bearable))
    context.say('one of its hosts is good, and is used; the others are told above')
}
const whyNothing = ({ of, settings }: DestinationConfig, write: boolean | undefined) => {
  if (of.tryOut === undefined) return 'only the agent itself may; see its last ack in "status"'
  const harm = of.tryOut === 'one-point' ? of.spoiledByNow?.(settings) : undefined
  if (write === undefined && harm !== undefined)
    return `${harm}; --write writes a point all the same`
  return of.tryOut === 'one-point' && write === false ? 'as you said' : undefined
}

export const testVerb = async (
  context: CliContext,
  flags: TestFlags,
  name: string,
): Promise<number> => {
  const named = await destinationNamed(context, flags, name)
  if (named === null) return exitCodes.configInvalid
  const { destination, agent } = named
  const { of, settings, lanes } = destination
  const host = createSystemHost()
  const links = [of.link?.(settings, agent) ?? []].flat()
  const steps = [...(await probeLinks(links, host, context.signal)).steps]
  const nothing = whyNothing(destination, flags.write)
  if (isOpen(steps) && of.tryOut === 'one-point')
    steps.push(...(await askAndWrite(destination, agent, nothing === undefined, context.signal)))
  else if (isOpen(steps) && typeof of.tryOut === 'function')
    steps.push(...(await of.tryOut(settings, host)))
  const ok = isOpen(steps)
  const { hide } = context.redactor
  const shown = steps.map((one) => ({
    ...one,
    text: hide(printable(one.text)),
    hint: hide(one.hint),
  }))
  const why = ok && nothing !== undefined ? { nothingWritten: nothing } : {}
  const warnings = of.warnings?.(settings, lanes) ?? []
  if (context.flags.json)
    context.json({ destination: name, type: destination.type, ok, ...why, warnings, steps: shown })
  else {
    show(context, shown)
    if ('nothingWritten' in why) context.say(`nothing was written: ${why.nothingWritten}`)
    for (const one of warnings) context.say(one)
  }
  return ok ? exitCodes.good : exitCodes.failed
}
