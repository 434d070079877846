/**
 * What a hello changes in the books: epochs get their ordinals, lanes their heads, and epochs that hold nothing
 * any more are folded into sums.
 *
 * Invariants: saying hello twice changes nothing but `lastHeardUs`; an ancestor's ordinal is not above its child's; a
 * head that the database forgot starts at its epoch's base, so that what was lost is asked for again.
 */
import type { EpochLink, LaneId, Seq } from '../model.ts'
import {
  type AboveRange,
  type AgentBooks,
  chainOf,
  type EpochRow,
  type Head,
  headKey,
  headsAlong,
} from './books.ts'
import { fencedRowsMax, letSpeak, parentsIn, pathUp } from './fence.ts'
import { positionOf, take } from './ledger.ts'
import type { Hello, HelloLane, StoreTrouble } from './store.ts'

const ancestorsKept = 16

const baseIn = (link: EpochLink, lane: LaneId): { base: Seq; baseHash: string } =>
  link.lanes.find((row) => row.lane === lane) ?? { base: 0, baseHash: '' }

/**
 * Openings that held nothing are never named, so a link's parent may be unknown here. Between two links of a hello
 * the order says who descends from whom; before the first, the incumbent is taken for the ancestor when nothing
 * it sent is missing from what the newcomer continues.
 */
const joined = (books: AgentBooks, hello: Hello): readonly EpochLink[] =>
  hello.epochs.map((link, at) => {
    const before = hello.epochs[at - 1]
    if (before !== undefined) return { ...link, parent: before.epoch }
    if (link.parent === null || books.speaker === '' || books.epochs.has(link.parent)) return link
    if (hello.epochs.some(({ epoch }) => epoch === books.speaker)) return link
    const lanes = new Set([...books.heads.values()].map((head) => head.lane))
    const continues = [...lanes].every((lane) => {
      const { contiguous, above } = positionOf(books, books.speaker, lane)
      return baseIn(link, lane).base >= (above.at(-1)?.[1] ?? contiguous)
    })
    return continues ? { ...link, parent: books.speaker } : link
  })

const addEpoch = (books: AgentBooks, hello: Hello, link: EpochLink, fenced: boolean): void => {
  books.epochs.set(link.epoch, {
    epoch: link.epoch,
    parent: link.parent,
    ordinal: 0,
    fenced,
    spoolId: hello.spoolId,
    dictionaryLength: 0,
    dirty: true,
  })
}

/** Remembered so that an operator can see and admit it; the oldest of too many is forgotten. */
const addFenced = (books: AgentBooks, hello: Hello): void => {
  const link = hello.epochs.at(-1)
  if (link === undefined || books.epochs.has(link.epoch)) return
  const never = [...books.epochs.values()].filter((row) => row.ordinal === 0)
  const oldest = never.length < fencedRowsMax ? undefined : never[0]
  if (oldest !== undefined) {
    books.epochs.delete(oldest.epoch)
    books.forgotten.push(oldest.epoch)
  }
  addEpoch(books, hello, link, true)
}

/**
 * An epoch that was left out while the agent held nothing of it comes back between two that are known, because the
 * database went back behind it: it takes its place in the chain. It shares its child's ordinal: their seal numbers,
 * which count over epochs, keep the order.
 */
const putBetween = (books: AgentBooks, hello: Hello): void => {
  for (let at = hello.epochs.length - 1; at > 0; at--) {
    const [before, link] = [hello.epochs[at - 1] as EpochLink, hello.epochs[at] as EpochLink]
    const row = books.epochs.get(link.epoch)
    const parent = books.epochs.get(before.epoch)
    if (row === undefined || parent === undefined || row.parent === before.epoch) continue
    const descends =
      row.parent === null || pathUp(parentsIn(books), before.epoch, row.parent) !== null
    if (!descends) continue
    row.parent = before.epoch
    row.dirty = true
    if (parent.ordinal > 0) continue
    parent.ordinal = row.ordinal
    parent.dirty = true
  }
}

/** Ordinals ancestors first; an epoch that was fenced gets its own only now. */
const letIn = (books: AgentBooks, hello: Hello): void => {
  for (const link of hello.epochs) {
    if (!books.epochs.has(link.epoch)) addEpoch(books, hello, link, false)
  }
  putBetween(books, hello)
  let highest = 0
  for (const row of books.epochs.values()) highest = Math.max(highest, row.ordinal)
  for (const row of chainOf(books, hello.epoch)) {
    if (row.ordinal > 0) continue
    row.ordinal = ++highest
    row.dirty = true
  }
}

/**
 * What was answered of an epoch that is named only now, between two that are known: under the names of its ancestors
 * then, one of which was taken to reach as far as the next one known.
 */
