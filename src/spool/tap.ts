/** A look at points as they are accepted; costs nothing while nobody listens. */
import { valueAt } from '../batch.ts'
import type { PointBatch, SeriesTable } from '../model.ts'
import type { SpoolPort, TapPoint } from '../spool-port.ts'

type Listener = Parameters<SpoolPort['tap']>[0]
/** A listener sees at most this many points of one append: the newest. */
const tapPointsMax = 1_000

export const createTap = (series: Pick<SeriesTable, 'entry'>) => {
  const listeners = new Set<Listener>()
  const pointAt = (points: PointBatch, at: number): TapPoint => {
    const { name, tags } = series.entry(points.series[at] as number)
    return {
      name,
      tags,
      timeUs: points.timeUs[at] as number,
      value: valueAt(points, at),
      quality: points.qualities[at] as number,
    }
  }
  return {
    listen: (listener: Listener) => {
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },
    show: (points: PointBatch) => {
      if (listeners.size === 0 || points.count === 0) return
      const first = Math.max(0, points.count - tapPointsMax)
      const shown = Array.from({ length: points.count - first }, (_, at) =>
        pointAt(points, first + at),
      )
      for (const listener of listeners) listener(shown)
    },
  }
}
