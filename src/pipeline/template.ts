/**
 * Names made of a message: paths into JSON, and templates such as `{topic[1]}.{topic[2]}.{field}`.
 *
 * Invariants: a text that does not parse is an error at configuration time, never at run time; a placeholder without
 * a value gives no name at all (the point is refused), never an empty piece.
 */
import { z } from 'zod'

/** What `JSON.parse` gives; integers beyond 2^53 may be bigints. */
export type Json = null | boolean | number | bigint | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json
}
/** Keys and indexes from the outside in; empty is the thing itself. */
export type Path = readonly (string | number)[]

/** `a.b[0]["odd.key"]`, or undefined when the text is no path. */
export const parsePath = (text: string): Path | undefined => {
  const path: (string | number)[] = []
  const step = /(?:^|\.)([^.[\]{}"]+)|\[(\d{1,6})\]|\["([^"]*)"\]/y
  while (step.lastIndex < text.length) {
    const match = step.exec(text)
    if (match === null) return undefined
    path.push(match[2] === undefined ? ((match[1] ?? match[3]) as string) : Number(match[2]))
  }
  return path
}

export const valueAtPath = (from: Json | undefined, path: Path): Json | undefined => {
  let here: Json | undefined = from
  for (const step of path) {
    if (here === null || typeof here !== 'object') return undefined
    if (typeof step === 'number') here = Array.isArray(here) ? here[step] : undefined
    else
      here =
        !Array.isArray(here) && Object.hasOwn(here, step) ? (here as JsonObject)[step] : undefined
  }
  return here
}

type Part =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'topic' }
  | { readonly kind: 'level'; readonly level: number }
  | { readonly kind: 'field' }
  | { readonly kind: 'item' | 'payload'; readonly path: Path }

export interface Template {
  /** Says what is missing (`{payload.line}`) instead of a name. */
  readonly render: (from: NameParts) => { readonly name: string } | { readonly missing: string }
  /** True when the name depends on nothing but topic and field, so that it may be remembered for them. */
  readonly steady: boolean
}
export interface NameParts {
  readonly topic: string
  readonly levels: readonly string[]
  readonly field: string
  readonly item: Json | undefined
  readonly payload: Json | undefined
}

const parsePart = (text: string): Part | undefined => {
  if (text === 'topic' || text === 'field') return { kind: text }
  const level = /^topic\[(-?\d{1,3})\]$/.exec(text)
  if (level) return { kind: 'level', level: Number(level[1]) }
  const inside = /^(item|payload)(?:\.|(?=\[))(.+)$/.exec(text)
  const path = inside?.[2] === undefined ? undefined : parsePath(inside[2])
  return path && inside ? { kind: inside[1] as 'item' | 'payload', path } : undefined
}
const parseParts = (text: string): readonly Part[] | undefined => {
  const parts: Part[] = []
  for (const [piece, inside] of text.matchAll(/\{([^{}]*)\}|[^{}]+|[{}]/g)) {
    const part: Part | undefined =
      inside === undefined ? { kind: 'text', text: piece } : parsePart(inside)
    if (part === undefined || piece === '{' || piece === '}') return undefined
    parts.push(part)
  }
  return parts.length === 0 ? undefined : parts
}

const scalarText = (value: Json | undefined): string | undefined =>
  value === undefined || value === null || typeof value === 'object' ? undefined : String(value)

const pieceOf = (part: Part, from: NameParts): string | undefined => {
  switch (part.kind) {
    case 'text':
      return part.text
    case 'topic':
      return from.topic
    case 'level':
      return from.levels.at(part.level)
    case 'field':
      return from.field
    case 'item':
      return scalarText(valueAtPath(from.item, part.path))
    case 'payload':
      return scalarText(valueAtPath(from.payload, part.path))
  }
}
const shown = (part: Part): string => {
  if (part.kind === 'level') return `{topic[${part.level}]}`
  if (part.kind === 'item' || part.kind === 'payload')
    return `{${part.kind}.${part.path.join('.')}}`
  return `{${part.kind}}`
}

/** Undefined when the text is no template. */
export const compileTemplate = (text: string): Template | undefined => {
  const parts = parseParts(text)
  if (parts === undefined) return undefined
  return {
    steady: parts.every((part) => part.kind !== 'item' && part.kind !== 'payload'),
    render: (from) => {
      let name = ''
      for (const part of parts) {
        const piece = pieceOf(part, from)
        if (piece === undefined || piece === '') return { missing: shown(part) }
        name += piece
      }
      return { name }
    },
  }
}

export const pathSchema = () =>
  z.string().refine((text) => parsePath(text) !== undefined, {
    error: 'must be a path such as "data.readings[0].value"',
  })
export const templateSchema = () =>
  z.string().refine((text) => compileTemplate(text) !== undefined, {
    error:
      'must be a template of {topic}, {topic[1]}, {field}, {item.PATH}, {payload.PATH} and plain text',
  })
