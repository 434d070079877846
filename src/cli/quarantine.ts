/**
 * `holdfast quarantine`: what could not be taken, with a sample, and the points that a destination refused: to look at,
 * to send again once the far side was mended, to give up.
 */
import type { ResendAnswer } from '../control/view.ts'
import type { QuarantineJson, TapJson } from '../control/wire.ts'
import { timeText } from '../control/wire.ts'
import { remedies } from '../destinations/influx-losses.ts'
import { exitCodes, Failure, isFailure } from '../errors.ts'
import { quarantineRowsMax } from '../limits.ts'
import { printable } from '../observability/printable.ts'
import { type CliContext, mayLose } from './context.ts'
import { amountText, table } from './format.ts'

const sampleShown = 120
/** A request to a slow far side, answered. */
const resendMsMax = 120_000

const sampleText = (base64: string): string => {
  const bytes = Buffer.from(base64, 'base64')
  const text = printable(bytes.subarray(0, sampleShown).toString('utf8'))
  return bytes.length > sampleShown ? `${text}… (${bytes.length} bytes)` : text
}
const firstLine = (row: QuarantineJson): string => {
  const where = row.seq > 0 ? `${row.lane} seq ${row.seq}` : row.lane
  const what = row.points > 0 ? `${amountText(row.points, 'point')} of ${where}` : where
  const from = row.destination === '' ? row.source : `${row.destination} refused`
  const why = row.why === '' ? row.reason : row.why
  return `${row.id}  ${timeText(row.atUs)}  ${printable(from)}  ${what}  ${why}: ${printable(row.text)}`
}
const idOf = (given: string): string => {
  if (/^\d{1,15}$/.test(given)) return given
  throw new Failure(
    'HF-X002',
    `"${given}" is no ID`,
    'holdfast quarantine lists them, each by its ID',
  )
}
const all = async (context: CliContext, limit: number): Promise<readonly QuarantineJson[]> => {
  const client = await context.client()
  const path = `/v1/quarantine?limit=${limit}`
  return (await client.get<{ quarantine: QuarantineJson[] }>(path)).quarantine
}

export const quarantine = async (
  context: CliContext,
  options: { readonly limit: number },
): Promise<number> => {
  const rows = await all(context, options.limit)
  if (context.flags.json) {
    context.json({ quarantine: rows })
    return exitCodes.good
  }
  if (rows.length === 0) context.say('the quarantine is empty')
  for (const row of rows) {
    context.out(firstLine(row))
    if (row.points === 0) context.out(`    ${sampleText(row.sample)}`)
    else if (row.why !== '') context.out(`    ${remedies[row.why].replace('ID', String(row.id))}`)
  }
  return exitCodes.good
}

export const show = async (context: CliContext, _options: object, given = ''): Promise<number> => {
  const id = idOf(given)
  const client = await context.client()
  const row = await client.get<QuarantineJson & { readonly refused: readonly TapJson[] }>(
    `/v1/quarantine/${id}`,
  )
  if (context.flags.json) {
    context.json(row)
    return exitCodes.good
  }
  context.out(firstLine(row))
  if (row.why === '') {
    context.out(printable(Buffer.from(row.sample, 'base64').toString('utf8')))
    return exitCodes.good
  }
  context.out(remedies[row.why].replace('ID', id))
  const lines = row.refused.map(({ time, series, tags, kind, value, quality }) => {
    const pairs = Object.entries(tags).map(([name, tag]) => `${name}=${tag}`)
    return [time, [series, ...pairs].join(','), kind, JSON.stringify(value), quality].map(printable)
  })
  for (const line of table(lines)) context.out(line)
  return exitCodes.good
}

/** Exit code 1 when anything stays, or is not there. */
export const resend = async (
  context: CliContext,
  options: { readonly destination?: string },
  given: string | readonly string[] = [],
): Promise<number> => {
  const { destination } = options
  const ids = [given].flat().map(idOf)
  if ((ids.length === 0) === (destination === undefined))
    throw new Failure(
      'HF-X002',
      'say what to send again',
      'rows by their ID, or --destination NAME',
    )
  const rows = destination === undefined ? [] : await all(context, 2 * quarantineRowsMax)
  const mine = rows.filter((row) => row.destination === destination).map(({ id }) => String(id))
  const client = await context.client(resendMsMax)
  const answers: (ResendAnswer & { readonly id: number })[] = []
  let gone = 0
  const asked = (id: string) => client.post<ResendAnswer>(`/v1/quarantine/${id}/resend`)
  for (const id of destination === undefined ? ids : mine.reverse()) {
    const answer = await asked(id).catch((error: unknown) => {
      // The others are sent all the same.
      if (!isFailure(error, 'HF-X404') || ids.length === 1) throw error
      context.warn(`${id}  ${error.message}`)
    })
    if (answer === undefined) {
      gone++
      continue
    }
    answers.push({ id: Number(id), ...answer })
    if (context.flags.json) continue
    const { delivered, refused, text, hint } = answer
    const stay =
      refused === 0 ? '' : `, ${refused} stay: ${[text, hint].filter(Boolean).join('. ')}`
    context.out(`${id}  ${amountText(delivered, 'point')} delivered${printable(stay)}`)
  }
  if (context.flags.json) context.json({ resent: answers })
  else if (answers.length + gone === 0)
    context.say(`${destination} has refused nothing that is held here`)
  const stays = gone > 0 || answers.some(({ refused }) => refused > 0)
  return stays ? exitCodes.failed : exitCodes.good
}

export const discard = async (
  context: CliContext,
  options: { readonly yes?: boolean },
  given = '',
): Promise<number> => {
  const id = idOf(given)
  const client = await context.client()
  const path = `/v1/quarantine/${id}`
  const { points, destination } = await client.get<QuarantineJson>(path)
  const what =
    points === 0
      ? `The sample ${id} would be gone for good (1 sample; its gap record stays).`
      : `${amountText(points, 'point')} that ${destination} refused would never be sent there.`
  await mayLose(context, options.yes === true, what)
  await client.post(`${path}/discard`)
  if (context.flags.json) context.json({ discarded: true, id: Number(id) })
  else context.say(`discarded ${id}`)
  return exitCodes.good
}
