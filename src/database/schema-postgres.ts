/**
 * PostgreSQL's tables as numbered migrations, and the plan that a database administrator can read and run.
 *
 * Invariants: a migration that was released is never edited; DDL runs in `prepare` and in the plan, never beside
 * data; hypertable and policies are set only where the timescaledb extension is present.
 */
import { windowTags } from '../model.ts'
import { contractThen, windowViews } from './windows-view.ts'

const one = `
create table region (
  id smallint primary key check (id = 1),
  region text not null                -- made with the schema; a copy restored elsewhere keeps it
);
create table agents (
  agent text primary key,
  epoch text not null,                -- the incumbent: who may speak
  last_heard bigint not null,         -- of the incumbent, by this database's clock, microseconds
  points bigint not null,             -- sums of heads that were folded away
  lost bigint not null
) with (fillfactor = 50);
create table epochs (
  agent text not null,
  epoch text not null,
  parent text,
  ordinal integer not null,           -- high part of points.ord; 0: never let in
  fenced boolean not null,
  spool_id text not null,
  dictionary_length integer not null,
  primary key (agent, epoch)
);
create table ledger (
  agent text not null,
  epoch text not null,
  lane integer not null,
  base bigint not null,
  contiguous bigint not null,
  hash text not null,                 -- digest of the segment at contiguous, '' when unknown
  points bigint not null,             -- taken in by this head, each seq once
  lost bigint not null,
  primary key (agent, epoch, lane)
) with (fillfactor = 20);
create table ledger_above (
  agent text not null,
  epoch text not null,
  lane integer not null,
  seq bigint not null,
  seq_last bigint not null,
  hash text not null,
  primary key (agent, epoch, lane, seq)
);
create table dictionary (
  agent text not null,
  epoch text not null,
  first integer not null,
  ids bytea not null,                 -- 8 bytes big-endian each
  primary key (agent, epoch, first)
);
create table series (
  series_id bigint primary key,
  agent text not null,
  name text not null,
  tags jsonb not null,
  unit text not null
);
create index series_by_name on series (name, agent);
create table points (
  series_id bigint not null,
  time timestamptz not null,
  kind smallint not null,             -- 0 float, 1 int, 2 bool, 3 string
  value float8,
  value_int int8,                     -- int; bool as 0 or 1
  value_text text,
  quality smallint not null,          -- severity in the two low bits, sub-code above
  ord int8 not null,                  -- accept order: epoch's ordinal, seal number
  primary key (series_id, time)
);
create table gaps (
  agent text not null,
  epoch text not null,
  lane integer not null,
  seq bigint not null,
  seq_last bigint not null,
  reason text not null,
  count bigint not null,
  source text not null,
  time_min bigint not null,           -- microseconds since 1970, 0 when unknown
  time_max bigint not null,
  primary key (agent, epoch, lane, seq)
);
create view readings as
select s.agent, s.name as series, s.tags, s.unit, p.time,
  case p.kind when 0 then 'float' when 1 then 'int' when 2 then 'bool' else 'string' end as kind,
  p.value,
  case when p.kind = 1 then p.value_int end as value_int,
  case when p.kind = 2 then p.value_int <> 0 end as value_bool,
  p.value_text,
  case p.quality & 3 when 0 then 'good' when 1 then 'uncertain' else 'bad' end as quality,
  p.quality >> 2 as quality_code
from points p join series s using (series_id);
insert into region values (1, replace(gen_random_uuid()::text, '-', ''));
`

const readings = (name: string, more: string, contract = 's.contract'): string => `
create or replace view ${name} as
select s.agent, s.name as series, s.tags, s.unit, p.time,
  case p.kind when 0 then 'float' when 1 then 'int' when 2 then 'bool' else 'string' end as kind,
  p.value,
  case when p.kind = 1 then p.value_int end as value_int,
  case when p.kind = 2 then p.value_int <> 0 end as value_bool,
  p.value_text,
  case p.quality & 3 when 0 then 'good' when 1 then 'uncertain' else 'bad' end as quality,
  p.quality >> 2 as quality_code,
  ${contract}
from points p join series s using (series_id)
where not s.tags ? '${windowTags.statistic}'${more};
`
const two = `
alter table series add column contract jsonb; -- how its points were thinned; null: every point is there
${readings('readings', '')}`

