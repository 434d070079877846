/** The verbs of a technician: doctor, top, spool. Like those of `program.ts`, loaded when asked for. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Verb } from './program.ts'

type Act = (command: Command, load: () => Promise<Verb<never>>) => Command

const amountArgument = (text: string): number => {
  const amount = Number(text)
  if (!(amount > 0 && Number.isFinite(amount)))
    throw new InvalidArgumentError('A number above 0 is needed.')
  return amount
}

const addSpoolVerbs = (root: Command, act: Act) => {
  const spool = root
    .command('spool')
    .description('look into a spool file that nobody has open, or that was set aside')
  act(
    spool
      .command('check <file>')
      .description('is everything in it what was written? reads all of it; exit 1 if not'),
    async () => (await import('./spool/check.ts')).check,
  )
  act(
    spool
      .command('stats <file>')
      .description('its lanes, seqs, points, bytes and readers, and how much is not sent'),
    async () => (await import('./spool/stats.ts')).stats,
  )
  act(
    spool
      .command('salvage <file>')
      .description('give what it holds unsent to the running agent; may be asked again')
      .option('--all', 'also what was sent already and is still held')
      .option('--into <lane>', 'the lane that takes it, instead of the one of the same name')
      .option('--dry-run', 'only say how much it would be'),
    async () => (await import('./spool/salvage.ts')).salvage,
  )
}

const addDoctorVerbs = (root: Command, act: Act, durationArgument: (text: string) => number) => {
  act(
    root
      .command('top')
      .description(
        'watch rates, backlog, acks and health; a screen on a terminal, else a line each interval',
      )
      .addOption(
        new Option('--interval <duration>', 'between two looks')
          .argParser(durationArgument)
          .default(1_000, '1s'),
      )
      .option('--once', 'the whole view once, then end'),
    async () => (await import('./top.ts')).top,
  )
  act(
    root
      .command('doctor')
      .description(
        'look at disk, clock, rights, certificates and the way to each destination, and say what to do; ' +
          'exit 0 all good, 3 something to look at, 4 something is wrong',
      )
      .addOption(
        new Option('--card-tbw <terabytes>', 'what the card or disk is good for, for its life')
          .argParser(amountArgument)
          .default(10),
      )
      .option('--unit <name>', 'the systemd unit of the agent', 'holdfast')
      .addOption(new Option('--apart <steps>').hideHelp()),
    async () => (await import('./doctor.ts')).doctor,
  )
  act(
    root
      .command('support-bundle')
      .description('one plain text file about this gateway, without secrets, for whoever helps')
      .option('--output <file>', 'where to write; - is stdout')
      .option('--unit <name>', 'the systemd unit of the agent', 'holdfast')
      .option('--yes', 'write it without asking'),
    async () => (await import('./support-bundle.ts')).supportBundle,
  )
}

const addPlanVerbs = (root: Command, act: Act, durationArgument: (text: string) => number) => {
  act(
    root
      .command('plan')
      .description('what the classes would send of a recording: points, bytes, error, days offline')
      .option('--against <file>', 'a changed configuration, to see beside this one')
      .option(
        '--from <files...>',
        'line protocol, points files, spool files; else the spool of the agent',
      )
      .addOption(
        new Option('--since <duration>', 'of the spool: only what is as new').argParser(
          durationArgument,
        ),
      )
      .option('--lane <lane>', 'the lane that gets the points', 'raw')
      .option('--precision <unit>', 'of times in line protocol: ns, us, ms, s', 'ns'),
    async () => (await import('./plan/plan.ts')).plan,
  )
}

export const addToolVerbs = (
  root: Command,
  act: Act,
  durationArgument: (text: string) => number,
): void => {
  addDoctorVerbs(root, act, durationArgument)
  addSpoolVerbs(root, act)
  addPlanVerbs(root, act, durationArgument)
}
