/** `holdfast destination plan`: what a person runs on the far side of a destination before its first send. */
import { catalog } from '../config/catalog.ts'
import { loadConfig } from '../config/load.ts'
import type { DestinationConfig } from '../config/schema.ts'
import { exitCodes, Failure } from '../errors.ts'
import { type CliContext, credentialsOf, showProblems } from './context.ts'
import { retentionText } from './regional.ts'

interface UnitOptions {
  readonly unit: string
}
/** With the secrets the agent itself would find. */
export const loadFor = (context: CliContext, { unit }: UnitOptions) => {
  const environment = credentialsOf(context.environment, unit)
  return loadConfig(context.configPath(), { environment, catalog, surroundings: false })
}

/** Null: the configuration is wrong, and that was said. */
export const destinationNamed = async (
  context: CliContext,
  options: UnitOptions,
  name: string,
): Promise<{ readonly destination: DestinationConfig; readonly agent: string } | null> => {
  const loaded = loadFor(context, options)
  if (!loaded.ok) {
    await showProblems(context, loaded.problems)
    return null
  }
  for (const secret of loaded.config.secrets) context.redactor.add(secret)
  const { destinations, agent } = loaded.config
  const found = destinations.find((one) => one.name === name)
  if (found !== undefined) return { destination: found, agent: agent.name }
  const names = destinations.map((one) => one.name).join(', ')
  throw new Failure('HF-X404', `there is no destination "${name}"`, `destinations: ${names}`)
}

interface PlanFlags extends UnitOptions {
  readonly role?: string
  readonly retention?: string
}
export const plan = async (
  context: CliContext,
  options: PlanFlags,
  name: string,
): Promise<number> => {
  const found = await destinationNamed(context, options, name)
  if (found === null) return exitCodes.configInvalid
  const { of, settings, type, lanes } = found.destination
  if (of.plan === undefined)
    throw new Failure(
      'HF-X404',
      `a destination of type ${type} has no plan`,
      'docs/operate/destinations.md says what to set up',
    )
  const { role, retention } = options
  const given = { ...(role === undefined ? {} : { role }), ...retentionText(retention) }
  const text = of.plan(settings, given).trimEnd()
  const warnings = of.warnings?.(settings, lanes) ?? []
  if (context.flags.json) context.json({ destination: name, type, warnings, plan: text })
  else context.out(text)
  for (const one of warnings) context.say(`-- ${one}`)
  context.say('-- for whoever owns the far side; safe to run again')
  return exitCodes.good
}
