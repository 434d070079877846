/**
 * The command tree: verbs, flags, and what an error looks like. Each verb is loaded when it is asked for.
 * Invariants: exit codes are those of `errors.ts`; a Failure prints its code and what to do, a bug prints its stack.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { Environment } from '../config/secrets.ts'
import { exitCodes, Failure, isFailure } from '../errors.ts'
import { version } from '../release.ts'
import { parseDurationMs } from '../units.ts'
import { type CliContext, createContext, type GlobalFlags } from './context.ts'
import { addToolVerbs } from './program-tools.ts'

type Options = Record<string, unknown>
export type Verb<T> = (context: CliContext, options: T, ...args: string[]) => Promise<number>
export interface Session {
  readonly environment: Environment
  readonly signal: AbortSignal
  code: number
}

const durationArgument = (text: string): number => {
  const ms = parseDurationMs(text)
  if (ms === undefined) throw new InvalidArgumentError('A duration such as 5s is needed.')
  return ms
}
const countArgument = (text: string): number => {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1)
    throw new InvalidArgumentError('A whole number from 1 is needed.')
  return count
}
const exitCodeOf = (error: unknown): number => {
  if (!isFailure(error)) return exitCodes.failed
  if (error.code === 'HF-X005') return exitCodes.notReachable
  if (error.code === 'HF-X077') return exitCodes.noPermission
  if (error.code === 'HF-X130') return exitCodes.interrupted
  if (/^HF-S0(01|04|05|06|74)$/.test(error.code)) return exitCodes.diskTrouble
  if (error.code === 'HF-S002' || error.code === 'HF-X010') return exitCodes.tryLater
  if (/^HF-X00[26]$|^HF-X01[16]$/.test(error.code)) return exitCodes.usage
  // An older program over a newer one's spool: as little use in starting again.
  if (error.code.startsWith('HF-C') || error.code === 'HF-S003') return exitCodes.configInvalid
  return exitCodes.failed
}
const printError = (error: unknown, { redactor, flags, json, warn }: CliContext) => {
  const print = (text: string) => warn(redactor.hide(text), 3)
  if (!isFailure(error)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    print(`holdfast: a bug, please report it\n${text}`)
    return
  }
  const { code, message, hint } = error
  if (code === 'HF-X130') return
  if (flags.json) json({ error: { code, text: redactor.hide(message), hint: redactor.hide(hint) } })
  print(`holdfast: ${code} ${message}${hint ? `\n  = ${hint}` : ''}`)
}

/** Gives a command its action: flags gathered, verb loaded, errors printed, exit code kept. */
const act = (session: Session, command: Command, load: () => Promise<Verb<never>>): Command =>
  command.action(async (...given: unknown[]) => {
    const args = given.slice(0, -2) as string[]
    const flags = command.optsWithGlobals<Options>()
    const context = createContext(
      {
        ...(flags as object),
        color: flags.color !== false,
        input: flags.input !== false,
        timeoutMs: Number(flags.timeout),
      } as GlobalFlags,
      session.environment,
      session.signal,
    )
    try {
      const verb = await load()
      session.code = await verb(context, command.opts() as never, ...args)
    } catch (error) {
      printError(error, context)
      session.code = exitCodeOf(error)
    }
  })

const addAgentVerbs = (session: Session, root: Command) => {
  act(
    session,
    root.command('run').description('run the agent until SIGTERM'),
    async () => (await import('./run.ts')).run,
  )
  act(
    session,
    root
      .command('init')
      .description('write a configuration to start from; by prompts, or by flags')
      .option('--directory <folder>', 'where to write', '.')
      .option('--name <name>', 'name of this gateway')
      .option('--region <url>', 'where the regional node listens')
      .option(
        '--development-ca [folder]',
        'also a regional.yaml and a CA with certificates for both sides; for development',
      )
      .option('--server-name <name...>', 'names in the server certificate')
      .option('--force', 'replace a configuration that is there'),
    async () => (await import('./init.ts')).init,
  )
  act(
    session,
    root
      .command('check')
      .description('say everything that is wrong with the configuration; exit 78 if anything is')
      .option('--no-surroundings', 'do not look at files, folders and the disk')
      .option('--deny-warnings', 'a warning is an error')
      .option('--regional', 'check the configuration of a regional node')
      .option('--unit <name>', 'the systemd unit whose credentials it may look at'),
    async () => (await import('./check.ts')).check,
  )
  const config = root.command('config').description('about the configuration')
  act(
    session,
    config
      .command('schema')
      .description('JSON Schema of the configuration, for editors')
      .option('--regional', 'of the regional configuration'),
    async () => (await import('./config.ts')).schema,
  )
  act(
    session,
    config.command('openapi').description('OpenAPI document of the control socket'),
    async () => (await import('./config.ts')).openapi,
  )
}

