/** How people mean series: by globs over names, or over a series as `tap` and `explain` show it. Pure. */
import type { SeriesKey } from '../model.ts'

/** Whether `text` is what the glob says; time grows with the product of the lengths at worst. */
export const matchesGlob = (glob: string, text: string): boolean => {
  let [g, t, star, from] = [0, 0, -1, 0]
  while (t < text.length) {
    if (glob[g] === '*') {
      star = g++
      from = t
    } else if (g < glob.length && (glob[g] === '?' || glob[g] === text[t])) {
      g++
      t++
    } else if (star >= 0) {
      g = star + 1
      t = ++from
    } else return false
  }
  while (glob[g] === '*') g++
  return g === glob.length
}

/** `name,tag=value`. */
export const seriesText = ({ name, tags }: SeriesKey): string =>
  [name, ...tags.map(([tag, value]) => `${tag}=${value}`)].join(',')

/** Without a comma a glob is over the name alone: `*2` does not mean every series of line 2. */
export const meansSeries = (glob: string, series: SeriesKey): boolean =>
  matchesGlob(glob, series.name) || (glob.includes(',') && matchesGlob(glob, seriesText(series)))
