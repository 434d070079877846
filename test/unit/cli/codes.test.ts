import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../../..')
const page = readFileSync(join(root, 'docs/operate/codes.md'), 'utf8')
const rows = [...page.matchAll(/^\| (HF-[A-Z]\d{3}) \|(.*)\|$/gm)]
const listed = new Set(rows.map(([, code]) => code))
const used = new Map<string, string>()
for (const file of globSync('src/**/*.ts', { cwd: root }).sort())
  for (const [, code = ''] of readFileSync(join(root, file), 'utf8').matchAll(/'(HF-[A-Z]\d{3})'/g))
    if (!used.has(code)) used.set(code, file)

test('every code in the source is explained in docs/operate/codes.md', () => {
  const missing = [...used]
    .filter(([code]) => !listed.has(code))
    .map(([code, file]) => `${code} (${file})`)
  assert.deepEqual(missing, [], 'add a row for each: what happened, and what to do')
})

test('no code is explained that nothing reports', () => {
  assert.deepEqual(
    [...listed].filter((code) => !used.has(code ?? '')),
    [],
    'remove the row, or correct its code',
  )
})

test('each has one row, a cause and a remedy', () => {
  assert.equal(rows.length, listed.size)
  for (const [, code, rest = ''] of rows)
    for (const cell of rest.split('|')) assert.notEqual(cell.trim(), '', code)
})