const addLookVerbs = (session: Session, root: Command) => {
  act(
    session,
    root
      .command('status')
      .description('verdict first; exit 0 ok, 3 degraded, 4 unhealthy, 5 no agent'),
    async () => (await import('./status.ts')).status,
  )
  act(
    session,
    root
      .command('tap [series]')
      .description('show points as they become durable; SERIES may hold * and ?')
      .addOption(new Option('-n, --count <points>', 'end after so many').argParser(countArgument)),
    async () => (await import('./tap.ts')).tap,
  )
  act(
    session,
    root
      .command('explain <series>')
      .description("a series' class, ways and last points: why each was sent, or was not")
      .addOption(
        new Option('-n, --count <points>', 'how many').argParser(countArgument).default(20),
      ),
    async () => (await import('./explain.ts')).explain,
  )
  act(
    session,
    root
      .command('gaps')
      .description('recorded losses, newest last')
      .addOption(new Option('--limit <rows>').argParser(countArgument).default(100)),
    async () => (await import('./gaps.ts')).gaps,
  )
  const quarantine = root
    .command('quarantine')
    .description('what could not be taken or delivered, newest first')
    .addOption(new Option('--limit <rows>').argParser(countArgument).default(100))
  act(session, quarantine, async () => (await import('./quarantine.ts')).quarantine)
  act(
    session,
    quarantine.command('show <id>').description('one row in full: points, values, reason, remedy'),
    async () => (await import('./quarantine.ts')).show,
  )
  act(
    session,
    quarantine
      .command('resend [ids...]')
      .description('send refused points once more, after the far side was mended')
      .option('--destination <name>', 'all of this destination'),
    async () => (await import('./quarantine.ts')).resend,
  )
  act(
    session,
    quarantine
      .command('discard <id>')
      .description('forget a sample, or give up refused points; the gap record stays')
      .option('--yes', 'do it without asking'),
    async () => (await import('./quarantine.ts')).discard,
  )
  act(
    session,
    root
      .command('forget <destination>')
      .description('let go of what waits for a destination that is no longer configured')
      .option('--yes', 'do it without asking'),
    async () => (await import('./forget.ts')).forget,
  )
  const replay = root
    .command('replay')
    .description('send a range of time again, from what is still held; once in effect')
    .option('--from <time>', '2026-11-21T02:00:00Z, or 3h for three hours ago')
    .option('--to <time>', 'not included', 'now')
    .option('--lane <lane>', 'only this lane')
    .option('--destination <name>', 'only to this destination')
    .option('--series <glob...>', 'only these series, by way of the lane "replay"')
    .option('--dry-run', 'only say how much it would be')
  act(session, replay, async () => (await import('./replay.ts')).replay)
  act(
    session,
    replay.command('list').description('replays that run, wait or ended lately'),
    async () => (await import('./replay.ts')).list,
  )
  act(
    session,
    replay.command('cancel <id>').description('end a replay'),
    async () => (await import('./replay.ts')).cancel,
  )
  act(
    session,
    root
      .command('import <files...>')
      .description('take points files, or folders of them, into the running agent; once in effect')
      .option('--lane <lane>', 'instead of the lane they come from')
      .option('--without-index', 'also files that stand in no index beside them'),
    async () => (await import('./import.ts')).importVerb,
  )
  act(
    session,
    root.command('reload').description('read the configuration again'),
    async () => (await import('./status.ts')).reload,
  )
}

const addRegionalVerbs = (session: Session, root: Command) => {
  const regional = root
    .command('regional')
    .description('run a regional node: commits what agents send to a database')
    .option('--listen <address>', 'ADDRESS:PORT')
    .option('--tls-ca <file>', 'CA of the agents')
    .option('--tls-cert <file>')
    .option('--tls-key <file>')
    .option('--database <url>', 'postgres://…; without it an embedded database in the state folder')
    .option('--state-dir <folder>')
  act(session, regional, async () => (await import('./regional.ts')).regional)
  act(
    session,
    regional
      .command('plan')
      .description('print the SQL of the schema and of a role with the least rights')
      .option('--role <name>', 'the role that will write', 'holdfast')
      .option('--retention <duration>', 'let points go after this long'),
    async () => (await import('./regional.ts')).plan,
  )
  act(
    session,
    regional.command('agents').description('who has been heard, and which copies are fenced'),
    async () => (await import('./regional-agents.ts')).agents,
  )
  act(
    session,
    regional
      .command('admit')
      .description('let a fenced copy speak for its agent from now on, and fence the other')
      .argument('<agent>', 'name of the agent')
      .option('--epoch <epoch>', 'which copy, where several are fenced'),
    async () => (await import('./regional-agents.ts')).admit,
  )
}

