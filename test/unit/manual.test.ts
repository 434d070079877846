/** Manual pages, completions and the reference say all that there is, and nothing that is not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commandTree, withBelow } from '../../build/command-tree.ts'
import { bashCompletion, fishCompletion, zshCompletion } from '../../build/completions.ts'
import { referencePage, sections } from '../../build/config-reference.ts'
import { configManual, manual } from '../../build/manual.ts'
import { catalog } from '../../src/config/catalog.ts'

const verbs = withBelow(commandTree())
const plain = (roff: string) => roff.replaceAll('\\-', '-').replaceAll('\\e', '\\')

test('every verb and flag is in holdfast(1) and in each completion', () => {
  const page = plain(manual('0.0.0', '2026-01-01'))
  for (const { path, flags } of verbs) {
    if (path !== 'holdfast') assert.ok(page.includes(`\n.SS ${path.slice(9)}\n`), path)
    for (const { usage, long } of flags) {
      assert.ok(page.includes(`\n.B ${usage}\n`), `${path} ${usage}`)
      for (const text of [bashCompletion(), zshCompletion(), fishCompletion()])
        assert.ok(text.includes(text.startsWith('#compdef') ? `${long}` : long.slice(2)), long)
    }
  }
  assert.ok(!page.includes('--part'), 'a hidden flag')
})

test('every key of the configuration is in holdfast.yaml(5) and on the page, and says what it is for', () => {
  const [man, page] = [plain(configManual('0.0.0', '2026-01-01')), referencePage()]
  const found = sections()
  for (const { title, entries } of found) {
    assert.ok(entries.length > 0, title)
    for (const { key, about, form } of entries) {
      assert.ok(about !== '', `${title}: ${key} lacks .describe() in its schema`)
      assert.ok(form !== '' && !form.includes('undefined'), `${title}: ${key}: ${form}`)
      assert.ok(man.includes(`\n.B ${key}\n`), key)
      assert.ok(page.includes(`| \`${key}\` |`), key)
    }
  }
  for (const { type } of [...catalog.sources, ...catalog.destinations])
    assert.equal(found.filter(({ title }) => title.endsWith(`: type ${type}`)).length, 1, type)
})

test('a line of roff begins with no request that is none, whatever a text says', () => {
  const requests = /^\.(TH|SH|SS|B|BR|I|RI|TP|PP|nf|fi|br)\b/
  for (const text of [manual('0.0.0', '2026-01-01'), configManual('0.0.0', '2026-01-01')])
    for (const line of text.split('\n')) if (/^[.']/.test(line)) assert.match(line, requests)
})
