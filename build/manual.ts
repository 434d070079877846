/**
 * The manual pages: holdfast(1) from the command tree, holdfast.yaml(5) from the schema of the configuration.
 * Invariant: what `--help` does not show stands in neither; every verb, flag and key does (test/unit/manual.test.ts).
 */
import { commandTree, type Flag, withBelow } from './command-tree.ts'
import { type Entry, sections } from './config-reference.ts'

/** Text as roff takes it: nothing in it is a request, dashes can be searched for and copied. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '...')
    .replaceAll('’', "'")
    .replace(/^([.'])/gm, '\\&$1')
const columnsMax = 78
/** As `roff`, in short lines, for text that is filled anyway. */
const prose = (text: string): string => {
  const lines: string[] = []
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1)
    if (last === undefined || last.length + word.length >= columnsMax) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return roff(lines.join('\n'))
}
const sentence = (text: string): string => {
  const first = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.?!]$/.test(first) ? first : `${first}.`
}
const item = (term: string, text: string): string => `.TP\n.B ${roff(term)}\n${prose(text)}`
const flagItem = ({ usage, about }: Flag): string => item(usage, sentence(about || 'See the verb'))

const exitStatus: readonly (readonly [string, string])[] = [
  ['0', 'Good.'],
  ['1', 'Failed.'],
  ['2', 'Wrong usage.'],
  ['3, 4', 'status: degraded, unhealthy.'],
  ['5', 'No agent answers.'],
  ['74', 'The disk failed; what was acknowledged is safe.'],
  ['75', 'Try later: another agent has the spool, or something is not there yet.'],
  ['77', 'No permission.'],
  [
    '78',
    'The configuration is wrong, or the spool a newer version’s; starting again will not help.',
  ],
]
const files: readonly (readonly [string, string])[] = [
  ['/etc/holdfast/holdfast.yaml', 'Configuration of the agent.'],
  ['/etc/holdfast/regional.yaml', 'Configuration of a regional node; not part of the package.'],
  ['/var/lib/holdfast', 'The spool.'],
  ['/run/holdfast/control.sock', 'Where the running agent answers.'],
]

const table = (rows: readonly (readonly [string, string])[]): string =>
  rows.map(([term, text]) => item(term, text)).join('\n')
const head = (name: string, section: number, date: string, version: string, part: string) =>
  `.TH ${roff(name)} ${section} "${date}" "holdfast ${version}" "${part}"`

/** roff of holdfast(1); `date` as YYYY-MM-DD. */
export const manual = (version: string, date: string): string => {
  const top = commandTree()
  const verbs = withBelow(top)
    .slice(1)
    .flatMap(({ path, usage, about, flags }) => [
      `.SS ${roff(path.replace(/^holdfast /, ''))}`,
      `.nf\n${roff(usage)}\n.fi`,
      `.PP\n${prose(sentence(about))}`,
      ...flags.map(flagItem),
    ])
  return `${[
    head('HOLDFAST', 1, date, version, 'User Commands'),
    '.SH NAME',
    'holdfast \\- edge\\-to\\-cloud sync agent that does not lose points',
    '.SH SYNOPSIS',
    '.B holdfast\n.RI [ options ] " verb " [ arguments ]',
    '.SH DESCRIPTION',
    prose(top.about),
    '.SH OPTIONS',
    ...top.flags.map(flagItem),
    '.SH VERBS',
    ...verbs,
    '.SH EXIT STATUS',
    table(exitStatus),
    '.SH FILES',
    table(files),
    '.SH SEE ALSO',
    '.BR holdfast.yaml (5),\n.BR systemctl (1),\n.BR journalctl (1)',
  ].join('\n')}\n`
}

const keyItem = ({ key, form, standard, required, about }: Entry): string => {
  const rest = required ? ' Needed.' : standard === '' ? '' : ` Default: ${standard}.`
  return item(key, `${sentence(about)} ${sentence(form)}${rest}`)
}
const example = `agent:
  name: gw-0042
sources:
  - name: line-3
    type: mqtt
    url: mqtts://broker.example:8883
    password: \${cred:mqtt-password}
    subscribe: [{topic: plant/line3/+/data}]
destinations:
  - name: region
    type: relay
    url: https://region.example:8443
    tls: {ca: ca.pem, cert: gw-0042.pem, key: gw-0042-key.pem}`

/** roff of holdfast.yaml(5). */
export const configManual = (version: string, date: string): string =>
  `${[
    head('HOLDFAST.YAML', 5, date, version, 'File Formats'),
    '.SH NAME',
    'holdfast.yaml \\- configuration of the holdfast agent, and of its regional node',
    '.SH SYNOPSIS',
    '.I /etc/holdfast/holdfast.yaml\n.br\n.I /etc/holdfast/regional.yaml',
    '.SH DESCRIPTION',
    [
      'One YAML file. Unknown keys are errors; keys that begin with x- are yours. Relative paths start at the folder of the file.',
      'Durations are written 100ms, 30s, 5min, 24h, 7d; sizes 64KiB, 500MB, 10GiB; rates 2 Mbit/s, 500 kB/s.',
      'Below, [] is an entry of a list, NAME a name of yours; what is needed is needed where the thing it belongs to is given.',
    ]
      .map(prose)
      .join('\n'),
    '.PP\n.B holdfast check\nsays everything that is wrong with it, at once.',
    '.SS Secrets',
    prose(
      `Passwords, tokens, user names and URLs may refer to ${['env:NAME', 'file:/absolute/path', 'cred:NAME'].map((one) => `\${${one}}`).join(', ')} ` +
        '(LoadCredential= of the unit), whole or as a part.',
    ),
    '.SH KEYS',
    ...sections().flatMap(({ title, entries }) => [`.SS ${roff(title)}`, ...entries.map(keyItem)]),
    '.SH EXAMPLES',
    `.nf\n${roff(example)}\n.fi`,
    '.SH FILES',
    table([
      ['/usr/share/holdfast/holdfast.schema.json', 'JSON Schema of this file, for editors.'],
      ['/usr/share/holdfast/regional.schema.json', 'The same for regional.yaml.'],
    ]),
    '.SH SEE ALSO',
    '.BR holdfast (1),\n.BR systemd.exec (5)',
  ].join('\n')}\n`
