/** `holdfast run`: configuration in, agent until SIGTERM; exit 78 on a wrong file, 75 on wrong surroundings. */
import { mkdirSync } from 'node:fs'
import { loadConfig } from '../config/load.ts'
import { createGauges } from '../control/gauges.ts'
import { type MetricsDoor, openMetricsDoor } from '../control/metrics-door.ts'
import type { AgentView } from '../control/view.ts'
import { exitCodes } from '../errors.ts'
import { createSystemHost, type Host, systemClock } from '../host.ts'
import { createLog, type LogLevel, logKindOf } from '../observability/log.ts'
import { createMeter } from '../observability/metrics.ts'
import { version } from '../release.ts'
import { createTokenNow } from '../renewed.ts'
import { inheritedWriter, journalDescriptor } from '../service-manager.ts'
import { beginLife, type Lives } from '../spool/lives.ts'
import { type CliContext, exitCodeOfProblems, showProblems } from './context.ts'
import { asService } from './service.ts'

/** Log and meters of a long-running verb, in the form stderr calls for. */
export const openHost = (context: CliContext, role: string, level: LogLevel) => {
  const kind = logKindOf(process.stderr.isTTY === true, context.environment.JOURNAL_STREAM)
  const { verbose, quiet, color } = context.flags
  const take = inheritedWriter(context.environment, journalDescriptor)
  const identifier = role === 'agent' ? 'holdfast' : `holdfast-${role}`
  const log = createLog({
    kind,
    level: verbose ? 'debug' : quiet ? 'warn' : level,
    redactor: context.redactor,
    ...(take === undefined ? {} : { journal: { identifier, take } }),
    nowUs: systemClock.nowUs,
    color: kind === 'tty' && color && !context.environment.NO_COLOR,
  })
  const meter = createMeter({ process: true })
  meter.gauge('holdfast_build_info', 1, { version, node: process.version, role })
  return { host: createSystemHost({ log, meter }), meter }
}

const runs = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
const beginAgentLife = (stateDir: string, host: Host): Lives => {
  mkdirSync(stateDir, { recursive: true, mode: 0o750 })
  return beginLife({ stateDir, host, pid: process.pid, runs })
}

export const run = async (context: CliContext): Promise<number> => {
  const { catalog } = await import('../config/catalog.ts')
  const { environment, signal } = context
  const path = context.configPath()
  const onSecret = context.redactor.renew
  const load = () => loadConfig(path, { environment, catalog, onSecret })
  const loaded = load()
  if (!loaded.ok) {
    await showProblems(context, loaded.problems)
    return exitCodeOfProblems(loadConfig(path, { environment, catalog, surroundings: false }))
  }
  await showProblems(context, loaded.warnings)
  const { config } = loaded
  const { host, meter } = openHost(context, 'agent', config.agent.log.level)
  for (const secret of config.secrets) context.redactor.add(secret)
  const { runAgent } = await import('../agent.ts')
  const lives = beginAgentLife(config.agent.state_dir, host)
  let view: AgentView | undefined
  const look = createGauges(meter)
  const scraped = {
    ...meter,
    text: async () => {
      // A spool that does not answer must not keep the rest from being seen.
      if (view) await look(view).catch((error: unknown) => host.log.warn('gauges_old', { error }))
      return await meter.text()
    },
  }
  let door: Promise<MetricsDoor> | undefined
  const openDoor = (ready: AgentView) => {
    const { metrics } = config.agent
    if (metrics === undefined) return
    const token = createTokenNow(host.clock, metrics.token, config.renewedToken)
    door = openMetricsDoor({ listen: metrics.listen, token, view: ready })
    door.catch((error: unknown) => host.log.error('metrics_door_closed', { error }))
  }
  // An exception that nobody caught ends here too; a signal does not.
  const onExit = (code: number) =>
    signal.aborted || code === exitCodes.good ? lives.ends() : lives.crashes()
  process.on('exit', onExit)
  const reload = (ready: AgentView) =>
    ready.reload().then(
      ({ text }) => host.log.info('reload', { text }),
      (error: unknown) => host.log.error('reload', { error }),
    )
  try {
    return await asService(context, host, ({ manager, ready }) =>
      runAgent(config, {
        host,
        meter: scraped,
        environment,
        signal,
        load,
        lives,
        manager,
        onReady: (running) => {
          view = running
          openDoor(running)
          ready(() => reload(running))
        },
      }),
    )
  } catch (error) {
    lives.ends(error)
    throw error
  } finally {
    process.off('exit', onExit)
    await door?.then((one) => one[Symbol.asyncDispose]()).catch(() => {})
  }
}
