/** `holdfast regional`: the receiving side until SIGTERM; and `regional plan`, SQL for an administrator. */
import { readFileSync } from 'node:fs'
import type { LoadResult } from '../config/load.ts'
import { loadRegionalConfig, type RegionalConfig, type RegionalFlags } from '../config/regional.ts'
import { exitCodes, Failure } from '../errors.ts'
import { parseDurationMs } from '../units.ts'
import { type CliContext, exitCodeOfProblems, showProblems, standsIn } from './context.ts'
import { openHost } from './run.ts'
import { asService } from './service.ts'

const defaultFiles = ['regional.yaml', '/etc/holdfast/regional.yaml'] as const
export const loadRegional = (
  context: CliContext,
  flags: RegionalFlags,
  surroundings = true,
): LoadResult<RegionalConfig> => {
  const path =
    context.flags.config ??
    // Flags that say everything need no file; one that happens to lie about must not mix in.
    (flags.tlsCert ? undefined : defaultFiles.find((file) => standsIn(file, context.warn)))
  const { environment } = context
  const onSecret = context.redactor.renew
  return loadRegionalConfig(path ?? null, { environment, flags, surroundings, onSecret })
}

export const regional = async (context: CliContext, flags: RegionalFlags): Promise<number> => {
  const loaded = loadRegional(context, flags)
  if (!loaded.ok) {
    await showProblems(context, loaded.problems)
    if (loaded.problems.some(({ file }) => file === 'flags'))
      context.say('holdfast init --development-ca makes a regional.yaml to start from')
    return exitCodeOfProblems(loadRegional(context, flags, false))
  }
  await showProblems(context, loaded.warnings)
  const { config } = loaded
  const { host, meter } = openHost(context, 'regional', config.log.level)
  for (const secret of config.secrets) context.redactor.add(secret)
  const { runRegional } = await import('../regional/run.ts')
  return await asService(context, host, ({ manager, ready }) =>
    runRegional(
      { ...config, database: databaseOf(config) },
      {
        host,
        meter,
        signal: context.signal,
        manager,
        // Whoever started this with port 0 learns here which one it is.
        onReady: ({ port }, reload) => {
          if (context.flags.json) context.json({ ready: true, port })
          ready(async () => host.log.info('reload', { certificates: reload() ? 'good' : 'kept' }))
        },
      },
    ),
  )
}

/** The configuration names files; the database's client wants what is in them. */
export const databaseOf = ({ database }: RegionalConfig) => {
  if (database === null) return null
  const { urls, password, renewed, pool_max, tls } = database
  const read = (path: string | undefined) =>
    path === undefined ? undefined : readFileSync(path, 'utf8')
  const parts =
    tls === 'off'
      ? tls
      : defined({
          ca: read(tls.ca),
          cert: read(tls.cert),
          key: read(tls.key),
          serverName: tls.server_name,
        })
  return { urls, password, renewed, pool_max, tls: parts }
}
const defined = (given: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(given).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  )

/** As PostgreSQL writes it. */
export const retentionText = (given: string | undefined): { readonly retention?: string } => {
  if (given === undefined) return {}
  const ms = parseDurationMs(given)
  if (ms === undefined || ms < 3_600_000)
    throw new Failure(
      'HF-X002',
      `--retention is no duration of an hour or more: "${given}"`,
      'write 365d',
    )
  return { retention: `${Math.round(ms / 3_600_000)} hours` }
}

export const plan = async (
  context: CliContext,
  { role, retention }: { readonly role: string; readonly retention?: string },
): Promise<number> => {
  const { planSql } = await import('../database/schema-postgres.ts')
  context.out(planSql({ role, ...retentionText(retention) }).trimEnd())
  context.say('-- to be run by the owner of the database; safe to run again')
  return exitCodes.good
}
