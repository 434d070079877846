/** `holdfast check`: one verdict on a configuration; never "valid" when a part of it is not. */
import { countProblems } from '../config/problems.ts'
import { exitCodes } from '../errors.ts'
import { type CliContext, credentialsOf, showProblems } from './context.ts'

export interface CheckOptions {
  readonly surroundings: boolean
  readonly denyWarnings?: boolean
  readonly regional?: boolean
  readonly unit?: string
}
const load = async (context: CliContext, path: string, options: CheckOptions) => {
  const { surroundings, regional, unit = regional ? 'holdfast-regional' : 'holdfast' } = options
  const environment = credentialsOf(context.environment, unit)
  if (regional) {
    const { loadRegionalConfig } = await import('../config/regional.ts')
    return loadRegionalConfig(path, { environment, surroundings, flags: {} })
  }
  const { loadConfig } = await import('../config/load.ts')
  const { catalog } = await import('../config/catalog.ts')
  return loadConfig(path, { environment, surroundings, catalog })
}

export const check = async (context: CliContext, options: CheckOptions): Promise<number> => {
  const path = context.configPath()
  const result = await load(context, path, options)
  const problems = result.ok ? result.warnings : result.problems
  const good = result.ok && !(options.denyWarnings && problems.length > 0)
  if (context.flags.json) context.json({ ok: good, file: path, problems })
  else {
    await showProblems(context, problems)
    const count = problems.length > 0 ? ` (${countProblems(problems)})` : ''
    context.out(
      good
        ? `${context.paint('green', 'valid')}  ${path}${count}`
        : `${context.paint('red', 'invalid')}  ${path}${count}. A running agent goes on with the configuration it has.`,
    )
  }
  return good ? exitCodes.good : exitCodes.configInvalid
}
