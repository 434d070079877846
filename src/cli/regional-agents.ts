/**
 * `holdfast regional agents` and `regional admit`: what the region's database knows of its agents, and an operator's
 * word for a copy that was fenced.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { AgentRow, RegionStore, StoreAnswer } from '../database/store.ts'
import { exitCodes, Failure } from '../errors.ts'
import { createSystemHost } from '../host.ts'
import { type CliContext, isoText, showProblems } from './context.ts'
import { databaseOf, loadRegional } from './regional.ts'

const withStore = async <T>(
  context: CliContext,
  work: (store: RegionStore) => Promise<T>,
): Promise<T> => {
  const loaded = loadRegional(context, {})
  if (!loaded.ok) {
    await showProblems(context, loaded.problems)
    throw new Failure('HF-C024', 'the regional configuration cannot be used', 'name it with -c')
  }
  const { config } = loaded
  for (const secret of config.secrets) context.redactor.add(secret)
  const { openStore } = await import('../regional/run.ts')
  const settings = { state_dir: config.state_dir, database: databaseOf(config) }
  const file = join(config.state_dir, 'region.db')
  if (settings.database === null && !existsSync(file))
    throw new Failure(
      'HF-X404',
      `there is no region's database ${file}, or this user cannot see it`,
      "name the node's configuration with -c, and ask as its user: sudo -u holdfast",
    )
  await using store = openStore(settings, createSystemHost())
  return await work(store)
}
const good = <T>(answer: StoreAnswer<T>): T => {
  if (answer.kind === 'ok') return answer
  const hint =
    answer.kind === 'blocked'
      ? answer.hint
      : 'an embedded region is asked while its node is stopped: systemctl stop holdfast-regional'
  throw new Failure(
    answer.kind === 'blocked' ? answer.code : 'HF-D001',
    'text' in answer ? answer.text : answer.kind,
    hint,
  )
}
const known = async (store: RegionStore): Promise<readonly AgentRow[]> =>
  good(await store.agents()).agents

export const agents = async (context: CliContext): Promise<number> =>
  await withStore(context, async (store) => {
    const rows = await known(store)
    if (context.flags.json) context.json({ agents: rows })
    else if (rows.length === 0) context.say('the region has not heard of any agent')
    else
      for (const row of rows)
        context.out(
          `${row.agent}  heard ${isoText(row.lastHeardUs / 1000)}  ${row.points} points, ` +
            `${row.declaredLost} declared lost${row.fenced.length ? `  FENCED ${row.fenced.join(' ')}` : ''}`,
        )
    return exitCodes.good
  })

export const admit = async (
  context: CliContext,
  options: { readonly epoch?: string },
  name?: string,
): Promise<number> =>
  await withStore(context, async (store) => {
    const row = (await known(store)).find(({ agent }) => agent === name)
    if (row === undefined)
      throw new Failure(
        'HF-X404',
        `the region has not heard of "${name}"`,
        'see: holdfast regional agents',
      )
    const { fenced } = row
    const epoch = options.epoch ?? (fenced.length === 1 ? fenced[0] : undefined)
    if (epoch === undefined || !fenced.includes(epoch)) {
      const hint =
        fenced.length === 0 ? 'nothing to admit' : `name one with --epoch: ${fenced.join(' ')}`
      throw new Failure('HF-X002', `${name} has ${fenced.length} fenced copies`, hint)
    }
    good(await store.admit(row.agent, epoch))
    if (context.flags.json) context.json({ agent: row.agent, admitted: epoch })
    context.say(`epoch ${epoch} speaks for ${name} from now on; the other copy is fenced`)
    return exitCodes.good
  })