const latest = `
  and p.time = (select max(n.time) from points n where n.series_id = s.series_id)`
const three = `
drop view if exists windows;
create index series_of_windows on series (agent, name) where tags ? '${windowTags.statistic}';
${windowViews({
  tag: (name) => `(s.tags ->> '${name}')`,
  ownTags: `s.tags - '${windowTags.every}' - '${windowTags.statistic}'`,
  hasStatistic: `s.tags ? '${windowTags.statistic}'`,
  float: "coalesce(nullif(p.value, 'NaN'), p.value_int)",
  int: 'p.value_int',
  time: (us) => `timestamptz 'epoch' + ${us} * interval '1 microsecond'`,
  json: (text) => `(${text})::jsonb`,
  bool: (int) => `${int} <> 0`,
  every: (text) => `${text}::bigint * interval '1 microsecond'`,
})}${readings('readings_latest', latest)}`

const four = `
create table series_contracts (
  series_id bigint not null,
  from_time timestamptz not null,     -- of the first row it holds for, until the next; -infinity: of all
  contract jsonb,                     -- null: every point is there; series.contract is the last one
  primary key (series_id, from_time)
);
insert into series_contracts
select series_id, '-infinity', contract from series where contract is not null;
${readings('readings', '', contractThen)}${readings('readings_latest', latest, contractThen)}`

export const postgresMigrations: readonly string[] = [one, two, three, four]

/** Held for the length of a migration, so that several regional nodes may start at once. */
export const migrationLock = 0x686f_6c64

export const versionTable = `create table if not exists schema_version (
  version integer primary key,
  at timestamptz not null default now()
);`

/** May be run at any time, also long after the tables were made. */
const timescale = `
do $$ begin
  if exists (select from pg_extension where extname = 'timescaledb') then
    perform create_hypertable('points', 'time', chunk_time_interval => interval '1 day',
      if_not_exists => true, migrate_data => true);
    begin
      execute 'alter table points set (timescaledb.compress,
        timescaledb.compress_segmentby = ''series_id'', timescaledb.compress_orderby = ''time'')';
      perform add_compression_policy('points', interval '7 days', if_not_exists => true);
    exception when feature_not_supported then
      raise notice 'points stay uncompressed: %', sqlerrm; -- the Apache edition
    end;
  end if;
end $$;
`

/** One transaction's worth: the steps after `version`, with the version they reach. */
export const migrationSql = (version: number): string => {
  const steps = postgresMigrations.slice(version).map((sql, at) => {
    const reached = version + at + 1
    return `-- migration ${reached}\n${sql.trim()}\ninsert into schema_version (version) values (${reached});\n`
  })
  return `${versionTable}\n${steps.join('\n')}${timescale}`
}

/** What a regional node, or an agent that writes by itself, needs and nothing more. */
const rights: readonly (readonly [string, string])[] = [
  ['points', 'SELECT, INSERT, UPDATE'],
  ['series', 'SELECT, INSERT, UPDATE'],
  ['series_contracts', 'SELECT, INSERT, UPDATE'],
  ['agents', 'SELECT, INSERT, UPDATE'],
  ['epochs', 'SELECT, INSERT, UPDATE, DELETE'],
  ['ledger', 'SELECT, INSERT, UPDATE, DELETE'],
  ['ledger_above', 'SELECT, INSERT, DELETE'],
  ['dictionary', 'SELECT, INSERT, DELETE'],
  ['gaps', 'SELECT, INSERT, UPDATE, DELETE'],
  ['region', 'SELECT'],
  ['schema_version', 'SELECT'],
]
/** (table, right) pairs, for checking what this connection may do. */
export const rightsNeeded: readonly (readonly [string, string])[] = rights.flatMap(
  ([table, list]) => list.split(', ').map((right) => [table, right] as const),
)

