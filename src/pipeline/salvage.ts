/**
 * Takes in what `holdfast spool salvage` reads out of a spool file that was set aside: as new points of a lane.
 *
 * Invariants: how far a file has been taken in is kept in the spool in the transaction that takes it, so that asking
 * again, after whatever broke it off, adds nothing twice; bytes are believed only as a segment whose checksum holds.
 */

import { emptyBatch } from '../batch.ts'
import { openSegment } from '../codec/segment.ts'
import { Failure } from '../errors.ts'
import type { GapReason, Loss, PointBatch, SeriesTable } from '../model.ts'
import type { SpoolPort } from '../spool-port.ts'

export interface SalvageFile {
  /** Identity of the spool it comes from, and the lane's number there. */
  readonly spool: string
  readonly laneId: number
}
export interface SalvageRequest extends SalvageFile {
  /** Lane that takes it. */
  readonly lane: string
  /** Place in the file up to which everything is then dealt with; places rise. */
  readonly upTo: number
  readonly series: readonly {
    readonly name: string
    readonly tags: readonly (readonly [string, string])[]
    readonly unit: string
  }[]
  /** Points in the form of a segment, its series numbers indexing `series`; null: none, only losses. */
  readonly segment: Uint8Array | null
  /** Losses that the file had recorded and not delivered, and what could not be read. */
  readonly losses: readonly {
    readonly reason: GapReason
    readonly count: number
    readonly source: string
  }[]
}
export interface SalvageAnswer {
  /** Points taken now. */
  readonly points: number
  readonly upTo: number
}
export interface Salvage {
  readonly upTo: (file: SalvageFile) => Promise<number>
  readonly take: (request: SalvageRequest) => Promise<SalvageAnswer>
}

const keyOf = ({ spool, laneId }: SalvageFile) => `salvage/${spool}/${laneId}`

export const createSalvage = (
  spool: Pick<SpoolPort, 'append' | 'kept'>,
  table: Pick<SeriesTable, 'ref'>,
): Salvage => {
  const upTo = async (file: SalvageFile): Promise<number> => {
    const kept = await spool.kept(keyOf(file))
    return kept === null || kept.length !== 8 ? 0 : Buffer.from(kept).readDoubleLE()
  }
  const pointsOf = ({ segment, series }: SalvageRequest): PointBatch => {
    if (segment === null) return emptyBatch
    const { points } = openSegment(segment)
    const refs = series.map(({ name, tags, unit }) => table.ref(name, tags, unit))
    const numbers = points.series.map((index) => refs[index] ?? Number.NaN)
    if (points.series.some((index) => index >= refs.length))
      throw new Failure('HF-X006', 'a point names no series of the request')
    return { ...points, series: numbers }
  }
  const takeNext = async (request: SalvageRequest): Promise<SalvageAnswer> => {
    const before = await upTo(request)
    if (request.upTo <= before) return { points: 0, upTo: before }
    const points = pointsOf(request)
    const value = Buffer.alloc(8)
    value.writeDoubleLE(request.upTo)
    const losses = request.losses.map(
      (one): Loss<GapReason> => ({ ...one, text: 'from a spool set aside' }),
    )
    const kept = [{ key: keyOf(request), value }]
    await spool.append(request.lane, { points, losses, kept, urgent: true })
    return { points: points.count, upTo: request.upTo }
  }
  // One after another: two who salvage the same file must not both find it untaken.
  let last: Promise<unknown> = Promise.resolve()
  return {
    upTo,
    take: (request) => {
      const next = last.then(() => takeNext(request))
      last = next.catch(() => undefined)
      return next
    },
  }
}
