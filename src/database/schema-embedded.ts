/**
 * The embedded store's tables (SQLite), as numbered migrations. Columns mean the same as in PostgreSQL, but values
 * stand as 64-bit patterns in `bits`: SQLite would turn NaN into NULL and lose the sign of zero.
 */
import { windowTags } from '../model.ts'
import { contractThen, windowViews } from './windows-view.ts'

const one = `
create table region (
  id integer primary key check (id = 1),
  region text not null,
  timeline integer not null
);
create table agents (
  agent text primary key,
  epoch text not null,            -- the incumbent: who may speak
  last_heard integer not null,    -- of the incumbent, region's clock, microseconds
  points integer not null,        -- sums of heads that were folded away
  lost integer not null
) without rowid;
create table epochs (
  agent text not null,
  epoch text not null,
  parent text,
  ordinal integer not null,       -- high part of points.ord; 0: never let in
  fenced integer not null,
  spool_id text not null,
  dictionary_length integer not null,
  primary key (agent, epoch)
) without rowid;
create table ledger (
  agent text not null,
  epoch text not null,
  lane integer not null,
  base integer not null,
  contiguous integer not null,
  hash text not null,
  points integer not null,        -- taken in by this head, each seq once
  lost integer not null,
  primary key (agent, epoch, lane)
) without rowid;
create table ledger_above (
  agent text not null,
  epoch text not null,
  lane integer not null,
  seq integer not null,
  seq_last integer not null,
  hash text not null,
  primary key (agent, epoch, lane, seq)
) without rowid;
create table dictionary (
  agent text not null,
  epoch text not null,
  first integer not null,
  ids blob not null,              -- 8 bytes big-endian each
  primary key (agent, epoch, first)
);
create table series (
  series_id integer primary key,
  agent text not null,
  name text not null,
  tags text not null,
  unit text not null
);
create table points (
  series_id integer not null,
  time integer not null,          -- microseconds since 1970 UTC
  kind integer not null,
  bits integer,                   -- 64-bit pattern; null for strings
  value_text text,
  quality integer not null,
  ord integer not null,
  primary key (series_id, time)
) without rowid;
create table gaps (
  agent text not null,
  epoch text not null,
  lane integer not null,
  seq integer not null,
  seq_last integer not null,
  reason text not null,
  count integer not null,
  source text not null,
  time_min integer not null,
  time_max integer not null,
  primary key (agent, epoch, lane, seq)
) without rowid;
`

/** IEEE 754 by arithmetic: exact for every finite number, with the sign of zero; NaN has no number in SQL. */
const float = `case bits >> 52 & 2047
      when 2047 then case when bits & 4503599627370495 = 0 then 9e999 end
      when 0 then (bits & 4503599627370495) * pow(2, -1074)
      else ((bits & 4503599627370495) | 4503599627370496) * pow(2, (bits >> 52 & 2047) - 1075)
    end * case when bits < 0 then -1.0 else 1.0 end`

const view = (name: string, more: string, where: string): string => `
create view ${name} as
select s.agent, s.name as series, s.tags, s.unit,
  strftime('%Y-%m-%dT%H:%M:%f', p.time / 1000000.0, 'unixepoch') || 'Z' as time, p.time as time_us,
  case p.kind when 0 then 'float' when 1 then 'int' when 2 then 'bool' else 'string' end as kind,
  case p.kind when 0 then ${float} end as value,
  case p.kind when 1 then bits end as value_int,
  case p.kind when 2 then bits end as value_bool,
  p.value_text,
  case p.quality & 3 when 0 then 'good' when 1 then 'uncertain' else 'bad' end as quality,
  p.quality >> 2 as quality_code${more}
from points p join series s using (series_id)${where};
`

const own = `json_remove(s.tags, '$."${windowTags.every}"', '$."${windowTags.statistic}"')`
const contract = `,
  s.contract`
const notOfWindows = `
where json_extract(s.tags, '$."${windowTags.statistic}"') is null`
const two = `
alter table series add column contract text; -- how its points were thinned; null: every point is there
drop view readings;
${view('readings', contract, notOfWindows)}
`
const latest = `${notOfWindows}
  and p.time = (select max(n.time) from points n where n.series_id = s.series_id)`
const three = `
drop view if exists windows;
create index series_by_name on series (name, agent);
${windowViews({
  tag: (name) => `json_extract(s.tags, '$."${name}"')`,
  ownTags: own,
  hasStatistic: `json_extract(s.tags, '$."${windowTags.statistic}"') is not null`,
  float: `case p.kind when 0 then ${float} else p.bits end`,
  int: 'p.bits',
  time: (us) => us,
  json: (text) => text,
  bool: (int) => int,
  every: (text) => `cast(${text} as integer)`,
})}${view('readings_latest', contract, latest)}
`

/** Before every point's time. */
export const alwaysUs = Number.MIN_SAFE_INTEGER
const four = `
create table series_contracts (
  series_id integer not null,
  from_time integer not null,     -- of the first row it holds for, until the next
  contract text,                  -- null: every point is there; series.contract is the last one
  primary key (series_id, from_time)
) without rowid;
insert into series_contracts
select series_id, ${alwaysUs}, contract from series where contract is not null;
drop view readings;
drop view readings_latest;
${view('readings', `,\n  ${contractThen}`, notOfWindows)}${view('readings_latest', `,\n  ${contractThen}`, latest)}
`

export const embeddedMigrations: readonly string[] = [
  one + view('readings', '', ''),
  two,
  three,
  four,
]

/** Every row inserted, overwritten or deleted, for a checker that trusts no counter. */
export const embeddedAudit = `
create table if not exists points_audit (series_id integer, time integer, ord integer, op text);
create trigger if not exists points_audit_insert after insert on points begin
  insert into points_audit values (new.series_id, new.time, new.ord, 'insert');
end;
create trigger if not exists points_audit_update after update on points begin
  insert into points_audit values (new.series_id, new.time, new.ord, 'update');
end;
create trigger if not exists points_audit_delete after delete on points begin
  insert into points_audit values (old.series_id, old.time, old.ord, 'delete');
end;
`
