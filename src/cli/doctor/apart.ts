/**
 * What touches the disk, looked at in a process of its own: a disk that is stuck holds whoever asks it, beyond any
 * signal, and must not hold `doctor`. `lookApart` is its keeper, `runApart` what runs in it.
 *
 * Invariants: a step that says nothing for `silentMsMax` is said to be stuck, with its path, and left behind; the steps
 * after it are looked at by another process. One that flushes is left to end by itself, and then removes its file.
 */
import { spawn } from 'node:child_process'
import { dirname, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { catalog } from '../../config/catalog.ts'
import { defaultStateDir, type LoadResult, loadConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import { createSystemHost, systemClock } from '../../host.ts'
import { type CliContext, credentialsOf, stateDirOf } from '../context.ts'
import { lookAtDisk, lookAtSetAside } from './disk.ts'
import { bad, type Finding, unknown } from './finding.ts'
import { isStranger, stepFinding } from './link.ts'
import { configFindings, lookAtCertificates } from './machine.ts'

/** In this order. `config` finds nothing: after it whoever waits may read that file as well. */
export const apartSteps = ['config', 'surroundings', 'disk', 'folders'] as const
export type ApartStep = (typeof apartSteps)[number]
/** What is about to be asked of a disk. */
interface Looking {
  readonly check: string
  readonly what: string
  readonly path: string
  /** A file of its own, which it removes. */
  readonly writes?: boolean
}
type Said =
  | { readonly looking: Looking }
  | { readonly finding: Finding }
  | { readonly done: ApartStep }

const silentMsMax = 10_000
/** On a busy gateway, from a slow card. */
const startMsMax = 30_000
const stuck = ({ check, what, path }: Looking, ms: number): Finding =>
  bad(
    check,
    `${what} ${path} has not come back in ${ms / 1_000} s: the disk under it is stuck`,
    'Look at dmesg, the cable and the power of the disk or card; of a network folder: is its server there?',
  )

/** Undefined: it was killed in the middle of a line. */
const parsed = (line: string): Said | undefined => {
  try {
    return JSON.parse(line) as Said
  } catch {
    return undefined
  }
}

/** As it was named; who looks for one that was not asks the disk of the working folder. */
export const configNamed = ({ flags, environment }: CliContext): string | undefined =>
  flags.config ?? environment.HOLDFAST_CONFIG

interface Kept {
  /** Resolves when this step is over; false: it is stuck, or never began. */
  readonly over: (step: ApartStep) => Promise<boolean>
  readonly all: Promise<void>
}
/** One process, until it ends, is stuck, or is no longer wanted; the step it did not end, if any. */
const keep = (
  context: CliContext,
  unit: string,
  steps: readonly ApartStep[],
  hear: (said: Said) => void,
): Promise<ApartStep | undefined> =>
  new Promise((settle) => {
    const { environment, flags, signal } = context
    const named = configNamed(context)
    const self = [...process.execArgv, process.argv[1] ?? '']
    const config = named === undefined ? [] : ['-c', named]
    const words = ['doctor', '--json', '--unit', unit, '--apart', steps.join()]
    const given = flags.socket === undefined ? [] : ['--socket', flags.socket]
    const child = spawn(process.execPath, [...self, ...config, ...given, ...words], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: environment as NodeJS.ProcessEnv,
      // A terminal that closes must not end it between its file and the end of that.
      detached: true,
    })
    const left = new Set(steps)
    const path = named ?? 'the configuration'
    let looking: Looking = { check: 'disk', what: 'starting a look at', path }
    let over = false
    const end = () => {
      over = true
      cancel()
      signal.removeEventListener('abort', end)
      lines.close()
      child.stdout.destroy()
      // Whatever reads can be killed, or cannot be helped; what writes removes its own file in the end.
      if (looking.writes !== true) child.kill('SIGKILL')
      child.unref()
      settle([...left][0])
    }
    const late = (ms: number) =>
      systemClock.after(ms, () => {
        hear({ finding: stuck(looking, ms) })
        end()
      })
    let cancel = late(startMsMax)
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      const said = parsed(line)
      if (said === undefined) return
      cancel()
      cancel = late(silentMsMax)
      if ('looking' in said) looking = said.looking
      if ('done' in said) left.delete(said.done)
      hear(said)
    })
    signal.addEventListener('abort', end, { once: true })
    child.once('error', (error) => {
      hear({ finding: unknown('disk', `nobody can be sent to look: ${error.message}`) })
      end()
    })
    child.once('close', (code) => {
      if (over) return
      const { check, what, path: at } = looking
      if (left.size > 0)
        hear({
          finding: unknown(check, `${what} ${at} ended with ${code}: a bug, please report it`),
        })
      end()
    })
  })

