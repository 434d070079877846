/** `holdfast config schema` and `config openapi`: what editors and other programs need to know. */
import type { CliContext } from './context.ts'

export const schema = async (
  context: CliContext,
  options: { readonly regional?: boolean },
): Promise<number> => {
  if (options.regional) {
    const { regionalJsonSchema } = await import('../config/regional.ts')
    context.out(JSON.stringify(regionalJsonSchema(), null, 2))
    return 0
  }
  const { configJsonSchema } = await import('../config/schema.ts')
  const { catalog } = await import('../config/catalog.ts')
  context.out(JSON.stringify(configJsonSchema(catalog), null, 2))
  return 0
}
export const openapi = async (context: CliContext): Promise<number> => {
  const { openApiDocument } = await import('../control/api.ts')
  const document = JSON.parse(JSON.stringify(openApiDocument()))
  if (context.flags.json) {
    context.json(document)
    return 0
  }
  const { stringify } = await import('yaml')
  const text = stringify(document, { lineWidth: 110, aliasDuplicateObjects: false })
  context.out(`# Made from src/control/api.ts; a test holds them together.\n${text.trimEnd()}`)
  return 0
}
