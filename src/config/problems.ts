/**
 * What is wrong with a configuration, where, and what to do about it; and how that is printed.
 * Invariant: a problem never shows the value of a secret, neither in its text nor in its excerpt.
 */

export interface ConfigProblem {
  readonly severity: 'error' | 'warning'
  /** HF-C…, see docs/operate/codes.md. */
  readonly code: string
  readonly text: string
  readonly file: string
  /** From 1; 0 when the problem has no place in the file. */
  readonly line: number
  readonly column: number
  readonly hint: string
  /** Lines of the file with their numbers, a caret under the place. */
  readonly excerpt: readonly string[]
  /** The file may be right: what it names, or the file itself, cannot be read now. */
  readonly surroundings?: true
  /** What it names is closed to this user: another may find it right. */
  readonly denied?: true
  /** A credential that systemd gives to the unit alone, asked for outside of it. */
  readonly unitOnly?: true
}

/** Wrong in itself: a later start, in other surroundings, would find the same. */
export const isWrongInItself = (problems: readonly ConfigProblem[]): boolean =>
  problems.some(({ severity, surroundings }) => severity === 'error' && surroundings !== true)

/** Edits (insert, delete, replace, swap of neighbours) that make `a` into `b`. */
export const editDistance = (a: string, b: string): number => {
  let older: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const now = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let best = Math.min((last[j] ?? 0) + 1, (now[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (older[j - 2] ?? 0) + 1)
      now.push(best)
    }
    older = last
    last = now
  }
  return last[b.length] ?? 0
}

const plainForm = (text: string) =>
  text
    .slice(0, 64)
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .replaceAll('-', '_')
    .toLowerCase()
/** The nearest of `allowed`, when near enough to be meant. */
export const didYouMean = (
  text: string,
  allowed: readonly string[],
  aliases: Readonly<Record<string, string>> = {},
): string | undefined => {
  const asked = plainForm(text)
  const known = Object.entries(aliases).filter(([, meant]) => allowed.includes(meant))
  const candidates = [...allowed.map((one) => [one, one] as const), ...known]
  let best: string | undefined
  let bestDistance = Math.max(1, Math.floor(asked.length / 3)) + 1
  for (const [word, meant] of candidates) {
    const distance = editDistance(asked, plainForm(word))
    if (distance < bestDistance) {
      best = meant
      bestDistance = distance
    }
  }
  return best
}

const place = ({ file, line, column }: ConfigProblem) =>
  line === 0 ? file : `${file}:${line}:${column}`

export interface RenderOptions {
  readonly color?: boolean
}
/** All problems, in the order of the file, as text that ends with a newline ('' for none). */
export const renderProblems = (
  problems: readonly ConfigProblem[],
  { color = false }: RenderOptions = {},
): string => {
  const paint = (style: string, text: string) => (color ? `\x1b[${style}m${text}\x1b[0m` : text)
  const out: string[] = []
  for (const one of problems) {
    const severity = one.severity === 'error' ? paint('31', 'error') : paint('33', 'warn ')
    out.push(`${paint('1', place(one))}  ${severity}  ${one.code}  ${one.text}`)
    out.push(...one.excerpt)
    if (one.hint !== '') out.push(`      = ${one.hint}`)
  }
  return out.map((line) => `${line}\n`).join('')
}

/** `2 errors, 1 warning` */
export const countProblems = (problems: readonly ConfigProblem[]): string => {
  const of = (severity: ConfigProblem['severity'], word: string) => {
    const count = problems.filter((one) => one.severity === severity).length
    return `${count} ${word}${count === 1 ? '' : 's'}`
  }
  return `${of('error', 'error')}, ${of('warning', 'warning')}`
}
