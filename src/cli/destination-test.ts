/**
 * `holdfast destination list` and `destination test`: what there is, how it is, and the way to one step by step.
 * Invariant: `test` goes past the agent and its spool: it works while none runs, moves no cursor, and what it writes
 * is one point of the series `holdfast.probe`.
 */
import { z } from 'zod'
import { createBatchBuilder } from '../batch.ts'
import { sealSegment } from '../codec/segment.ts'
import { dictionaryHashStart, extendDictionaryHash, seriesIdOf } from '../codec/series-id.ts'
import { catalog } from '../config/catalog.ts'
import { loadConfig } from '../config/load.ts'
import type { DestinationConfig } from '../config/schema.ts'
import type { AgentStatus } from '../control/view.ts'
import type { DestinationDeps } from '../destinations/destination.ts'
import {
  type LinkStep,
  probeLink,
  type Reading,
  timed,
  unwell,
  well,
} from '../destinations/link.ts'
import { type Proof, proofOf, proofs } from '../destinations/proven.ts'
import { exitCodes, isFailure, textOf } from '../errors.ts'
import { createSystemHost, type Host } from '../host.ts'
import type { Outcome, SendBatch, SeriesEntry } from '../model.ts'
import type { DestinationStatus } from '../observability/health.ts'
import { printable } from '../observability/printable.ts'
import type { CliContext } from './context.ts'
import { destinationNamed } from './destination.ts'
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

export const list = async (context: CliContext): Promise<number> => {
  const { environment } = context
  const loaded = loadConfig(context.configPath(), { environment, catalog, surroundings: false })
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
const readingOf = (outcome: Outcome, leftOut: number): Reading => {
  if (outcome.kind === 'stored' && leftOut === 0 && outcome.rejected.length === 0)
    return well('one point of holdfast.probe was written and acknowledged')
  if (outcome.kind === 'blocked') return unwell(outcome.code, outcome.text, outcome.hint)
  const text =
    outcome.kind === 'stored'
      ? 'the server answered, and refused the point'
      : 'text' in outcome
        ? outcome.text
        : outcome.kind
  return unwell('HF-N020', text, 'Look at the server, and what stands before it.')
}
const writeOnePoint = (
  { of, settings, name }: DestinationConfig,
  agent: string,
  signal: AbortSignal,
): Promise<LinkStep> => {
  let leftOut = 0
  const system = createSystemHost()
  const count = (meter: string, value = 1) => {
    if (meter.endsWith('_left_out_total')) leftOut += value
  }
  const host: Host = { ...system, meter: { ...system.meter, count } }
  const { batch, spool } = onePoint(host, agent)
  return timed(host, 'write', async () => {
    try {
      const deps = { host, name, agent, spool, farTime: () => {} }
      await using destination = of.create(deps, settings)
      return readingOf(await destination.send(batch, signal), leftOut)
    } catch (error) {
      if (!isFailure(error)) throw error
      return unwell(error.code, textOf(error), error.hint)
    }
  })
}

export const testVerb = async (
  context: CliContext,
  { write = true }: { readonly write?: boolean },
  name: string,
): Promise<number> => {
  const named = await destinationNamed(context, name)
  if (named === null) return exitCodes.configInvalid
  const { destination, agent } = named
  const { of, settings } = destination
  const host = createSystemHost()
  const steps: LinkStep[] = []
  if (of.link !== undefined)
    steps.push(...(await probeLink(of.link(settings, agent), host, context.signal)).steps)
  const good = () => steps.every((one) => one.good)
  if (good() && of.tryOut === 'one-point') {
    if (write) steps.push(await writeOnePoint(destination, agent, context.signal))
  } else if (good() && typeof of.tryOut === 'function')
    steps.push(...(await of.tryOut(settings, host)))
  const { hide } = context.redactor
  const shown = steps.map((one) => ({
    ...one,
    text: hide(printable(one.text)),
    hint: hide(one.hint),
  }))
  if (context.flags.json)
    context.json({ destination: name, type: destination.type, ok: good(), steps: shown })
  else {
    for (const { step, ms, text, code, hint, good: well } of shown) {
      const mark = context.paint(well ? 'green' : 'red', well ? 'ok  ' : 'BAD ')
      context.out(
        `${mark} ${step.padEnd(5)} ${`${ms.toFixed(1)} ms`.padStart(10)}  ${code ? `${code} ` : ''}${text}`,
      )
      if (hint !== '') context.out(`     = ${hint}`)
    }
    if (good() && of.tryOut === undefined)
      context.say('nothing was written: only the agent itself may; see its last ack in "status"')
  }
  return good() ? exitCodes.good : exitCodes.failed
}