export const lookApart = (
  context: CliContext,
  unit: string,
  tell: (finding: Finding) => void,
): Kept => {
  const overs = new Map(apartSteps.map((step) => [step, Promise.withResolvers<boolean>()]))
  const work = async () => {
    let steps: readonly ApartStep[] = apartSteps
    while (steps.length > 0 && !context.signal.aborted) {
      const unended = await keep(context, unit, steps, (said) => {
        if ('finding' in said) tell(said.finding)
        if ('done' in said) overs.get(said.done)?.resolve(true)
      })
      // Without the configuration nobody knows where to look.
      if (unended === undefined || unended === 'config') break
      steps = steps.slice(steps.indexOf(unended) + 1)
      overs.get(unended)?.resolve(false)
    }
    for (const { resolve: settle } of overs.values()) settle(false)
  }
  return {
    over: (step) => overs.get(step)?.promise ?? Promise.resolve(false),
    all: work(),
  }
}

interface Looks {
  readonly context: CliContext
  readonly path: string
  readonly loaded: LoadResult<Config>
  readonly folder: string
  readonly say: (said: Said) => void
  readonly tell: (findings: readonly Finding[]) => void
}
const byStep: Readonly<Record<ApartStep, (looks: Looks) => void | Promise<void>>> = {
  config: () => {},
  surroundings: ({ context, path, folder, say, tell }) => {
    say({ looking: { check: 'config', what: 'looking at the files named in', path } })
    const loaded = loadConfig(path, { environment: context.environment, catalog })
    const problems = loaded.ok ? loaded.warnings : loaded.problems
    tell(configFindings(path, problems, isStranger(folder)))
    if (loaded.ok) tell(lookAtCertificates(loaded.config, systemClock.nowUs()))
  },
  disk: ({ loaded, folder, say, tell }) => {
    const config = loaded.ok ? loaded.config : undefined
    const looking = (check: string, what: string) =>
      say({ looking: { check, what, path: folder, writes: check === 'flush' } })
    lookAtSetAside(folder, looking, tell)
    lookAtDisk(folder, config, systemClock, looking, tell)
  },
  folders: async ({ loaded, folder, say, tell }) => {
    for (const { of, settings, name } of loaded.ok ? loaded.config.destinations : []) {
      // What has a way there is looked at by whoever waits: it has its own deadlines.
      if (of.link !== undefined || typeof of.tryOut !== 'function') continue
      const path = (settings as { readonly output_dir?: string }).output_dir ?? ''
      say({ looking: { check: `to ${name}`, what: 'a file written to', path, writes: true } })
      const steps = await of.tryOut(settings, createSystemHost())
      tell(steps.map((one) => stepFinding(`to ${name}`, one, isStranger(folder))))
    }
  },
}

/** Prints what it is about to do and what it finds, a line of JSON each. */
export const runApart = async (context: CliContext, unit: string, steps: string): Promise<void> => {
  const say = (said: Said) => context.json(said)
  if (configNamed(context) === undefined)
    say({ looking: { check: 'config', what: 'looking for holdfast.yaml in', path: resolve('.') } })
  const path = context.configPath()
  say({ looking: { check: 'config', what: 'reading', path } })
  const environment = credentialsOf(context.environment, unit)
  const loaded = loadConfig(path, { environment, catalog, surroundings: false })
  const { hide, add } = context.redactor
  if (loaded.ok) for (const secret of loaded.config.secrets) add(secret)
  const stateDir = loaded.ok
    ? loaded.config.agent.state_dir
    : ((await stateDirOf(path)) ?? defaultStateDir(environment))
  const looks: Looks = {
    context: { ...context, environment },
    path,
    loaded,
    folder: resolve(dirname(resolve(path)), stateDir),
    say,
    tell: (findings) => {
      for (const one of findings)
        say({ finding: { ...one, text: hide(one.text), fix: hide(one.fix) } })
    },
  }
  for (const step of apartSteps.filter((one) => steps.split(',').includes(one))) {
    await byStep[step](looks)
    say({ done: step })
  }
}
