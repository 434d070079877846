/** What people's tools make of our manual pages and completions: mandoc, bash, zsh and fish. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { bashCompletion, fishCompletion, zshCompletion } from '../../build/completions.ts'
import { configManual, manual } from '../../build/manual.ts'
import { findTool, type Tool } from '../support/debian.ts'
import { temporaryFolder } from '../support/temp.ts'

const folder = temporaryFolder('shells')
const write = (name: string, text: string): string => {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}
const pages = [
  write('holdfast.1', manual('1.2.3', '2026-11-21')),
  write('holdfast.yaml.5', configManual('1.2.3', '2026-11-21')),
]
const completions = {
  bash: write('holdfast.bash', bashCompletion()),
  zsh: write('_holdfast', zshCompletion()),
  fish: write('holdfast.fish', fishCompletion()),
}
const find = (program: string, place: string, name = program): Tool | string => {
  try {
    return findTool(program, name, place)
  } catch (error) {
    return `${program} could not be had: ${error instanceof Error ? error.message : error}`
  }
}
const skipOf = (tool: Tool | string) => (typeof tool === 'string' ? tool : false)
const run = (tool: Tool | string, args: readonly string[], more = {}): string => {
  if (typeof tool === 'string') throw new Error(tool)
  const env = { ...process.env, ...tool.env, ...more }
  const { stdout, stderr, error } = spawnSync(tool.path, args, {
    env,
    encoding: 'utf8',
    timeout: 30_000,
  })
  if (error) throw error
  return `${stdout}${stderr}`
}

const mandoc = find('mandoc', '/usr/bin/mandoc')
const lint = (page: string) => run(mandoc, ['-T', 'lint', '-W', 'warning', page])
test('mandoc finds nothing to warn of in the manual pages', { skip: skipOf(mandoc) }, () => {
  for (const page of pages) assert.equal(lint(page), '')
  assert.match(lint(write('wrong.1', '.TH X 1\n.SH NAME\n.XX\n')), /WARNING|ERROR/)
})
test('mandoc shows their words', { skip: skipOf(mandoc) }, () => {
  // Bold is a letter, a backspace and the letter again.
  const plain = (text: string) =>
    text
      .split('\b')
      .map((part, at, parts) => (at < parts.length - 1 ? part.slice(0, -1) : part))
      .join('')
  const [verbs = '', keys = ''] = pages.map((page) =>
    plain(run(mandoc, ['-T', 'utf8', '-O', 'width=100', page])),
  )
  assert.match(verbs, /--dry-run\s+Only say how much it would be\./)
  assert.match(keys, /spool\.keep_sent\s+How long sent points stay/)
  assert.match(keys, /password: \$\{cred:mqtt-password\}/)
})

/** Line typed, and what must be offered, and nothing else where `only`. */
const asked: readonly (readonly [line: string, offered: readonly string[], only?: boolean])[] = [
  ['holdfast sta', ['status'], true],
  ['holdfast regional ', ['admit', 'agents', 'plan']],
  ['holdfast regional pl', ['plan'], true],
  ['holdfast replay --dr', ['--dry-run'], true],
  ['holdfast replay ca', ['cancel'], true],
  ['holdfast status --js', ['--json'], true],
  ['holdfast --json sta', ['status'], true],
  ['holdfast doctor --car', ['--card-tbw'], true],
]
const expectOffers = (ask: (line: string) => readonly string[]) => {
  for (const [line, offered, only] of asked) {
    const seen = ask(line)
    if (only) assert.deepEqual(seen, offered, line)
    else for (const one of offered) assert.ok(seen.includes(one), `${line}: ${seen.join(' ')}`)
  }
}

const bash = find('bash', '/bin/bash')
test('bash completes verbs and flags', { skip: skipOf(bash) }, () => {
  const script = `. "$1"; read -ra COMP_WORDS <<<"$2"; [[ $2 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _holdfast; printf '%s\\n' "\${COMPREPLY[@]}"`
  const ask = (line: string) =>
    run(bash, ['--norc', '-c', script, 'bash', completions.bash, line]).trim().split('\n')
  expectOffers(ask)
  assert.deepEqual(ask('holdfast --config sta'), [''], 'a file belongs there')
})

const fish = find('fish', '/usr/bin/fish')
test('fish completes verbs and flags', { skip: skipOf(fish) }, () => {
  const script = `source ${completions.fish}; complete -C $argv[1]`
  const ask = (line: string) =>
    run(fish, ['--no-config', '-c', script, line], { HOME: folder })
      .trim()
      .split('\n')
      .map((one) => one.split('\t')[0] ?? '')
  expectOffers(ask)
  const verbs = ask('holdfast ')
  assert.ok(verbs.includes('run') && !verbs.includes('admit'), verbs.join(' '))
})

const zsh = find('zsh', '/bin/zsh')
/** An interactive zsh that says what it would offer, instead of offering it. */
const zshrc = `
PROMPT= RPROMPT=
setopt extendedglob
fpath=(${folder} $ROOT/usr/share/zsh/functions $ROOT/usr/share/zsh/functions/*(N/) $ROOT/usr/share/zsh/functions/Completion/*(N/))
[[ -n $ROOT ]] && module_path=($ROOT/usr/lib/*/zsh/*(N/))
autoload -Uz compinit && compinit -u -D
compadd() {
  local -a hits
  if [[ " $* " != *' '-[a-zA-Z]#[OAD]' '* ]]; then
    builtin compadd -A hits "$@"
    offered+=($hits)
  fi
  builtin compadd "$@"
}
capture() {
  offered=()
  _main_complete
  compstate[insert]= compstate[list]=
  print -r -- "<<<\${(j:,:)offered}>>>"
}
zle -C capture complete-word capture
bindkey '^I' capture
print READY
`
const asker = `
[[ -n $ROOT ]] && module_path=($ROOT/usr/lib/*/zsh/*(N/))
zmodload zsh/zpty || exit 1
zpty asked "$1 -d -i"
zpty -r -m asked seen '*READY*' || exit 2
zpty -w -n asked "$2"$'\\t'
zpty -r -m asked seen '*<<<*>>>*'
print -r -- "$seen"
zpty -d asked
`
test('zsh completes verbs and flags at a real prompt', { skip: skipOf(zsh) }, () => {
  write('.zshrc', zshrc)
  const script = write('asker.zsh', asker)
  const { path = '', origin = 'path' } = typeof zsh === 'string' ? {} : zsh
  const ROOT = origin === 'unpacked' ? path.replace(/\/bin\/zsh$/, '') : ''
  expectOffers((line) => {
    const said = run(zsh, ['-d', '-f', script, path, line], { ROOT, ZDOTDIR: folder, TERM: 'dumb' })
    return /<<<(.*)>>>/.exec(said)?.[1]?.split(',') ?? [said]
  })
})