export const quoteName = (name: string): string => `"${name.replaceAll('"', '""')}"`
const quoteText = (text: string): string => `'${text.replaceAll("'", "''")}'`

export const grantsSql = (role: string): string =>
  [
    `grant usage on schema public to ${quoteName(role)};`,
    ...rights.map(([table, list]) => `grant ${list} on ${table} to ${quoteName(role)};`),
    // The merge path stages a segment in a temporary table; PUBLIC has this right unless it was taken away.
    `do $$ begin
  execute format('grant temporary on database %I to %I', current_database(), ${quoteText(role)});
end $$;`,
  ].join('\n')

export interface PlanOptions {
  readonly role: string
  /** Rows older than this are dropped by TimescaleDB's own policy, for example "365 days"; none by default. */
  readonly retention?: string
}
/** Everything `prepare` would do, and the least-privileged role, as one script for an administrator. */
export const planSql = ({ role, retention }: PlanOptions): string => {
  const keep =
    retention === undefined
      ? ''
      : `do $$ begin
  if exists (select from pg_extension where extname = 'timescaledb') then
    perform add_retention_policy('points', interval ${quoteText(retention)}, if_not_exists => true);
  end if;
end $$;
`
  const missing = postgresMigrations.map((sql, at) => guarded(sql, at + 1)).join('\n')
  return `-- Holdfast's tables, and the role that writes them. Safe to run again.
begin;
select pg_advisory_xact_lock(${migrationLock});
${versionTable}
${missing}${timescale}${keep}
do $$ begin
  if not exists (select from pg_roles where rolname = ${quoteText(role)}) then
    create role ${quoteName(role)} login;
  end if;
end $$;
${grantsSql(role)}
commit;
-- Then give the role a password: \\password ${quoteName(role)}
`
}

const guarded = (sql: string, version: number): string => `do $migration$ begin
if not exists (select from schema_version where version = ${version}) then
${sql.trim()}
insert into schema_version (version) values (${version});
end if;
end $migration$;
`

const auditEvents = { insert: 'new', update: 'new', delete: 'old' } as const
/**
 * Every row inserted, overwritten or deleted, for a checker that trusts no counter. Idempotent. A hypertable that may
 * be compressed takes no transition tables: there each row tells of itself, which is slower.
 */
export const postgresAudit = `
create table if not exists points_audit (
  id bigint generated always as identity,
  series_id bigint not null, time timestamptz not null, ord int8 not null, op text not null
);
create or replace function points_audit_note() returns trigger language plpgsql security definer
set search_path from current as $$
begin
  insert into points_audit (series_id, time, ord, op) select series_id, time, ord, lower(tg_op) from changed;
  return null;
end $$;
create or replace function points_audit_note_row() returns trigger language plpgsql security definer
set search_path from current as $$
declare changed points%rowtype;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  insert into points_audit (series_id, time, ord, op)
  values (changed.series_id, changed.time, changed.ord, lower(tg_op));
  return null;
end $$;
do $do$ declare is_hypertable boolean := false;
begin
  if exists (select from pg_extension where extname = 'timescaledb') then
    is_hypertable := exists (select from timescaledb_information.hypertables
      where hypertable_schema = current_schema() and hypertable_name = 'points');
  end if;
${Object.entries(auditEvents)
  .map(
    ([event, table]) => `  if is_hypertable then
    create or replace trigger points_audit_${event} after ${event} on points
      for each row execute function points_audit_note_row();
  else
    create or replace trigger points_audit_${event} after ${event} on points
      referencing ${table} table as changed for each statement execute function points_audit_note();
  end if;`,
  )
  .join('\n')}
end $do$;
`
