/**
 * What every server of fastify is told: no route has a schema of fastify's. What would compile one, ajv and more, is
 * not even loaded, and the bundle leaves it out.
 */

const noSchemas = (): never => {
  throw new Error('routes have no schemas')
}
export const schemaController = {
  compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas },
}
