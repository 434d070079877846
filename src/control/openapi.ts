/** The OpenAPI document of the control API, made from its table of routes. Pure. */
import { z } from 'zod'
import { version } from '../release.ts'
import type { Route } from './api.ts'

const schemaOf = (schema: z.ZodType) => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' })
  return rest
}
const answerOf = (schema: z.ZodType) => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'output' })
  return rest
}
const parameters = (schema: z.ZodObject, place: 'path' | 'query') =>
  Object.entries(schema.shape).map(([name, one]) => ({
    name,
    in: place,
    required: place === 'path',
    schema: schemaOf(one as z.ZodType),
  }))
const mediaTypes = { json: 'application/json', text: 'text/plain', ndjson: 'application/x-ndjson' }
const operation = (one: Route) => {
  const given = [...parameters(one.params, 'path'), ...parameters(one.query, 'query')]
  const hasBody = Object.keys(one.body.shape).length > 0
  return {
    summary: one.summary,
    ...(given.length > 0 ? { parameters: given } : {}),
    ...(hasBody
      ? {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: schemaOf(one.body) } },
          },
        }
      : {}),
    responses: {
      200: {
        description: 'Done',
        content: { [mediaTypes[one.answer]]: one.schema ? { schema: answerOf(one.schema) } : {} },
      },
      default: { $ref: '#/components/responses/error' },
    },
  }
}
export const documentOf = (routes: readonly Route[]): Record<string, unknown> => {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const one of routes) paths[one.path] = { ...paths[one.path], [one.method]: operation(one) }
  const error = z.object({
    error: z.object({ code: z.string(), text: z.string(), hint: z.string() }),
  })
  return {
    openapi: '3.1.0',
    info: {
      title: 'Holdfast control API',
      version,
      description:
        'Served by a running agent on a Unix socket; who may open the socket may use all of it.',
    },
    paths,
    components: {
      responses: {
        error: {
          description:
            '400 wrong question, 404 no such thing, 409 refused, 503 the spool does not answer',
          content: { 'application/json': { schema: schemaOf(error) } },
        },
      },
    },
  }
}
