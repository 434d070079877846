/**
 * A YAML file with the place of everything in it: parse, find the node of a path, cut an excerpt.
 * Invariants: one document, at most 1 MiB, aliases bounded; excerpts show `****` where a secret stands literally.
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
} from 'yaml'
import { textOf } from '../errors.ts'
import { isSecretName } from '../observability/redact.ts'
import type { ConfigProblem } from './problems.ts'

export type Path = readonly (string | number)[]
export interface Trouble {
  readonly severity?: ConfigProblem['severity']
  readonly code: string
  readonly text: string
  readonly hint?: string
  /** Stands on the caret line. */
  readonly remark?: string
  readonly path?: Path
  /** Whether the caret stands under the key or under the value; a missing value falls back to the nearest parent. */
  readonly on?: 'key' | 'value'
  /** Byte range in the text, instead of a path. */
  readonly range?: readonly [number, number]
  /** What stands there is, or was meant to be, a secret: no excerpt shows it. */
  readonly secret?: boolean
  /** As in `ConfigProblem`. */
  readonly surroundings?: true
  readonly denied?: true
  readonly unitOnly?: true
}
export interface SourceText {
  readonly file: string
  readonly value: unknown
  readonly syntax: readonly ConfigProblem[]
  readonly problem: (trouble: Trouble) => ConfigProblem
  /** From now on the scalar at this path is masked in excerpts. */
  readonly maskAt: (path: Path) => void
}

export const configBytesMax = 1 << 20
const excerptWidthMax = 160
/** A reference in its place is no secret. */
const namedValue = /([\w.-]{1,64})["']?[ \t]{0,8}:[ \t]{0,8}(?=[^\s$])/g
/** In a line of a file that cannot be parsed nobody knows where a value ends: all that follows a secret's name. */
const withoutNamed = (line: string): string => {
  for (const { 0: all, 1: name = '', index } of line.matchAll(namedValue)) {
    const from = index + all.length
    if (isSecretName(name)) return line.slice(0, from) + '*'.repeat(line.length - from)
  }
  return line
}
const passwordInUrl = /(:\/\/[^\s/@:"]{0,256}:)(?!\$\{)([^\s/@"]{1,256})@/g

/** `spool`, `sources[0].tls`; '' is the file itself. */
export const dotted = (path: Path): string =>
  path.reduce<string>(
    (text, one) => (typeof one === 'number' ? `${text}[${one}]` : text ? `${text}.${one}` : one),
    '',
  )

interface Found {
  readonly key: Node | null
  readonly value: Node | null
}
const find = (document: Document, path: Path): Found | undefined => {
  let found: Found = { key: null, value: document.contents as Node | null }
  for (const step of path) {
    const at = isAlias(found.value) ? found.value.resolve(document) : found.value
    if (isMap(at)) {
      const pair = at.items.find(
        ({ key }) => String(isScalar(key) ? key.value : key) === String(step),
      )
      if (pair === undefined) return undefined
      found = { key: pair.key as Node, value: pair.value as Node | null }
    } else if (isSeq(at) && typeof step === 'number') {
      const item = at.items[step] as Node | undefined
      if (item === undefined) return undefined
      found = { key: null, value: item }
    } else return undefined
  }
  return found
}
/** Start and end of the best node for a path: its own, else that of the nearest parent. */
const rangeOf = (
  document: Document,
  path: Path,
  on: 'key' | 'value',
): readonly [number, number] | undefined => {
  for (let length = path.length; length >= 0; length--) {
    const found = find(document, path.slice(0, length))
    if (found === undefined) continue
    const whole = length === path.length
    const inKey = found.key?.range
    const inValue = found.value?.range
    // A whole map as the place of a problem is its key, or its first character.
    const valueIsPlace = isScalar(found.value) && whole && on === 'value'
    if (valueIsPlace && inValue && inValue[1] > inValue[0]) return [inValue[0], inValue[1]]
    if (inKey) return [inKey[0], inKey[1]]
    if (inValue && length > 0) return [inValue[0], inValue[0] + 1]
  }
  return undefined
}

const explain: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'a key stands twice in one map',
  TAB_AS_INDENT: 'tabs cannot indent YAML, use spaces',
  BAD_INDENT: 'indentation does not fit the lines around it',
  MULTIPLE_DOCS: 'only one YAML document is read; remove the "---"',
}

