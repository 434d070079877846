/**
 * The composition root of an agent: configuration and host in, services out. It alone knows every room.
 *
 * Flow order is start order reversed: the spool opens first, then forwarders, then sources; the drain stops sources,
 * seals what is open, lets the forwarders send for a moment, and closes the spool.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createImporter } from './agent-import.ts'
import { type AgentSource, aheadUsMaxOf, createAgentSource } from './agent-sources.ts'
import { laneOptions, spoolOptions, stagesConfig } from './agent-spool.ts'
import { type AgentDestination, createAgentView } from './agent-view.ts'
import { seriesIdOf } from './codec/series-id.ts'
import type { LoadResult } from './config/load.ts'
import type { Config, DestinationConfig } from './config/schema.ts'
import { controlSocketPath, openControlSocket } from './control/socket.ts'
import type { AgentView, ReloadAnswer } from './control/view.ts'
import { exitCodes, Failure, isFailure, textOf } from './errors.ts'
import { createExplain } from './explain/explain.ts'
import { createForwarder, type ForwarderOptions } from './forward/forwarder.ts'
import { aborted, type Host } from './host.ts'
import type { Destination, SeriesTable, Service } from './model.ts'
import type { Meters } from './observability/metrics.ts'
import { type AgentClock, createAgentClock } from './pipeline/clock.ts'
import { createArrivalStamps } from './pipeline/quality.ts'
import { createSalvage } from './pipeline/salvage.ts'
import { createSelections, replayLane } from './pipeline/selections.ts'
import { createSeriesTable } from './pipeline/series.ts'
import { releasedAtUs, version } from './release.ts'
import { type ServiceManager, silentServiceManager } from './service-manager.ts'
import { openSpoolWorker } from './spool/client.ts'
import type { Lives } from './spool/lives.ts'
import type { AgentSpoolPort } from './spool/port.ts'
import { setAsideIn } from './spool/set-aside.ts'
import { supervise } from './supervise.ts'

export interface RunAgentOptions {
  readonly host: Host
  readonly meter: Pick<Meters, 'text'>
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Fires at SIGTERM or SIGINT. */
  readonly signal: AbortSignal
  /** The configuration as its file says now, for `reload`. */
  readonly load: () => LoadResult<Config>
  /** Hears the verdict, and whether event loop and spool are alive. */
  readonly manager?: ServiceManager
  /** How earlier lives over this spool ended, and where this one says how it does. */
  readonly lives: Lives
  /** Called once everything runs. */
  readonly onReady?: (view: AgentView) => void
}

/** How long forwarders may still send what the last seal left, once the sources have ended. */
const lastSendMs = 2_000
const clockLookMs = 1_000
const watchMs = 15_000

/** In a bundle (`build/bundle.ts`) this file is no longer one of its own. */
const spoolWorkerUrl = (): URL =>
  new URL(
    import.meta.url.endsWith('/agent.ts') ? './spool-worker.ts' : './spool-worker.mjs',
    import.meta.url,
  )

/** What a configured destination means to its forwarder. */
export const forwarderOptions = (
  one: Pick<
    DestinationConfig,
    'from' | 'requests_in_flight' | 'order' | 'live_share' | 'bandwidth'
  >,
  { inOrder, bodyBytesMax }: Pick<Destination, 'inOrder' | 'bodyBytesMax'>,
): ForwarderOptions => ({
  from: one.from,
  requestsInFlight: inOrder ? 1 : one.requests_in_flight,
  bodyBytesMax,
  liveShare: inOrder || one.order === 'oldest_first' ? 0 : one.live_share,
  ...(one.bandwidth === null ? {} : { bandwidthBytesPerSecond: one.bandwidth }),
})

const createDestinations = (
  host: Host,
  config: Config,
  spool: AgentSpoolPort,
  clock: AgentClock,
): readonly AgentDestination[] =>
  config.destinations.map((one) => {
    const deps = {
      host: { ...host, log: host.log.child({ destination: one.name }) },
      name: one.name,
      agent: config.agent.name,
      spool,
      farTime: clock.farTime,
      renewed: one.renewed,
    }
    const destination = one.of.create(deps, one.settings)
    const forwarder = createForwarder({
      spool,
      destination,
      lanes: config.lanes
        .filter(({ name }) => one.lanes.includes(name))
        .map(({ name, priority }) => ({ lane: name, priority })),
      options: forwarderOptions(one, destination),
      host,
    })
    return { config: one, destination, forwarder }
  })

