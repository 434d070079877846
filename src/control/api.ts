/**
 * The routes of the control API: one table from which the server, its checks and the OpenAPI document are all made.
 * Invariant: what is not in this table is not served.
 */
import { z } from 'zod'
import { Failure } from '../errors.ts'
import { laneIdMax, quarantineRowsMax, segmentPointsMax } from '../limits.ts'
import { gapReasons } from '../model.ts'
import {
  agentStatus,
  dictionaryAnswer,
  explainAnswer,
  gapRow,
  importAnswer,
  laneStatus,
  quarantineRow,
  reloadAnswer,
  replayAnswer,
  resendAnswer,
  segmentsAnswer,
  tapLine,
} from './answers.ts'
import { documentOf } from './openapi.ts'
import type { AgentView } from './view.ts'
import { quarantineJson, tapJson } from './wire.ts'

const text = z.string().min(1).max(512)
const limitQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(10_000).default(100),
})
const replayBody = z.strictObject({
  from_us: z.int().describe('First point time, microseconds since 1970'),
  to_us: z.int().describe('Not included'),
  lane: text.nullable().default(null),
  destination: text.nullable().default(null),
  series: z.array(text).max(64).default([]).describe('Globs over names of series'),
  dry_run: z.boolean().default(false),
})
const importBytesMax = 16 * 1024 * 1024
const importBody = z.strictObject({
  block: z.string().describe('One block of a points file, its header line first'),
  lane: text.nullable().default(null).describe('Null: the lane it comes from'),
})
const quarantineParams = z.strictObject({ id: z.coerce.number().int().min(0) })
const nothing = z.strictObject({})
const place = z.int().min(0)
const salvageFile = {
  spool: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .describe('Identity of the spool set aside'),
  lane_id: z.int().min(1).max(laneIdMax).describe('Number of the lane there'),
}
const salvageAnswer = z.object({
  points: z.int().describe('Taken now'),
  up_to: place.describe('Dealt with up to this place of the file'),
})
const salvageBody = z.strictObject({
  ...salvageFile,
  lane: text.describe('Lane that takes the points'),
  up_to: place.describe('Place in the file up to which everything is then dealt with'),
  series: z
    .array(
      z.strictObject({
        name: z.string(),
        tags: z.array(z.tuple([z.string(), z.string()])),
        unit: z.string(),
      }),
    )
    .max(segmentPointsMax),
  segment: z.base64().nullable().describe('A segment whose series numbers index `series`'),
  losses: z
    .array(
      z.strictObject({ reason: z.enum(gapReasons), count: z.int().min(1), source: z.string() }),
    )
    .max(10_000),
})
/** The largest segment in base64, and names and tags of its series. */
const salvageBytesMax = 32 * 1024 * 1024

export interface Route {
  readonly method: 'get' | 'post'
  /** OpenAPI form: `/v1/quarantine/{id}/discard`. */
  readonly path: string
  readonly summary: string
  readonly params: z.ZodObject
  readonly query: z.ZodObject
  readonly body: z.ZodObject
  readonly answer: 'json' | 'text' | 'ndjson'
  /** Largest request body; small unless said. */
  readonly bodyBytesMax?: number
  /** Of a text answer: null. */
  readonly schema: z.ZodType | null
  /** Null for those that stream. */
  readonly work: ((view: AgentView, given: Given) => Promise<unknown>) | null
}
export interface Given {
  readonly params: Readonly<Record<string, unknown>>
  readonly query: Readonly<Record<string, unknown>>
  readonly body: Readonly<Record<string, unknown>>
}
type RouteDraft = Pick<Route, 'method' | 'path' | 'summary' | 'schema' | 'work'> & Partial<Route>
const route = (draft: RouteDraft): Route => ({
  params: nothing,
  query: nothing,
  body: nothing,
  answer: 'json',
  ...draft,
})
const notFound = (what: string, hint = '') => new Failure('HF-X404', `there is no ${what}`, hint)
const noRow = (id: unknown) =>
  notFound(`row ${id} in the quarantine`, 'holdfast quarantine lists them, each by its ID')

