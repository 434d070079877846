/** `holdfast gaps`: what was lost, where, when and why. Exit 0: a recorded loss is an answer, not a failure. */
import { timeText } from '../control/wire.ts'
import { exitCodes } from '../errors.ts'
import type { GapReason } from '../model.ts'
import { printable } from '../observability/printable.ts'
import type { GapRow } from '../spool-port.ts'
import type { CliContext } from './context.ts'
import { amountText, table } from './format.ts'

const meaning: Readonly<Record<GapReason, string>> = {
  quota: 'given up to make room',
  damaged: 'bytes on disk no longer matched their checksum',
  malformed: 'messages that could not be read',
  refused: 'values or names that are not taken',
  rejected: 'refused by the destination for good',
  forgotten: 'lost by the region, no longer held here',
  anchor: 'the spool came back older than it was',
  discarded: 'given up by an operator',
}
const when = ({ timeUsMin, timeUsMax }: GapRow) =>
  timeUsMin === 0 ? 'time unknown' : `${timeText(timeUsMin)} .. ${timeText(timeUsMax)}`

export const gaps = async (
  context: CliContext,
  options: { readonly limit: number },
): Promise<number> => {
  const client = await context.client()
  const { gaps: rows } = await client.get<{ gaps: GapRow[] }>(`/v1/gaps?limit=${options.limit}`)
  if (context.flags.json) {
    context.json({ gaps: rows })
    return exitCodes.good
  }
  if (rows.length === 0) context.say('no gaps: nothing was lost')
  const lines = rows.map((row) => [
    row.lane,
    row.seq === row.seqLast ? `${row.seq}` : `${row.seq}-${row.seqLast}`,
    amountText(row.count, row.reason === 'malformed' ? 'message' : 'point'),
    row.reason,
    row.destination === '' ? 'all' : row.destination,
    printable(row.source),
    when(row),
  ])
  for (const line of table([['LANE', 'SEQ', 'LOST', 'REASON', 'FOR', 'SOURCE', 'TIME'], ...lines]))
    if (rows.length > 0) context.out(line)
  if (rows.length === options.limit)
    context.say(`the newest ${options.limit}; there may be more: --limit`)
  for (const reason of new Set(rows.map((row) => row.reason)))
    context.say(`${reason}: ${meaning[reason]}`)
  return exitCodes.good
}