/** Tells the spool what the clock is worth, once a second and whenever that changes. */
const createClockService = (host: Host, clock: AgentClock, spool: AgentSpoolPort): Service => ({
  name: 'clock',
  run: async (signal) => {
    while (!signal.aborted) {
      const reading = clock.reading()
      host.meter.gauge('holdfast_clock_trusted', reading.trusted ? 1 : 0)
      const offsetUs = clock.farOffsetUs()
      if (offsetUs !== undefined) host.meter.gauge('holdfast_clock_offset_seconds', offsetUs / 1e6)
      await spool.setClock(reading)
      await host.clock.sleep(clockLookMs, signal)
    }
  },
})

/** Looks now and then even when nobody asks: "since" and "lost in the last hour" need a memory. */
const createWatchService = (host: Host, view: AgentView, manager: ServiceManager): Service => ({
  name: 'watch',
  run: async (signal) => {
    while (!signal.aborted) {
      const { state, code, reason } = (await view.status()).verdict
      manager.status(code === '' ? `${state}: ${reason}` : `${state}: ${reason} (${code})`)
      await host.clock.sleep(watchMs, signal)
    }
  },
})

/** A beat means that this thread runs, and that the spool's thread has answered since the last one. */
const createBeatService = (manager: ServiceManager, spool: AgentSpoolPort): Service => ({
  name: 'beat',
  run: async (signal) => {
    await manager.watch(() => spool.kept('beat'), signal)
    await aborted(signal)
  },
})

/** Certificates are picked up by themselves; everything else needs a restart, which loses nothing. */
const reloadAnswer = (running: Config, loaded: LoadResult<Config>): ReloadAnswer => {
  if (!loaded.ok) {
    const [first] = loaded.problems
    const text =
      first === undefined ? 'it cannot be read' : `${first.file}:${first.line}: ${first.text}`
    throw new Failure(
      'HF-C020',
      `the new configuration is refused: ${text}`,
      'see all of it with: holdfast check',
    )
  }
  if (loaded.config.digest === running.digest)
    return { changed: false, text: 'the configuration is unchanged' }
  return { changed: true, text: 'the new configuration is good: restart the agent to use it' }
}

/** Whoever holds a certificate says by meter when it ends; health wants to know too. */
const hearCertificates = (host: Host, endsUsByUse: Map<string, number>): Host => ({
  ...host,
  meter: {
    ...host.meter,
    gauge: (name, value, labels) => {
      const isExpiry = name === 'holdfast_certificate_expiry_timestamp_seconds'
      if (isExpiry) endsUsByUse.set(labels?.use ?? '', value * 1e6)
      host.meter.gauge(name, value, labels)
    },
  },
})

/** The first commit proves the spool: a signal that ends the process later says nothing of it. */
const provingAppend = (spool: AgentSpoolPort, lives: Lives): AgentSpoolPort['append'] => {
  let proven = false
  return (lane, intake) => {
    const done = spool.append(lane, intake)
    if (proven) return done
    return done.then(() => {
      proven = true
      lives.proven()
    })
  }
}

interface Fatal {
  /** Resolves when the spool is lost: nothing can be drained then. */
  readonly raised: Promise<void>
  readonly failure: () => Failure | undefined
  readonly raise: (failure: Failure) => void
  readonly stop: AbortSignal
}
const createFatal = (host: Host, stop: AbortSignal): Fatal => {
  const own = new AbortController()
  const raised = Promise.withResolvers<void>()
  let failure: Failure | undefined
  stop.addEventListener('abort', () => own.abort(), { once: true })
  return {
    raised: raised.promise,
    failure: () => failure,
    raise: (given) => {
      if (failure === undefined)
        host.log.error('spool_lost', { code: given.code, why: given.message, fix: given.hint })
      failure ??= given
      own.abort()
      raised.resolve()
    },
    stop: own.signal,
  }
}

/** All code is loaded before the agent is ready: an upgrade takes the files away while it still runs. */
const loadParts = ({ sources, destinations }: Config) =>
  Promise.all([...sources, ...destinations].map(({ of }) => of.load?.()))

