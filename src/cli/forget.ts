/** `holdfast forget`: an operator's word that what waits for a removed destination is not wanted there any more. */
import type { AgentStatus, ForgetAnswer } from '../control/view.ts'
import { exitCodes } from '../errors.ts'
import { type CliContext, mayLose } from './context.ts'

export const forget = async (
  context: CliContext,
  options: { readonly yes?: boolean },
  name = '',
): Promise<number> => {
  const client = await context.client()
  const { lanes } = await client.get<AgentStatus>('/v1/status')
  const waiting = lanes
    .flatMap((lane) => lane.readers)
    .filter((one) => one.reader === name)
    .reduce((sum, one) => sum + one.pending, 0)
  await mayLose(
    context,
    options.yes === true || waiting === 0,
    `${waiting} points wait for ${name} and would never be sent there.`,
  )
  const path = `/v1/destinations/${encodeURIComponent(name)}/forget`
  const answer = await client.post<ForgetAnswer>(path)
  if (context.flags.json) context.json(answer)
  else context.say(`${answer.destination} is forgotten; ${answer.points} points waited for it`)
  return exitCodes.good
}
