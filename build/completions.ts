/**
 * Completions of `holdfast` for bash, zsh and fish, from the command tree.
 * Invariant: the flags of every verb stand beside the verb's own, since commander takes them anywhere.
 */
import { commandTree, type Flag, type Value, type Verb, withBelow } from './command-tree.ts'

const note = '# Completion of holdfast(1); made from the command tree.'
const namesOf = ({ short, long }: Flag): readonly string[] =>
  [short, long].filter((one) => one !== '')
const flagsOf = (verb: Verb, top: Verb): readonly Flag[] =>
  verb === top
    ? verb.flags
    : [...verb.flags, ...top.flags.filter(({ long }) => long !== '--version')]

/** Words of the deepest verb typed so far; a flag's value where one stands before; files where nothing else fits. */
export const bashCompletion = (): string => {
  const top = commandTree()
  const all = withBelow(top)
  const cases = all.map((verb) => {
    const words = [...verb.verbs.map(({ name }) => name), ...flagsOf(verb, top).flatMap(namesOf)]
    return `    '${verb.path}') words='${[...new Set(words)].join(' ')}' ;;`
  })
  const valued = (kinds: readonly Value['kind'][]) =>
    [
      ...new Set(
        all.flatMap(({ flags }) =>
          flags.filter(({ value }) => value && kinds.includes(value.kind)).flatMap(namesOf),
        ),
      ),
    ].join('|')
  const choices = all.flatMap(({ flags }) =>
    flags
      .filter(({ value }) => value?.kind === 'choice')
      .map((flag) => `    ${namesOf(flag).join('|')}) words='${flag.value?.choices.join(' ')}' ;;`),
  )
  return `${note}
_holdfast() {
  local word words verb=holdfast known
  local cur=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]}
  known='${all.map(({ path }) => `|${path}|`).join('')}'
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $known == *"|$verb $word|"* ]] && verb="$verb $word"
  done
  case $verb in
${cases.join('\n')}
  esac
  case $before in
    ${valued(['file', 'folder', 'other'])}) words= ;;
${[...new Set(choices)].join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _holdfast holdfast
`.replace(/\n\n/g, '\n')
}

const zshText = (text: string): string =>
  text.replace(/[[\]:\\']/g, (sign) => (sign === "'" ? `'\\''` : `\\${sign}`))
const zshAction = ({ kind, choices }: Value): string =>
  ({ file: '_files', folder: '_files -/', choice: `(${choices.join(' ')})`, other: ' ' })[kind]
const zshFlag = (flag: Flag): string => {
  const names = namesOf(flag)
  const value = flag.value ? `:${zshText(flag.value.name)}:${zshAction(flag.value)}` : ''
  const spelled = names.length === 1 ? names[0] : `'{${names.join(',')}}'`
  return `'(${names.join(' ')})${spelled}[${zshText(flag.about)}]${value}'`
}
const zshName = (path: string): string => `_${path.replaceAll(/[ -]/g, '_')}`
const zshFunction = (verb: Verb, top: Verb): string => {
  const flags = flagsOf(verb, top).map(zshFlag)
  const values = verb.values.map(
    (value, at) => `'${at + 1}::${zshText(value.name)}:${zshAction(value)}'`,
  )
  const inner = verb.verbs.length === 0 ? values : ["'1: :->verb'", "'*:: :->below'"]
  const below = verb.verbs.map(({ name, path }) => `        ${name}) ${zshName(path)} ;;`)
  const listed = verb.verbs.map(({ name, about }) => `        '${name}:${zshText(about)}'`)
  const states = `
  case $state in
    verb)
      local -a verbs=(
${listed.join('\n')}
      )
      _describe -t verbs verb verbs
      ;;
    below)
      case $words[1] in
${below.join('\n')}
      esac
      ;;
  esac`
  return `${zshName(verb.path)}() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -C -S \\
    ${[...flags, ...inner].join(' \\\n    ')}${verb.verbs.length === 0 ? '' : states}
}
`
}
export const zshCompletion = (): string => {
  const top = commandTree()
  const functions = withBelow(top).map((verb) => zshFunction(verb, top))
  return `#compdef holdfast\n${note}\n${functions.join('\n')}\n_holdfast "$@"\n`
}

const fishText = (text: string): string => `'${text.replace(/[\\']/g, (sign) => `\\${sign}`)}'`
const fishFlag = (condition: string, flag: Flag): string => {
  const { short, long, about, value } = flag
  const action =
    value === undefined
      ? ''
      : ({
          file: ' -r -F',
          folder: " -x -a '(__fish_complete_directories)'",
          choice: ` -x -a ${fishText(value.choices.join(' '))}`,
          other: ' -x',
        }[value.kind] ?? '')
  const names = `${short === '' ? '' : ` -s ${short.slice(1)}`} -l ${long.slice(2)}`
  return `complete -c holdfast${condition}${names}${action} -d ${fishText(about)}`
}
export const fishCompletion = (): string => {
  const top = commandTree()
  const all = withBelow(top)
  const lines = all.flatMap((verb) => {
    const condition =
      verb === top ? '' : ` -n '__holdfast_at ${verb.path.replace(/^holdfast /, '')}'`
    const here = verb === top ? ` -n '__holdfast_at'` : condition
    return [
      ...verb.flags.map((flag) => fishFlag(condition, flag)),
      ...verb.verbs.map(
        ({ name, about }) => `complete -c holdfast${here} -f -a ${name} -d ${fishText(about)}`,
      ),
    ]
  })
  return `${note}
# The verbs typed so far are these, no more and no fewer.
function __holdfast_at
    set -l verb holdfast
    for word in (commandline -opc)[2..-1]
        if contains -- "$verb $word" ${all.map(({ path }) => fishText(path)).join(' ')}
            set verb "$verb $word"
        end
    end
    test "$verb" = (string join ' ' holdfast $argv)
end
complete -c holdfast -f
${lines.join('\n')}
`
}