const answeredBefore = (
  known: ReadonlySet<Head>,
  later: readonly EpochLink[],
  ancestors: readonly Head[],
): readonly AboveRange[] => {
  const isKnown = ({ epoch }: EpochLink) => [...known].some((head) => head.epoch === epoch)
  if (!later.some(isKnown)) return []
  return ancestors
    .filter((head) => known.has(head))
    .flatMap(({ contiguous, above }) => [{ seq: 1, seqLast: contiguous, hash: '' }, ...above])
}
/** Of these ranges what is the epoch's own, up to `end`. */
const takeOver = (head: Head, ranges: readonly AboveRange[], end: Seq): void => {
  for (const range of ranges) {
    const [seq, seqLast] = [Math.max(range.seq, head.base + 1), Math.min(range.seqLast, end)]
    if (seq <= seqLast)
      take(head, { seq, seqLast, hash: seqLast === range.seqLast ? range.hash : '' })
  }
}

/** Heads of one lane for every epoch named; those there already stay as they are. */
const addHeads = (books: AgentBooks, hello: Hello, lane: HelloLane, foreign: boolean): void => {
  const known = new Set([...books.heads.values()].filter((head) => head.lane === lane.lane))
  hello.epochs.forEach((link, at) => {
    const key = headKey(link.epoch, lane.lane)
    if (books.heads.has(key)) return
    const told = baseIn(link, lane.lane)
    // The agent names no epoch it holds nothing of; a database that forgot those too asks from the very beginning.
    const ancestors = headsAlong(books, chainOf(books, link.epoch), lane.lane)
    const { base, baseHash } =
      at > 0 || foreign || ancestors.length > 0 ? told : { base: 0, baseHash: '' }
    const next = hello.epochs[at + 1]
    const end = next === undefined ? Number.MAX_SAFE_INTEGER : baseIn(next, lane.lane).base
    const later = hello.epochs.slice(at + 1)
    const contiguous = foreign ? Math.max(base, Math.min(lane.acked, end)) : base
    const hash = contiguous === base ? baseHash : ''
    const head: Head = {
      epoch: link.epoch,
      lane: lane.lane,
      base,
      contiguous,
      hash,
      points: 0,
      lost: 0,
      above: [],
      dirty: true,
      aboveDirty: false,
    }
    if (!foreign) takeOver(head, answeredBefore(known, later, ancestors), end)
    books.heads.set(key, head)
  })
}

/**
 * A head that was begun at the very beginning, its ancestors being forgotten, begins where its epoch does once the one
 * before it is named: what was answered under its name below that is its ancestors', each from its own beginning on.
 */
const beginAtBase = (books: AgentBooks, hello: Hello, lane: LaneId): void => {
  hello.epochs.forEach((link, at) => {
    const head = books.heads.get(headKey(link.epoch, lane))
    const { base, baseHash } = baseIn(link, lane)
    if (at === 0 || head === undefined || head.base >= base) return
    const answered = [{ seq: 1, seqLast: head.contiguous, hash: '' }, ...head.above]
    for (const [nth, before] of hello.epochs.slice(0, at).entries()) {
      const ancestor = books.heads.get(headKey(before.epoch, lane))
      const end = baseIn(hello.epochs[nth + 1] as EpochLink, lane).base
      if (ancestor !== undefined) takeOver(ancestor, answered, end)
    }
    head.base = base
    head.dirty = true
    if (head.contiguous < base)
      take(head, { seq: head.contiguous + 1, seqLast: base, hash: baseHash })
  })
}

/**
 * Ancestors the agent no longer names may go when every lane of them is complete; their sums stay. The latest
 * are kept: a copied spool whose original still runs is recognised by them.
 */
const foldAncestors = (books: AgentBooks, hello: Hello): void => {
  const named = new Set(hello.epochs.map((link) => link.epoch))
  const chain = chainOf(books, hello.epoch)
  for (let at = 0; at < chain.length - ancestorsKept; at++) {
    const row = chain[at] as EpochRow
    const heads = [...books.heads.values()].filter((head) => head.epoch === row.epoch)
    const complete = heads.every((head) => {
      const next = headsAlong(books, chain.slice(at + 1), head.lane)[0]
      return next !== undefined && head.contiguous >= next.base
    })
    if (named.has(row.epoch) || !complete) return
    for (const head of heads) {
      books.pointsFolded += head.points
      books.lostFolded += head.lost
      books.heads.delete(headKey(head.epoch, head.lane))
    }
    books.epochs.delete(row.epoch)
    books.forgotten.push(row.epoch)
    books.dirty = true
  }
}

/** Takes a hello into the books, or says why this epoch may not speak. */
export const takeHello = (books: AgentBooks, said: Hello, region: string): StoreTrouble | null => {
  if (said.epochs.at(-1)?.epoch !== said.epoch)
    return { kind: 'fork', text: 'the last epoch of a hello must be the one that speaks' }
  const hello = { ...said, epochs: joined(books, said) }
  const trouble = letSpeak(books, hello.epoch, [], 0, hello.epochs)
  if (trouble !== null) {
    addFenced(books, hello)
    return trouble
  }
  letIn(books, hello)
  for (const lane of hello.lanes) {
    addHeads(books, hello, lane, hello.lastRegion !== region)
    beginAtBase(books, hello, lane.lane)
  }
  foldAncestors(books, hello)
  return null
}