export const routes: readonly Route[] = [
  route({
    method: 'get',
    path: '/v1/status',
    summary: 'Verdict, sources, lanes, destinations, spool, clock',
    schema: agentStatus,
    work: (view) => view.status(),
  }),
  route({
    method: 'get',
    path: '/v1/lanes',
    summary: 'Every lane with its readers',
    schema: z.object({ lanes: z.array(laneStatus) }),
    work: async (view) => ({ lanes: await view.lanes() }),
  }),
  route({
    method: 'get',
    path: '/v1/gaps',
    summary: 'Recorded losses, newest first',
    schema: z.object({ gaps: z.array(gapRow) }),
    query: limitQuery,
    work: async (view, { query }) => ({ gaps: await view.gaps(Number(query.limit)) }),
  }),
  route({
    method: 'get',
    path: '/v1/quarantine',
    summary: 'What could not be taken or delivered, newest first',
    schema: z.object({ quarantine: z.array(quarantineRow) }),
    query: limitQuery,
    work: async (view, { query }) => ({
      quarantine: (await view.quarantined(Number(query.limit))).map(quarantineJson),
    }),
  }),
  route({
    method: 'get',
    path: '/v1/quarantine/{id}',
    summary: 'One row of the quarantine, with the points that a destination refused',
    schema: quarantineRow.extend({ refused: z.array(tapLine) }),
    params: quarantineParams,
    work: async (view, { params }) => {
      const id = Number(params.id)
      const points = await view.refused(id)
      if (points !== null)
        return { ...quarantineJson(points), refused: points.refused.map(tapJson) }
      const row = (await view.quarantined(2 * quarantineRowsMax)).find((one) => one.id === id)
      if (row === undefined) throw noRow(id)
      return { ...quarantineJson(row), refused: [] }
    },
  }),
  route({
    method: 'post',
    path: '/v1/quarantine/{id}/resend',
    summary:
      'Points that a destination refused once more through it: one try, what is refused stays',
    schema: resendAnswer,
    params: quarantineParams,
    work: async (view, { params }) => {
      const answer = await view.resend(Number(params.id))
      if (answer === null)
        throw notFound(
          `row ${params.id} of refused points in the quarantine`,
          'holdfast quarantine lists them; those of a destination that is no longer configured can only be discarded',
        )
      return answer
    },
  }),
  route({
    method: 'post',
    path: '/v1/quarantine/{id}/discard',
    summary: 'Forget a sample for good, or give up refused points; the gap record stays',
    schema: z.object({ discarded: z.literal(true) }),
    params: quarantineParams,
    work: async (view, { params }) => {
      if (!(await view.discard(Number(params.id)))) throw noRow(params.id)
      return { discarded: true }
    },
  }),
  route({
    method: 'post',
    path: '/v1/destinations/{name}/forget',
    summary: 'Let go of what a destination that is no longer configured holds back',
    schema: z.object({ destination: z.string(), points: z.int() }),
    params: z.strictObject({ name: text }),
    work: (view, { params }) => view.forget(String(params.name)),
  }),
  route({
    method: 'get',
    path: '/v1/metrics',
    summary: 'Prometheus text',
    schema: null,
    answer: 'text',
    work: (view) => view.metrics(),
  }),
  route({
    method: 'get',
    path: '/v1/tap',
    summary: 'Points as they become durable, one JSON object a line, until the caller hangs up',
    schema: tapLine,
    answer: 'ndjson',
    query: z.strictObject({ series: text.default('*').describe('Name with * and ?') }),
    work: null,
  }),
  route({
    method: 'get',
    path: '/v1/explain',
    summary: 'The class, ways and last points of a series, and why they were sent or not',
    schema: explainAnswer,
    query: z.strictObject({
      series: text.describe('Name, or name,tag=value; may hold * and ?'),
      points: z.coerce.number().int().min(1).max(1_000).default(20),
    }),
    work: (view, { query }) => view.explain(String(query.series), Number(query.points)),
  }),
  route({
    method: 'get',
    path: '/v1/segments',
    summary: 'Sealed segments of a lane, a piece at a time',
    schema: segmentsAnswer,
    query: z.strictObject({
      lane: text,
      after: z.coerce.number().int().min(0).default(0),
      from_us: z.coerce.number().int().min(0).default(0).describe('With after 0: where to begin'),
    }),
    work: async (view, { query }) => {
      const { lane, after, from_us: fromUs } = query
      const answer = await view.segments(String(lane), Number(after), Number(fromUs))
      const base64 = (bytes: Uint8Array | null) =>
        bytes === null ? null : Buffer.from(bytes).toString('base64')
      const items = answer.items.map((item) => ({ ...item, bytes: base64(item.bytes) }))
      return { ...answer, items }
    },
  }),
  route({
    method: 'get',
    path: '/v1/dictionary',
    summary: 'What the series numbers of an epoch’s segments mean',
    schema: dictionaryAnswer,
    query: z.strictObject({
      epoch: z.string().regex(/^[0-9a-f]{32}$/),
      first: z.coerce.number().int().min(0).default(0),
    }),
    work: async (view, { query }) => ({
      series: (await view.dictionary(String(query.epoch), Number(query.first))).map(
        ({ name, tags, unit }) => ({ name, tags, unit }),
      ),
    }),
  }),
  route({
    method: 'post',
    path: '/v1/replay',
    summary: 'Send a range of time again, or say how much that would be',
    schema: replayAnswer,
    body: replayBody,
    work: (view, { body }) => {
      const given = replayBody.parse(body)
      const { from_us: fromUs, to_us: toUs, dry_run: dryRun, lane, destination, series } = given
      if (toUs <= fromUs)
        throw new Failure('HF-X006', 'the range is empty', '"to" must be later than "from"')
      return view.replay({ fromUs, toUs, lane, destination, series, dryRun })
    },
  }),
  route({
    method: 'post',
    path: '/v1/replay/cancel',
    summary: 'End a replay; what it has sent stays sent',
    schema: z.object({ cancelled: z.literal(true) }),
    body: z.strictObject({ id: text }),
    work: async (view, { body }) => {
      if (!(await view.cancelReplay(String(body.id))))
        throw notFound(`replay ${body.id}`, 'holdfast replay list says which run')
      return { cancelled: true }
    },
  }),
  route({
    method: 'post',
    path: '/v1/salvage/place',
    summary: 'How far a lane of a spool file that was set aside has been taken in',
    schema: salvageAnswer,
    body: z.strictObject(salvageFile),
    work: async (view, { body }) => {
      const file = { spool: String(body.spool), laneId: Number(body.lane_id) }
      return { points: 0, up_to: await view.salvage.upTo(file) }
    },
  }),
  route({
    method: 'post',
    path: '/v1/salvage',
    summary: 'Take in points of a spool file that was set aside; the same place twice adds nothing',
    schema: salvageAnswer,
    body: salvageBody,
    bodyBytesMax: salvageBytesMax,
    work: async (view, { body }) => {
      const { segment, lane_id: laneId, up_to: upTo, ...rest } = salvageBody.parse(body)
      const bytes = segment === null ? null : new Uint8Array(Buffer.from(segment, 'base64'))
      const taken = await view.salvage.take({ ...rest, laneId, upTo, segment: bytes })
      return { points: taken.points, up_to: taken.upTo }
    },
  }),
  route({
    method: 'post',
    path: '/v1/import',
    summary: 'Take one block of a points file into the spool, once however often it is given',
    schema: importAnswer,
    body: importBody,
    bodyBytesMax: importBytesMax,
    work: (view, { body }) => {
      const { block, lane } = importBody.parse(body)
      return view.importBlock(block, lane)
    },
  }),
  route({
    method: 'post',
    path: '/v1/reload',
    summary: 'Read the configuration again; an invalid one changes nothing',
    schema: reloadAnswer,
    work: (view) => view.reload(),
  }),
  route({
    method: 'post',
    path: '/v1/seal',
    summary: 'Seal the open segment of every lane now',
    schema: z.object({ sealed: z.literal(true) }),
    work: async (view) => {
      await view.seal()
      return { sealed: true }
    },
  }),
  route({
    method: 'get',
    path: '/openapi.json',
    summary: 'This document',
    schema: z.looseObject({}),
    work: async () => openApiDocument(),
  }),
]

/** OpenAPI 3.1, made from the table. */
export const openApiDocument = (): Record<string, unknown> => documentOf(routes)
