/**
 * An agent that writes into PostgreSQL by itself: simulate → spool → `postgres` destination, TLS and SCRAM, as fast as
 * it goes, on this machine's cores. Baseline in the same run: binary COPY of the same points from memory into the same
 * keyed table, by as many connections as is best (`pipeline.ts`).
 *
 * Points a second count from the start of the agent to the last commit, as the ledger has it.
 */
import { planSql } from '../../src/database/schema-postgres.ts'
import { createCertificates } from '../support/certificates.ts'
import { decodedPoints, directCopy, pointCount, seriesCount } from './pipeline.ts'
import { createRig, lookUsage, memoryMbOf, spentBetween, startDatabase, until } from './rig.ts'
import type { Figures } from './run.ts'

export const bench = async (): Promise<Figures> => {
  const certificates = await createCertificates()
  const postgres = await startDatabase(certificates)
  try {
    postgres.sql(planSql({ role: postgres.user }))
    const plant = { name: 'plant', type: 'simulate', series: seriesCount, rate: 'max' }
    const rig = await createRig({
      sources: [{ ...plant, points: pointCount }],
      certificates,
      destination: {
        name: 'plant-db',
        type: 'postgres',
        url: `postgres://${postgres.user}@localhost:${postgres.port}/${postgres.database}`,
        password: postgres.password,
        tls: { ca: postgres.ca },
      },
    })
    const startMs = performance.now()
    const agent = await rig.startAgent()
    const before = lookUsage({ agent, postgres })
    let rssMb = 0
    await until(
      async () => {
        rssMb = Math.max(rssMb, memoryMbOf(agent.pid).rss)
        return Number(postgres.sql('select coalesce(sum(points), 0) from ledger')) >= pointCount
      },
      agent,
      250,
    )
    const seconds = (performance.now() - startMs) / 1000
    const after = lookUsage({ agent, postgres })
    await agent.stop()
    const stored = Number(postgres.sql('select count(*) from points'))
    if (stored !== pointCount) throw new Error(`${stored} rows of ${pointCount} points`)
    const decoded = decodedPoints()
    const direct = [await directCopy(postgres, decoded, 1), await directCopy(postgres, decoded, 2)]
    const perSecond = Math.round(pointCount / seconds)
    const spent = spentBetween({ ...before, agent: 0 }, after, pointCount)
    return {
      postgres_points_per_s: perSecond,
      postgres_points: pointCount,
      postgres_agent_cpu_s_per_mpts: spent.agent_cpu_s_per_mpts,
      postgres_server_cpu_s_per_mpts: spent.postgres_cpu_s_per_mpts,
      postgres_agent_rss_mb: rssMb,
      postgres_direct_copy_points_per_s: Math.round(Math.max(...direct)),
      postgres_ratio_to_direct_copy: perSecond / Math.max(...direct),
      postgres_own_cores: spent.own_cores,
      postgres_other_cores: spent.other_cores,
    }
  } finally {
    await postgres.stop()
  }
}
