/** Every link from page to page leads somewhere, to the heading it names. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../..')
const pages = globSync(['*.md', 'docs/**/*.md'], { cwd: root }).sort()
const textOf = (page: string): string =>
  readFileSync(join(root, page), 'utf8').replace(/^```[\s\S]*?^```/gm, '')
/** As GitHub names headings. */
const anchorsIn = (text: string): ReadonlySet<string> =>
  new Set(
    [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
const deadIn = (page: string, text: string): readonly string[] =>
  [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^[a-z]+:/.test(link))
    .filter((link) => {
      const [path = '', anchor] = link.split('#')
      const to = path === '' ? page : join(dirname(page), path)
      if (path !== '' && !existsSync(join(root, to))) return true
      if (anchor === undefined) return false
      return !anchorsIn(path === '' ? text : textOf(to)).has(anchor)
    })
    .map((link) => `${page}: ${link}`)

test('every link from page to page leads somewhere', () => {
  assert.ok(pages.length > 20)
  assert.deepEqual(
    pages.flatMap((page) => deadIn(page, textOf(page))),
    [],
  )
})

test('a page that is not there and a heading that is none are found', () => {
  const text = '# A page\n[a](nowhere.md) [b](README.md#no-such-heading) [c](#a-page) [d](#b-page)'
  assert.deepEqual(deadIn('x.md', text), [
    'x.md: nowhere.md',
    'x.md: README.md#no-such-heading',
    'x.md: #b-page',
  ])
})
