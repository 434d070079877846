/** An agent's books in SQLite: read in full, written back where marked. Runs inside the caller's transaction. */
import type Database from 'better-sqlite3'
import type { EpochId } from '../model.ts'
import { type AgentBooks, createBooks, type Head, headKey } from './books.ts'
import type { PlannedFrame } from './ledger.ts'
import type { AgentRow } from './store.ts'

export interface EmbeddedBooks {
  readonly load: (agent: string, nowUs: number) => AgentBooks
  readonly save: (books: AgentBooks) => void
  readonly declaredWithin: (agent: string, plan: PlannedFrame) => number
  readonly saveGap: (agent: string, plan: PlannedFrame) => void
  readonly agents: () => AgentRow[]
}

type Row = Record<string, string | number | null>
const forgottenTables = ['epochs', 'ledger', 'ledger_above', 'dictionary']

export const createEmbeddedBooks = (db: Database.Database): EmbeddedBooks => {
  const read = {
    agent: db.prepare<[string], Row>('select * from agents where agent = ?'),
    epochs: db.prepare<[string], Row>('select * from epochs where agent = ?'),
    heads: db.prepare<[string], Row>('select * from ledger where agent = ?'),
    above: db.prepare<[string], Row>('select * from ledger_above where agent = ? order by seq'),
    declared: db
      .prepare<unknown[], number>(`select coalesce(sum(count), 0) from gaps
        where agent = ? and epoch = ? and lane = ? and seq >= ? and seq_last <= ? and reason = ?`)
      .pluck(),
    agents: db.prepare<[], Row>(`select a.*,
      a.points + coalesce((select sum(points) from ledger l where l.agent = a.agent), 0) as points_all,
      a.lost + coalesce((select sum(lost) from ledger l where l.agent = a.agent), 0) as lost_all,
      (select json_group_array(epoch) from epochs e where e.agent = a.agent and fenced) as fenced
      from agents a order by agent`),
  }
  const write = {
    agent: db.prepare(`insert or replace into agents (agent, epoch, last_heard, points, lost)
      values (?, ?, ?, ?, ?)`),
    epoch: db.prepare(`insert or replace into epochs
      (agent, epoch, parent, ordinal, fenced, spool_id, dictionary_length) values (?, ?, ?, ?, ?, ?, ?)`),
    head: db.prepare(`insert or replace into ledger
      (agent, epoch, lane, base, contiguous, hash, points, lost) values (?, ?, ?, ?, ?, ?, ?, ?)`),
    clearAbove: db.prepare('delete from ledger_above where agent = ? and epoch = ? and lane = ?'),
    above: db.prepare('insert into ledger_above values (?, ?, ?, ?, ?, ?)'),
    clearGaps: db.prepare(`delete from gaps
      where agent = ? and epoch = ? and lane = ? and seq >= ? and seq_last <= ? and reason = ?`),
    gap: db.prepare('insert or replace into gaps values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'),
    forget: forgottenTables.map((table) =>
      db.prepare(`delete from ${table} where agent = ? and epoch = ?`),
    ),
  }
  const gapKey = (agent: string, { frame, head }: PlannedFrame) =>
    frame.type === 'tombstone'
      ? [agent, head.epoch, frame.lane, frame.seq, frame.seqLast, frame.gap.reason]
      : []
  const saveHead = (agent: string, head: Head) => {
    const { epoch, lane, base, contiguous, hash, points, lost } = head
    if (head.dirty) write.head.run(agent, epoch, lane, base, contiguous, hash, points, lost)
    if (!head.aboveDirty) return
    write.clearAbove.run(agent, epoch, lane)
    for (const range of head.above)
      write.above.run(agent, epoch, lane, range.seq, range.seqLast, range.hash)
  }
  return {
    load: (agent, nowUs) => {
      const books = createBooks(agent, nowUs)
      const row = read.agent.get(agent)
      if (row === undefined) return books
      books.speaker = row.epoch as string
      books.lastHeardUs = row.last_heard as number
      books.pointsFolded = row.points as number
      books.lostFolded = row.lost as number
      for (const each of read.epochs.all(agent)) {
        const epoch = each.epoch as EpochId
        books.epochs.set(epoch, {
          epoch,
          parent: each.parent as EpochId | null,
          ordinal: each.ordinal as number,
          fenced: each.fenced === 1,
          spoolId: each.spool_id as string,
          dictionaryLength: each.dictionary_length as number,
          dirty: false,
        })
      }
      for (const each of read.heads.all(agent)) {
        const head = { ...each, above: [], dirty: false, aboveDirty: false } as unknown as Head
        books.heads.set(headKey(head.epoch, head.lane), head)
      }
      for (const each of read.above.all(agent)) {
        const head = books.heads.get(headKey(each.epoch as EpochId, each.lane as number))
        const seqs = { seq: each.seq as number, seqLast: each.seq_last as number }
        head?.above.push({ ...seqs, hash: each.hash as string })
      }
      return books
    },
    save: (books) => {
      const { agent, speaker, lastHeardUs, pointsFolded, lostFolded } = books
      if (books.dirty) write.agent.run(agent, speaker, lastHeardUs, pointsFolded, lostFolded)
      for (const row of books.epochs.values()) {
        if (!row.dirty) continue
        const { epoch, parent, ordinal, fenced, spoolId, dictionaryLength } = row
        write.epoch.run(agent, epoch, parent, ordinal, fenced ? 1 : 0, spoolId, dictionaryLength)
      }
      for (const head of books.heads.values()) saveHead(agent, head)
      for (const epoch of books.forgotten)
        for (const statement of write.forget) statement.run(agent, epoch)
    },
    declaredWithin: (agent, plan) => read.declared.get(...gapKey(agent, plan)) ?? 0,
    saveGap: (agent, plan) => {
      const { frame, head, overlaps } = plan
      if (frame.type !== 'tombstone') return
      if (overlaps) write.clearGaps.run(...gapKey(agent, plan))
      const { reason, count, source, timeUsMin, timeUsMax } = frame.gap
      const seqs = [frame.seq, frame.seqLast]
      write.gap.run(
        ...[agent, head.epoch, frame.lane, ...seqs, reason, count, source, timeUsMin, timeUsMax],
      )
    },
    agents: () =>
      read.agents.all().map((row) => ({
        agent: row.agent as string,
        epoch: row.epoch as string,
        lastHeardUs: row.last_heard as number,
        fenced: JSON.parse(row.fenced as string) as EpochId[],
        points: row.points_all as number,
        declaredLost: row.lost_all as number,
      })),
  }
}
