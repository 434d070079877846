import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { maintainerFrom } from '../../build/package-documents.ts'
import { root } from '../../build/package-parts.ts'

test('the maintainer of a package is the author in package.json, or who builds it for others', () => {
  const { author } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  // Reaches nobody by accident: RFC 2606.
  assert.match(author, /^[\w ]+ <[a-z]+@example\.org>$/)
  assert.equal(maintainerFrom({}), author)
  const named = { DEBFULLNAME: 'A Plant', DEBEMAIL: 'packages@plant.test' }
  assert.equal(maintainerFrom(named), 'A Plant <packages@plant.test>')
})
