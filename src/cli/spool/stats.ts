/** `holdfast spool stats FILE`: lanes, seqs, points, bytes, readers, series of a file that nobody has open. */
import Database from 'better-sqlite3'
import { exitCodes } from '../../errors.ts'
import { lookInto, type SpoolLook } from '../../spool/look.ts'
import { unsentPoints } from '../../spool/unsent.ts'
import type { CliContext } from '../context.ts'
import { amountText, bytesText, countText, table } from '../format.ts'

/** Null: the file's books are damaged, nobody can tell. */
const unsentIn = (path: string): number | null => {
  const db = new Database(path, { readonly: true, fileMustExist: true, timeout: 0 })
  try {
    return unsentPoints(db)
  } catch {
    return null
  } finally {
    db.close()
  }
}
export const statsOf = (look: SpoolLook) => ({
  file: look.path,
  spoolId: look.spoolId,
  fileBytes: look.fileBytes,
  epochs: look.epochs,
  series: look.series().count,
  unsent: unsentIn(look.path),
  lanes: look.lanes.map((lane) => {
    let [journalPoints, gapPoints] = [0, 0]
    for (const { found } of look.journal(lane.id))
      journalPoints += 'problem' in found ? found.points : found.points.count
    for (const { count } of look.gaps(lane.id)) gapPoints += count
    const { id, name, head, floor, accepted, bytes, waiting, readers, intact } = lane
    return {
      name,
      id,
      intact,
      floor,
      head,
      accepted,
      bytes,
      journalPoints,
      waiting,
      gapPoints,
      readers,
    }
  }),
})

export const stats = async (
  context: CliContext,
  _options: object,
  file: string,
): Promise<number> => {
  using look = lookInto(file)
  const found = statsOf(look)
  if (context.flags.json) {
    context.json(found)
    return exitCodes.good
  }
  const unsent =
    found.unsent === null
      ? 'its books are damaged'
      : `${amountText(found.unsent, 'point')} not sent`
  const { fileBytes, series, epochs } = found
  const parts = [bytesText(fileBytes), `${countText(series)} series`, amountText(epochs, 'opening')]
  context.out(`${parts.join(', ')}: ${unsent}`)
  const rows = found.lanes.flatMap((lane) => [
    [
      lane.name || `lane ${lane.id}${lane.intact ? '' : ' (damaged)'}`,
      `${lane.floor}-${lane.head}`,
      amountText(lane.accepted + lane.journalPoints, 'point'),
      bytesText(lane.bytes),
      '',
    ],
    ...lane.readers.map((reader) => [
      `  ${reader.reader}`,
      `to ${reader.backlog}`,
      amountText(reader.delivered, 'point'),
      '',
      reader.lost > 0 ? `${amountText(reader.lost, 'point')} declared lost` : '',
    ]),
  ])
  for (const line of table([['LANE, READER', 'SEQ', 'POINTS', 'BYTES', ''], ...rows]))
    context.out(line)
  return exitCodes.good
}
