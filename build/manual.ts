/**
 * The manual page holdfast(1) and the completion for bash, both made from the command tree.
 * Invariant: what `--help` does not show stands in neither.
 */
import type { Command } from 'commander'
import { createProgram } from '../src/cli/program.ts'

const root = (): Command =>
  createProgram({ environment: {}, signal: new AbortController().signal, code: 0 })
const help = (command: Command) => command.createHelp()
const nameOf = (command: Command): string =>
  command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name()
const withBelow = (command: Command): readonly Command[] => [
  command,
  ...command.commands.filter((one) => one.name() !== 'help').flatMap(withBelow),
]

const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')
const sentence = (text: string): string => {
  const first = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.?!]$/.test(first) ? first : `${first}.`
}
const optionsOf = (command: Command): readonly string[] =>
  help(command)
    .visibleOptions(command)
    .filter(({ long }) => long !== '--help')
    .map(
      (option) =>
        `.TP\n.B ${roff(option.flags)}\n${roff(sentence(help(command).optionDescription(option) || 'See the verb'))}`,
    )

const exitStatus: readonly (readonly [string, string])[] = [
  ['0', 'Good.'],
  ['1', 'Failed.'],
  ['2', 'Wrong usage.'],
  ['3, 4', 'status: degraded, unhealthy.'],
  ['5', 'No agent answers.'],
  ['74', 'The disk failed; what was acknowledged is safe.'],
  ['75', 'Try later: another agent has the spool, or something is not there yet.'],
  ['77', 'No permission.'],
  ['78', 'The configuration is wrong; starting again will not help.'],
]
const files: readonly (readonly [string, string])[] = [
  ['/etc/holdfast/holdfast.yaml', 'Configuration of the agent.'],
  ['/etc/holdfast/regional.yaml', 'Configuration of a regional node; not part of the package.'],
  ['/var/lib/holdfast', 'The spool.'],
  ['/run/holdfast/control.sock', 'Where the running agent answers.'],
]
const table = (rows: readonly (readonly [string, string])[]): string =>
  rows.map(([term, text]) => `.TP\n.B ${roff(term)}\n${roff(text)}`).join('\n')

/** roff of holdfast(1); `date` as YYYY-MM-DD. */
export const manual = (version: string, date: string): string => {
  const top = root()
  const verbs = withBelow(top)
    .slice(1)
    .map((command) => {
      const usage = help(command)
        .commandUsage(command)
        .replace(/\s*\[command\]/, '')
      const lines = [`.SS ${roff(nameOf(command).replace(/^holdfast /, ''))}`, '.nf', roff(usage)]
      return [...lines, '.fi', '.PP', roff(sentence(command.description())), ...optionsOf(command)]
    })
  return `${[
    `.TH HOLDFAST 1 "${date}" "holdfast ${version}" "User Commands"`,
    '.SH NAME',
    'holdfast \\- edge\\-to\\-cloud sync agent that does not lose points',
    '.SH SYNOPSIS',
    '.B holdfast\n.RI [ options ] " verb " [ arguments ]',
    '.SH DESCRIPTION',
    roff(top.description()),
    '.SH OPTIONS',
    ...optionsOf(top),
    '.SH VERBS',
    ...verbs.flat(),
    '.SH EXIT STATUS',
    table(exitStatus),
    '.SH FILES',
    table(files),
    '.SH SEE ALSO',
    '.BR systemctl (1),\n.BR journalctl (1)',
  ].join('\n')}\n`
}

/** Words of the deepest verb typed so far; files where nothing else fits. */
export const bashCompletion = (): string => {
  const flags = (command: Command) =>
    help(command)
      .visibleOptions(command)
      .flatMap(({ long }) => long ?? [])
  const global = flags(root())
  const cases = withBelow(root()).map((command) => {
    const below = command.commands.filter((one) => one.name() !== 'help').map((one) => one.name())
    const words = [...new Set([...below, ...flags(command), ...global])]
    return `    '${nameOf(command)}') words='${words.join(' ')}' ;;`
  })
  return `# Completion of holdfast(1) for bash; made from the command tree.
_holdfast() {
  local word words verb=holdfast known
  local cur=\${COMP_WORDS[COMP_CWORD]}
  known='${withBelow(root())
    .map((command) => `|${nameOf(command)}|`)
    .join('')}'
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $known == *"|$verb $word|"* ]] && verb="$verb $word"
  done
  case $verb in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _holdfast holdfast
`
}