/** Runs until `stop`, or until the spool is lost; returns the process's exit code. Rejects when it cannot start. */
export const runAgent = async (config: Config, options: RunAgentOptions): Promise<number> => {
  const { host, signal } = options
  const stateDir = config.agent.state_dir
  const fatal = createFatal(host, signal)
  const { lives } = options
  const series = createSeriesTable({
    agent: config.agent.name,
    seriesIdOf,
    max: config.agent.series_max,
  })
  const spool = await openSpoolWorker({
    path: join(stateDir, 'spool.db'),
    workerUrl: spoolWorkerUrl(),
    spool: spoolOptions(config),
    stages: stagesConfig(config),
    ingest: { commitWindowMs: config.spool.commit_window, lanes: laneOptions(config) },
    series,
    host,
    suspect: lives.suspect,
    onFatal: fatal.raise,
  })
  try {
    return await runOver(config, options, spool, series, fatal)
  } finally {
    // A spool that is lost cannot be closed in good order; the process ends instead.
    try {
      await spool[Symbol.asyncDispose]()
    } catch (error) {
      if (fatal.failure() === undefined)
        host.log.error('spool_close_failed', { error: textOf(error) })
    }
  }
}

const runOver = async (
  config: Config,
  options: RunAgentOptions,
  spool: AgentSpoolPort,
  series: SeriesTable,
  fatal: Fatal,
): Promise<number> => {
  const { manager = silentServiceManager } = options
  const certificates = new Map<string, number>()
  const stateDir = config.agent.state_dir
  const host = hearCertificates(options.host, certificates)
  const clock = createAgentClock(host, {
    floorUs: releasedAtUs,
    savedUs: spool.lastWallUs,
  })
  await spool.setClock(clock.reading())
  const stamps = createArrivalStamps(clock.reading)
  await loadParts(config)
  const destinations = createDestinations(host, config, spool, clock)
  // A new destination that starts "now" must stand in its lanes before the first point of this run comes in.
  for (const { config: one } of destinations)
    for (const lane of one.lanes) await spool.openReader(lane, one.name, one.from)
  const intake = { ...spool, append: provingAppend(spool, options.lives) }
  const sourceParts = {
    host,
    agent: config.agent.name,
    spool: intake,
    series,
    clock: clock.reading,
    stamps,
  }
  const sources: readonly AgentSource[] = config.sources.map((one) =>
    createAgentSource({ ...sourceParts, aheadUsMax: aheadUsMaxOf(config, one.lane) }, one),
  )
  const selections = config.lanes.some(({ name }) => name === replayLane)
    ? createSelections({ spool, series, host })
    : null
  const view = createAgentView({
    host,
    config,
    spool,
    selections,
    salvage: createSalvage(spool, series),
    clock,
    sources,
    destinations,
    metrics: options.meter.text,
    reload: async () => reloadAnswer(config, options.load()),
    setAside: async () => setAsideIn(await readdir(stateDir), stateDir),
    importBlock: createImporter({
      agent: config.agent.name,
      lanes: config.lanes.map(({ name }) => name),
      series,
      spool,
    }),
    explain: createExplain({ config, spool, series }),
    certificates: () => [...certificates].map(([use, endsUs]) => ({ use, endsUs })),
  })
  const path = controlSocketPath(config.agent.state_dir, options.environment)
  await using _control = await openControlSocket({ path, view, log: host.log })
  host.log.info('agent_started', {
    agent: config.agent.name,
    version,
    epoch: spool.epoch,
    control: path,
  })
  options.onReady?.(view)
  const lastSeal: Service = {
    name: 'last seal',
    run: async (signal) => {
      await aborted(signal)
      await view.seal()
      const readers = (await spool.lanes()).flatMap((lane) => lane.readers)
      const sending = destinations.some((one) => one.forwarder.status().phase === 'sending')
      if (sending && readers.some((one) => one.pending > 0)) await host.clock.sleep(lastSendMs)
    },
  }
  const running = supervise(
    host,
    [
      sources,
      [lastSeal],
      [
        ...destinations.map((one) => one.forwarder),
        ...(selections === null ? [] : [selections]),
        createClockService(host, clock, spool),
        createWatchService(host, view, manager),
        createBeatService(manager, spool),
      ],
    ],
    fatal.stop,
  )
  await Promise.race([running, fatal.raised])
  await closeDestinations(host, destinations)
  host.log.info('agent_stopped', { agent: config.agent.name })
  const failure = fatal.failure()
  options.lives.ends(failure)
  return failure === undefined
    ? exitCodes.good
    : isFailure(failure, 'HF-S074')
      ? exitCodes.diskTrouble
      : exitCodes.failed
}

/** A destination may have something open (a file, a timer) that would outlive the agent. */
const closeDestinations = async (host: Host, destinations: readonly AgentDestination[]) => {
  const closing = destinations.map(({ destination }) => destination[Symbol.asyncDispose]())
  const ended = new AbortController()
  const all = Promise.allSettled(closing).then(() => ended.abort())
  await Promise.race([all, host.clock.sleep(lastSendMs, ended.signal)])
}
