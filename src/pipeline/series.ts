/**
 * The agent's series: a name with tags becomes a dense number once, and stays it until the process ends.
 *
 * Invariants: a key is normalised (tags sorted by name in UTF-16 order, empty names and values dropped, names unique)
 * before it is looked at, so every spelling of one series has one ref; two keys never share an id (a collision is
 * refused, not merged); refs are 0, 1, 2, … without holes; nothing is kept of a key that was refused.
 */
import { Failure } from '../errors.ts'
import { seriesKeyBytesMax, seriesMax, seriesNameBytesMax, seriesTagsMax } from '../limits.ts'
import {
  type SeriesEntry,
  type SeriesId,
  type SeriesKey,
  type SeriesRef,
  type SeriesTable,
  windowTags,
} from '../model.ts'

export interface SeriesTableParts {
  readonly agent: string
  readonly seriesIdOf: (agent: string, key: SeriesKey) => SeriesId
  /** Ceiling of distinct series; `seriesMax` unless a test or a small gateway says less. */
  readonly max?: number
}
const ownTags: readonly string[] = Object.values(windowTags)
type Tag = readonly [string, string]

const codes = { full: 'HF-I001', refused: 'HF-I002', collision: 'HF-I003' } as const

export const createSeriesTable = (parts: SeriesTableParts): SeriesTable => {
  const { agent, seriesIdOf, max = seriesMax } = parts
  const refs = new Map<string, SeriesRef>()
  const refOfId = new Map<SeriesId, SeriesRef>()
  const entries: SeriesEntry[] = []

  const add = (lookUp: string, key: SeriesKey, unit: string): SeriesRef => {
    check(key)
    if (entries.length >= max) {
      const hint =
        'Look for a name or tag that changes all the time (an id, a time), or raise the cap.'
      throw new Failure(codes.full, `the agent holds its ${max} series already`, hint)
    }
    const id = seriesIdOf(agent, key)
    const other = refOfId.get(id)
    if (other !== undefined) {
      const text = `series ${shown(key.name)} and ${shown(entryOf(other).name)} have the same id ${id}`
      throw new Failure(codes.collision, text, 'Rename one of the two.')
    }
    const ref = entries.length
    entries.push({ ...key, id, unit })
    refs.set(lookUp, ref)
    refOfId.set(id, ref)
    return ref
  }
  const entryOf = (ref: SeriesRef): SeriesEntry => {
    const entry = entries[ref]
    if (entry === undefined) throw new Error(`series ref ${ref} of ${entries.length}`)
    return entry
  }
  return {
    ref: (name, tags, unit = '') => {
      const key = { name, tags: normalTags(tags) }
      const lookUp = lookUpKey(key)
      const ref = refs.get(lookUp)
      if (ref === undefined) return add(lookUp, key, unit)
      const known = entryOf(ref)
      // Equal look-up keys with unequal numbers of tags: a NUL stands where a separator should.
      if (known.tags.length !== key.tags.length) check(key)
      // A unit is an attribute, not identity: the last one said stands.
      if (unit !== '' && unit !== known.unit) entries[ref] = { ...known, unit }
      return ref
    },
    entry: entryOf,
    count: () => entries.length,
  }
}

/** Sorted copies of the tags that say something; the same array when it is in that form already. */
const normalTags = (tags: readonly Tag[]): readonly Tag[] => {
  for (let at = 0; at < tags.length; at++) {
    const [name, value] = tags[at] as Tag
    const before = at === 0 ? '' : (tags[at - 1] as Tag)[0]
    if (name === '' || value === '' || (at > 0 && name <= before)) return sorted(tags)
  }
  return tags.slice()
}
const sorted = (tags: readonly Tag[]): readonly Tag[] =>
  tags
    .filter(([name, value]) => name !== '' && value !== '')
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))

/** Keys hold no NUL (it is refused), so two of them look up alike only if they are equal. */
const lookUpKey = (key: SeriesKey): string => {
  let text = key.name
  for (const [name, value] of key.tags) text += `\0${name}\0${value}`
  return text
}

const check = ({ name, tags }: SeriesKey): void => {
  const refuse = (why: string): never => {
    const hint = 'Rename the series or its tags where they are made, or map them to shorter names.'
    throw new Failure(codes.refused, `series ${shown(name)} is refused: ${why}`, hint)
  }
  if (name === '') refuse('its name is empty')
  const nameBytes = Buffer.byteLength(name)
  if (nameBytes > seriesNameBytesMax) refuse(`its name has more than ${seriesNameBytesMax} bytes`)
  if (tags.length > seriesTagsMax) refuse(`it has more than ${seriesTagsMax} tags`)
  let keyBytes = nameBytes
  for (const [at, [tag, value]] of tags.entries()) {
    if (ownTags.includes(tag)) refuse(`tag ${shown(tag)} is Holdfast's own`)
    if (tag === tags[at - 1]?.[0]) refuse(`it has tag ${shown(tag)} twice`)
    keyBytes += Buffer.byteLength(tag) + Buffer.byteLength(value)
  }
  if (keyBytes > seriesKeyBytesMax) {
    refuse(`name and tags have more than ${seriesKeyBytesMax} bytes together`)
  }
  for (const text of [name, ...tags.flat()]) {
    if (text.includes('\0')) refuse('it contains a NUL character')
    if (!text.isWellFormed()) refuse('it contains ill-formed Unicode (half of a surrogate pair)')
  }
}

/** A name in a message: quoted, escaped and cut. */
const shown = (name: string): string =>
  JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name)
