/**
 * What every verb gets: the global flags, the two streams, colours, prompts, and the way to name a running agent.
 * Invariants: data on stdout, everything else on stderr; no prompt and no colour where no person is looking.
 */
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { LoadResult } from '../config/load.ts'
import { type ConfigProblem, isWrongInItself } from '../config/problems.ts'
import type { Environment } from '../config/secrets.ts'
import type { ControlClient } from '../control/client.ts'
import { exitCodes, Failure, interrupted } from '../errors.ts'
import { createRedactor, type Redactor } from '../observability/redact.ts'
import { forJournal, isJournal } from '../service-manager.ts'

export interface GlobalFlags {
  readonly config?: string
  readonly socket?: string
  readonly json?: boolean
  readonly quiet?: boolean
  readonly verbose?: boolean
  readonly color: boolean
  readonly input: boolean
  readonly timeoutMs: number
}
export interface CliContext {
  readonly flags: GlobalFlags
  readonly environment: Environment
  readonly color: boolean
  /** A person sits at both ends. */
  readonly interactive: boolean
  /** A line of data, to stdout. */
  readonly out: (text: string) => void
  /** A line for the person, to stderr; nothing with --quiet. */
  readonly say: (text: string) => void
  /** A line that --quiet does not silence; in the journal a warning, or an error. */
  readonly warn: (text: string, priority?: 3 | 4) => void
  readonly json: (value: unknown) => void
  readonly paint: (style: Style, text: string) => string
  readonly ask: (question: string, standard: string) => Promise<string>
  readonly configPath: () => string
  /** `answerMsMin`: for a question whose answer takes longer than most. */
  readonly client: (answerMsMin?: number) => Promise<ControlClient>
  /** What the configuration calls a secret is added here, and leaves neither by log nor by error. */
  readonly redactor: Redactor
  /** Fires at the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal
}
const credentials = '/run/credentials'
/** By hand there is no $CREDENTIALS_DIRECTORY; the unit's own is used where this user may. */
export const credentialsOf = (environment: Environment, unit: string): Environment => {
  const folder = `${credentials}/${unit}.service`
  if (environment.CREDENTIALS_DIRECTORY || !existsSync(folder)) return environment
  return { ...environment, CREDENTIALS_DIRECTORY: folder }
}
const styles = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33' } as const
export type Style = keyof typeof styles

const defaultConfigs = ['holdfast.yaml', '/etc/holdfast/holdfast.yaml'] as const
const systemSocket = '/run/holdfast/control.sock'

export const isoText = (ms: number) => new Date(ms).toISOString()

/** Only `agent.state_dir` is read, so that a broken configuration does not keep anyone from asking for the status. */
export const stateDirOf = async (configPath: string): Promise<string | undefined> => {
  try {
    const { parseDocument } = await import('yaml')
    const found: unknown = parseDocument(readFileSync(configPath, 'utf8')).getIn([
      'agent',
      'state_dir',
    ])
    return typeof found === 'string' ? resolve(dirname(resolve(configPath)), found) : undefined
  } catch {
    return undefined
  }
}
/**
 * Whether a configuration that nobody has named is there, and its reader's own or root's: whoever could plant one in
 * the folder where a verb is called would have secrets read, and sent where he likes.
 */
export const standsIn = (path: string, say: (text: string) => void): boolean => {
  const links = [
    lstatSync(path, { throwIfNoEntry: false }),
    statSync(path, { throwIfNoEntry: false }),
  ]
  if (links.includes(undefined)) return false
  const own = process.geteuid?.()
  const others = links.find((seen) => own !== undefined && seen?.uid !== 0 && seen?.uid !== own)
  if (others === undefined) return true
  say(`passed over ${resolve(path)}: it belongs to user ${others.uid}; name it with -c to use it`)
  return false
}
const createConfigFinder = (
  flags: GlobalFlags,
  environment: Environment,
  say: (text: string) => void,
): (() => string) => {
  let found = flags.config ?? environment.HOLDFAST_CONFIG
  return () => {
    const [here, standard] = defaultConfigs
    found ??= defaultConfigs.find((path) => standsIn(path, say))
    // What was passed over is not fallen back to.
    found ??= existsSync(here) ? standard : here
    return found
  }
}
const findSocket = async (
  flags: GlobalFlags,
  environment: Environment,
  configPath: () => string,
): Promise<string> => {
  const given = flags.socket ?? environment.HOLDFAST_SOCKET
  if (given) return resolve(given)
  const stateDir = (await stateDirOf(configPath())) ?? '/var/lib/holdfast'
  const own = resolve(stateDir, 'control.sock')
  return existsSync(own) || !existsSync(systemSocket) ? own : systemSocket
}

export const createContext = (
  flags: GlobalFlags,
  environment: Environment,
  signal: AbortSignal,
): CliContext => {
  const color =
    flags.color &&
    !environment.NO_COLOR &&
    environment.TERM !== 'dumb' &&
    process.stdout.isTTY === true
  const interactive = flags.input && process.stdin.isTTY === true && process.stderr.isTTY === true
  const stderr = (text: string) => process.stderr.write(`${text}\n`)
  const inJournal = isJournal(environment.JOURNAL_STREAM)
  const warn = (text: string, priority: 3 | 4 = 4) =>
    stderr(inJournal ? forJournal(priority, text) : text)
  const configPath = createConfigFinder(flags, environment, warn)
  const out = (text: string) => process.stdout.write(`${text}\n`)
  return {
    flags,
    environment,
    color,
    interactive,
    signal,
    redactor: createRedactor(),
    out,
    warn,
    say: (text) => {
      if (!flags.quiet) stderr(text)
    },
    json: (value) => out(JSON.stringify(value)),
    paint: (style, text) => (color ? `\x1b[${styles[style]}m${text}\x1b[0m` : text),
    ask: async (question, standard) => {
      if (!interactive) return standard
      const { createInterface } = await import('node:readline/promises')
      const prompt = createInterface({ input: process.stdin, output: process.stderr })
      try {
        return (await prompt.question(`${question} [${standard}] `, { signal })).trim() || standard
      } catch (error) {
        // Ctrl-C, or Ctrl-D: no answer, and none is made up.
        if ((error as Error).name !== 'AbortError') throw error
        stderr('')
        throw interrupted()
      } finally {
        prompt.close()
      }
    },
    configPath,
    client: async (answerMsMin = 0) => {
      const { createControlClient } = await import('../control/client.ts')
      const timeoutMs = Math.max(flags.timeoutMs, answerMsMin)
      return createControlClient(await findSocket(flags, environment, configPath), timeoutMs)
    },
  }
}

/** Prints all problems of a configuration; answers whether any is an error. */
export const showProblems = async (
  context: CliContext,
  problems: readonly ConfigProblem[],
): Promise<boolean> => {
  const { renderProblems } = await import('../config/problems.ts')
  for (const one of problems)
    context.warn(
      renderProblems([one], { color: context.color }).trimEnd(),
      one.severity === 'error' ? 3 : 4,
    )
  return problems.some(({ severity }) => severity === 'error')
}

/**
 * How a long-running verb ends over a configuration, looked at without its surroundings: a key half renewed, a disk or
 * a secret not yet there are worth another start, where a wrong file is not.
 */
export const exitCodeOfProblems = (text: LoadResult<unknown>): number =>
  text.ok || !isWrongInItself(text.problems) ? exitCodes.tryLater : exitCodes.configInvalid

/** Anything that loses data needs --yes, or a person who says so, and has said how much by then. */
export const mayLose = async (context: CliContext, yes: boolean, what: string): Promise<void> => {
  if (yes) return
  if (!context.interactive)
    throw new Failure('HF-X011', what, 'say so with --yes; nothing was changed')
  const answer = await context.ask(`${what} Go on?`, 'no')
  if (!/^y(es)?$/i.test(answer)) throw new Failure('HF-X012', 'nothing was changed')
}
