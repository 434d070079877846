/**
 * The verbs of `holdfast` as plain data, for the manual and for completions.
 * Invariant: what `--help` does not show is not here.
 */
import type { Argument, Command, Option } from 'commander'
import { createProgram } from '../src/cli/program.ts'

export interface Flag {
  /** As help shows them: `-c, --config <file>`. */
  readonly usage: string
  readonly long: string
  /** `-c`, or ''. */
  readonly short: string
  readonly about: string
  /** What follows it, or none. */
  readonly value?: Value
}
export interface Value {
  readonly name: string
  readonly kind: 'file' | 'folder' | 'choice' | 'other'
  readonly choices: readonly string[]
}
export interface Verb {
  /** `holdfast replay cancel`. */
  readonly path: string
  readonly name: string
  readonly usage: string
  readonly about: string
  readonly flags: readonly Flag[]
  readonly values: readonly Value[]
  readonly verbs: readonly Verb[]
}

const valueNamed = (name: string, choices: readonly string[] | undefined): Value => {
  const kind = choices
    ? 'choice'
    : /^(file|path)$/.test(name)
      ? 'file'
      : /^(folder|directory|dir)$/.test(name)
        ? 'folder'
        : 'other'
  return { name, kind, choices: choices ?? [] }
}
const flagOf = (option: Option, about: string): Flag => {
  const name = /[<[]([^>\].]+)/.exec(option.flags)?.[1]
  return {
    usage: option.flags,
    long: option.long ?? '',
    short: option.short ?? '',
    about,
    ...(name === undefined ? {} : { value: valueNamed(name, option.argChoices) }),
  }
}
const verbOf = (command: Command, before: string): Verb => {
  const help = command.createHelp()
  const path = before === '' ? command.name() : `${before} ${command.name()}`
  return {
    path,
    name: command.name(),
    usage: help.commandUsage(command).replace(/\s*\[command\]/, ''),
    about: command.description(),
    flags: help
      .visibleOptions(command)
      .filter(({ long }) => long !== '--help')
      .map((option) => flagOf(option, help.optionDescription(option))),
    values: command.registeredArguments.map((one: Argument) =>
      valueNamed(one.name(), one.argChoices),
    ),
    verbs: help
      .visibleCommands(command)
      .filter((one) => one.name() !== 'help')
      .map((one) => verbOf(one, path)),
  }
}

export const commandTree = (): Verb =>
  verbOf(createProgram({ environment: {}, signal: new AbortController().signal, code: 0 }), '')
/** A verb and all below it, in order. */
export const withBelow = (verb: Verb): readonly Verb[] => [verb, ...verb.verbs.flatMap(withBelow)]
