/** `holdfast quarantine`: what could not be taken or delivered, with a sample; and `discard`, which forgets one. */
import type { QuarantineJson } from '../control/wire.ts'
import { timeText } from '../control/wire.ts'
import { exitCodes } from '../errors.ts'
import { printable } from '../observability/printable.ts'
import { type CliContext, mayLose } from './context.ts'

const sampleShown = 120
const sampleText = (base64: string): string => {
  const bytes = Buffer.from(base64, 'base64')
  const text = printable(bytes.subarray(0, sampleShown).toString('utf8'))
  return bytes.length > sampleShown ? `${text}… (${bytes.length} bytes)` : text
}

export const quarantine = async (
  context: CliContext,
  options: { readonly limit: number },
): Promise<number> => {
  const client = await context.client()
  const { quarantine: rows } = await client.get<{ quarantine: QuarantineJson[] }>(
    `/v1/quarantine?limit=${options.limit}`,
  )
  if (context.flags.json) {
    context.json({ quarantine: rows })
    return exitCodes.good
  }
  if (rows.length === 0) context.say('the quarantine is empty')
  for (const row of rows) {
    const where = row.seq > 0 ? `${row.lane} seq ${row.seq}` : row.lane
    context.out(
      `${row.id}  ${timeText(row.atUs)}  ${printable(row.source)}  ${where}  ${row.reason}: ${printable(row.text)}`,
    )
    context.out(`    ${sampleText(row.sample)}`)
  }
  return exitCodes.good
}

export const discard = async (
  context: CliContext,
  options: { readonly yes?: boolean },
  id = '',
): Promise<number> => {
  await mayLose(
    context,
    options.yes === true,
    `The sample ${id} would be gone for good (1 sample; its gap record stays).`,
  )
  await (await context.client()).post(`/v1/quarantine/${encodeURIComponent(id)}/discard`)
  if (context.flags.json) context.json({ discarded: true, id: Number(id) })
  else context.say(`discarded ${id}`)
  return exitCodes.good
}
