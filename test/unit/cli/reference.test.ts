import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createProgram } from '../../../src/cli/program.ts'
import { exitCodes } from '../../../src/errors.ts'

type Program = ReturnType<typeof createProgram>
const page = readFileSync(join(import.meta.dirname, '../../../docs/operate/cli.md'), 'utf8')
const program = createProgram({ environment: {}, signal: new AbortController().signal, code: 0 })

/** `replay cancel` with its command. */
const verbs = (command: Program, before = ''): [string, Program][] =>
  command.commands.flatMap((one): [string, Program][] => {
    const name = `${before}${one.name()}`
    const inner = verbs(one, `${name} `)
    // A verb that only groups others does nothing itself.
    return one.name() === 'config' ? inner : [[name, one], ...inner]
  })

test('every verb and every flag is on the page', () => {
  const rows = page.split('\n').filter((line) => line.startsWith('| `'))
  for (const [name, command] of verbs(program)) {
    const row = rows.find(
      (line) =>
        new RegExp(`^\\| \`${name}[ \`]`).test(line) && !line.startsWith(`| \`${name} cancel`),
    )
    assert.ok(row, `holdfast ${name}`)
    for (const option of command.options)
      if (!option.hidden)
        assert.ok(
          row.includes(option.long ?? '') || row.includes(option.short ?? '-?'),
          `${name} ${option.flags}`,
        )
  }
  for (const option of program.options)
    if (option.long !== '--version') assert.ok(page.includes(option.long ?? ''), option.flags)
})

test('every exit code is on the page', () => {
  for (const [name, code] of Object.entries(exitCodes))
    assert.match(page, new RegExp(`^\\|[ \\d·]*\\b${code}\\b`, 'm'), name)
})
