/**
 * What nobody would notice of classes until points are missed: a class that no series reaches, series that no class and
 * no destination takes, and lanes that classes fill for nobody.
 *
 * Invariant: of a glob it says that another one takes all that it takes only where that is so.
 */
import type { ClassMatch } from '../pipeline/classes.ts'
import { matchesGlob } from '../pipeline/globs.ts'
import type { LaneClasses } from './classes.ts'
import type { DestinationConfig, LaneConfig } from './schema.ts'
import type { Path, Trouble } from './source-text.ts'

/** A text of which no glob names the characters. */
const odd = ['', '\u0001', '\u0001\u0002', '\u0002\u0001\u0003\u0004']
/** Every text of `narrow` is one of `wide`: tried with what its wildcards may stand for, so `?` in `wide` says no. */
const takesGlob = (wide: string, narrow: string): boolean => {
  if (wide === narrow || /^\*+$/.test(wide)) return true
  if (wide.includes('?')) return false
  const filled = (run: string) => narrow.replaceAll('*', run).replaceAll('?', '\u0005')
  return odd.every((run) => matchesGlob(wide, filled(run)))
}
/** Every series of `narrow` is one of `wide`. */
const takesAll = (wide: ClassMatch, narrow: ClassMatch): boolean => {
  const names = wide.names ?? ['*']
  const byName = (narrow.names ?? ['*']).every((one) => names.some((glob) => takesGlob(glob, one)))
  const { units } = wide
  const byUnit = units === undefined || (narrow.units?.every((one) => units.includes(one)) ?? false)
  const byTags = Object.entries(wide.tags ?? {}).every(([tag, glob]) => {
    const asked = narrow.tags?.[tag]
    return asked !== undefined && takesGlob(glob, asked)
  })
  return byName && byUnit && byTags
}

const hidden = ({ classes }: LaneClasses): Trouble[] =>
  classes.flatMap(({ name, match }, at): Trouble[] => {
    const before = classes.slice(0, at).find((one) => takesAll(one.match, match))
    if (before === undefined) return []
    return [
      {
        severity: 'warning',
        code: 'HF-C045',
        text: `class "${name}" takes no series: each is of class "${before.name}" already, which stands before it`,
        hint: "the first class that matches is a series' own: put the narrower one first",
        path: ['classes', name],
      },
    ]
  })

interface Around {
  readonly lanes: readonly LaneConfig[]
  readonly destinations: readonly Pick<DestinationConfig, 'lanes'>[]
}
const unclassed = ({ lane, classes }: LaneClasses, taken: ReadonlySet<string>): Trouble[] => {
  if (taken.has(lane) || classes.some(({ match }) => takesAll(match, {}))) return []
  const last = classes.at(-1)?.name ?? ''
  return [
    {
      severity: 'warning',
      code: 'HF-C046',
      text: `points of lane "${lane}" that no class takes go nowhere: no destination takes that lane`,
      hint: 'end with a class for the rest: `rest: {reduce: {method: every}}` sends it, `rest: {}` says that it stays',
      path: ['classes', last],
    },
  ]
}

/** In a lane that drops its oldest nothing is filled: somebody may want it for replays alone. */
const unsent = (
  { classes }: LaneClasses,
  taken: ReadonlySet<string>,
  around: Around,
): Trouble[] => {
  const fills = (lane: string) =>
    !taken.has(lane) &&
    around.lanes.some(({ name, when_full }) => name === lane && when_full !== 'drop_oldest')
  return classes.flatMap(({ name, reduce, windows }) => {
    const written: (readonly [lane: string, path: Path])[] = [
      ...(reduce.method === 'none' ? [] : [[reduce.lane, ['reduce', 'lane']] as const]),
      ...windows.map(({ lane }, at) => [lane, ['windows', at, 'lane']] as const),
    ]
    return written
      .filter(([lane]) => fills(lane))
      .map(
        ([lane, path]): Trouble => ({
          code: 'HF-C047',
          text: `class "${name}" fills lane "${lane}", and no destination takes it: the spool would fill up`,
          hint: `add "${lane}" to the lanes of a destination, or give the lane when_full: drop_oldest`,
          path: ['classes', name, ...path],
          on: 'value',
        }),
      )
  })
}

/** Asked of a configuration without errors. One without destinations is told so, and nothing more. */
export const reachTroubles = (all: readonly LaneClasses[], around: Around): readonly Trouble[] => {
  const taken = new Set(around.destinations.flatMap(({ lanes }) => lanes))
  const routed = around.destinations.length > 0
  return all.flatMap((one) => [
    ...hidden(one),
    ...(routed ? [...unclassed(one, taken), ...unsent(one, taken, around)] : []),
  ])
}