/** By hand: whose credentials `${cred:NAME}` means. */
const unitOption = () =>
  new Option('--unit <name>', 'the systemd unit of the agent').default('holdfast')
const addDestinationVerbs = (session: Session, root: Command) => {
  const destination = root.command('destination').description('about the destinations')
  act(
    session,
    destination
      .command('list')
      .description('which types there are, what proved them, and how the configured ones are')
      .addOption(unitOption()),
    async () => (await import('./destination-test.ts')).list,
  )
  act(
    session,
    destination
      .command('test <name>')
      .description('DNS, TCP, TLS, login, write: each with its time and the remedy')
      .option('--write', 'write a point also where one of now does harm (Prometheus in order)')
      .option('--no-write', 'write no point')
      .addOption(unitOption()),
    async () => (await import('./destination-test.ts')).testVerb,
  )
  act(
    session,
    destination
      .command('plan <name>')
      .description('print what to run on its far side before the first send')
      .option('--role <name>', 'who will write; else the user of the configuration')
      .option('--retention <duration>', 'let points go after this long')
      .addOption(unitOption()),
    async () => (await import('./destination.ts')).plan,
  )
}

const addOtherVerbs = (session: Session, root: Command) => {
  act(
    session,
    root
      .command('demo')
      .description('sensors, broker, agent, region, faults, and a verdict, on this machine')
      .addOption(
        new Option('--scene <scene>', 'plain, or cellular: 64 kbit/s, windows sent, raw on request')
          .choices(['plain', 'cellular'])
          .default('plain'),
      )
      .addOption(new Option('--seconds <seconds>', 'how long').argParser(countArgument))
      .option('--keep', 'leave the files of the demo where they are')
      .addOption(new Option('--part <json>').hideHelp()),
    async () => (await import('./demo.ts')).demo,
  )
  act(
    session,
    root.command('version').description('what this is'),
    async () => (await import('./version.ts')).versionVerb,
  )
}

export const createProgram = (session: Session): Command => {
  const root = new Command('holdfast')
    .description(
      'Edge-to-cloud sync agent: sensor points reach the regional cluster exactly once in effect.',
    )
    .version(version, '-V, --version')
    .option(
      '-c, --config <file>',
      'configuration; $HOLDFAST_CONFIG, ./holdfast.yaml or /etc/holdfast/holdfast.yaml',
    )
    .option(
      '--socket <path>',
      "the agent's control socket; $HOLDFAST_SOCKET, or in its state folder",
    )
    .option('--json', 'JSON on stdout')
    .option('-q, --quiet', 'only data and errors')
    .option('-v, --verbose', 'more of the log')
    .option('--no-color', 'no colours (as NO_COLOR does)')
    .option('--no-input', 'never ask')
    .addOption(
      new Option('--timeout <duration>', 'for an answer of the agent')
        .argParser(durationArgument)
        .default(10_000, '10s'),
    )
    .showHelpAfterError('(holdfast --help shows all verbs)')
    .exitOverride()
  addAgentVerbs(session, root)
  addLookVerbs(session, root)
  addToolVerbs(root, (command, load) => act(session, command, load), durationArgument)
  addRegionalVerbs(session, root)
  addDestinationVerbs(session, root)
  addOtherVerbs(session, root)
  return root
}

/** Resolves with the exit code; the first SIGINT or SIGTERM asks for an end, the second insists. */
export const runProgram = async (
  args: readonly string[],
  environment: Environment,
): Promise<number> => {
  const stop = new AbortController()
  const onSignal = (name: NodeJS.Signals) => {
    if (stop.signal.aborted) process.exit(name === 'SIGINT' ? 130 : 143)
    stop.abort()
  }
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, onSignal)
  // `holdfast gaps | head`: the reader has seen enough.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(exitCodes.good)
      throw error
    })
  const session: Session = { environment, signal: stop.signal, code: exitCodes.good }
  try {
    await createProgram(session).parseAsync([...args], { from: 'user' })
    return session.code
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? exitCodes.good : exitCodes.usage
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, onSignal)
  }
}
export const usage = (text: string, hint = ''): Failure => new Failure('HF-X002', text, hint)