export const parseSource = (file: string, text: string): SourceText => {
  const counter = new LineCounter()
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, merge: false })
  const masks: (readonly [number, number])[] = []
  const masked = () => {
    let out = text
    for (const [from, to] of masks)
      out = out.slice(0, from) + out.slice(from, to).replace(/[^\n]/g, '*') + out.slice(to)
    // Same length, so that carets stay where they belong.
    return out
      .replace(
        passwordInUrl,
        (_, head: string, secret: string) => `${head}${'*'.repeat(secret.length)}@`,
      )
      .split(/\r?\n/)
      .map((line) => (document.errors.length > 0 ? withoutNamed(line) : line))
  }
  const problem = (trouble: Trouble): ConfigProblem => {
    const range = trouble.range ?? rangeOf(document, trouble.path ?? [], trouble.on ?? 'key')
    const common = {
      severity: trouble.severity ?? 'error',
      code: trouble.code,
      text: trouble.text,
      file,
      ...(trouble.surroundings ? { surroundings: true as const } : {}),
      ...(trouble.denied ? { denied: true as const } : {}),
      ...(trouble.unitOnly ? { unitOnly: true as const } : {}),
    }
    if (range === undefined) {
      const hint = [trouble.remark, trouble.hint].filter(Boolean).join('; ')
      return { ...common, line: 0, column: 0, hint, excerpt: [] }
    }
    const { line, col } = counter.linePos(Math.min(range[0], text.length))
    const lines = masked()
    const shown = (lines[line - 1] ?? '').slice(0, excerptWidthMax)
    const caret = Math.max(1, Math.min(range[1] - range[0], shown.length - col + 1))
    const row = (at: number) =>
      `${String(at).padStart(5)} | ${(lines[at - 1] ?? '').slice(0, excerptWidthMax)}`
    const indent = shown.slice(0, col - 1).replace(/[^\t]/g, ' ')
    const excerpt = [
      ...(line > 1 ? [row(line - 1)] : []),
      row(line),
      `      | ${indent}${'^'.repeat(caret)}${trouble.remark ? `  ${trouble.remark}` : ''}`,
    ]
    return { ...common, line, column: col, hint: trouble.hint ?? '', excerpt }
  }
  const syntax = document.errors.map((error) =>
    problem({
      code: error.code === 'DUPLICATE_KEY' ? 'HF-C007' : 'HF-C002',
      text: explain[error.code] ?? error.message,
      range: [error.pos[0], Math.max(error.pos[1], error.pos[0] + 1)],
    }),
  )
  let value: unknown
  if (syntax.length === 0)
    try {
      value = document.toJS({ maxAliasCount: 100 })
      // An anchor that holds an alias of itself would never end.
      JSON.stringify(value)
    } catch (error) {
      syntax.push(
        problem({ code: 'HF-C002', text: `aliases cannot be resolved: ${textOf(error)}` }),
      )
    }
  return {
    file,
    value,
    syntax,
    problem,
    maskAt: (path) => {
      const range = find(document, path)?.value?.range
      if (range) masks.push([range[0], range[1]])
    },
  }
}

export const inFileOrder = (problems: readonly ConfigProblem[]) =>
  problems.toSorted((a, b) => a.line - b.line || a.column - b.column)

/** Troubles as problems in the file's order. */
export const problemsOf = (
  source: SourceText,
  troubles: readonly Trouble[],
): readonly ConfigProblem[] => {
  for (const { secret, path } of troubles) if (secret && path) source.maskAt(path)
  return inFileOrder(troubles.map(source.problem))
}
