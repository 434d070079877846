/**
 * What a stage has to warn of: by class how many points, and the newest of them.
 * Invariant: asked once, forgotten; no part of a stage's state.
 */
import type { SeriesEntry } from '../model.ts'
import type { StageWarning } from '../stage-facts.ts'

export interface StageWarnings {
  readonly note: (classNumber: number, own: number, timeUs: number) => void
  readonly take: () => readonly StageWarning[]
}

export const createStageWarnings = (
  kind: StageWarning['kind'],
  classes: readonly { readonly name: string }[],
  entries: readonly SeriesEntry[],
): StageWarnings => {
  const noted = classes.map(() => ({ points: 0, own: 0, timeUs: 0 }))
  return {
    note: (classNumber, own, timeUs) => {
      const one = noted[classNumber]
      if (one === undefined) return
      one.points++
      one.own = own
      one.timeUs = timeUs
    },
    take: () =>
      noted.flatMap((one, at) => {
        const { points, own, timeUs } = one
        const [{ name } = { name: '' }, series] = [classes[at], entries[own]]
        one.points = 0
        return points === 0 || series === undefined
          ? []
          : [{ kind, class: name, points, series, timeUs }]
      }),
  }
}
