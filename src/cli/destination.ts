/** `holdfast destination plan`: what a person runs on the far side of a destination before its first send. */
import { catalog } from '../config/catalog.ts'
import { loadConfig } from '../config/load.ts'
import type { DestinationConfig } from '../config/schema.ts'
import { exitCodes, Failure } from '../errors.ts'
import { type CliContext, showProblems } from './context.ts'
import { retentionText } from './regional.ts'

/** Null: the configuration is wrong, and that was said. */
export const destinationNamed = async (
  context: CliContext,
  name: string,
): Promise<{ readonly destination: DestinationConfig; readonly agent: string } | null> => {
  const { environment } = context
  const loaded = loadConfig(context.configPath(), { environment, catalog, surroundings: false })
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

export const plan = async (
  context: CliContext,
  { role, retention }: { readonly role?: string; readonly retention?: string },
  name: string,
): Promise<number> => {
  const found = await destinationNamed(context, name)
  if (found === null) return exitCodes.configInvalid
  const { of, settings, type } = found.destination
  if (of.plan === undefined)
    throw new Failure(
      'HF-X404',
      `a destination of type ${type} has no plan`,
      'docs/operate/destinations.md says what to set up',
    )
  const options = { ...(role === undefined ? {} : { role }), ...retentionText(retention) }
  context.out(of.plan(settings, options).trimEnd())
  context.say('-- to be run by the owner of the database; safe to run again')
  return exitCodes.good
}
