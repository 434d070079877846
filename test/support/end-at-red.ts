/**
 * Loaded before the tests of a mutated copy: ends them, with exit code 99, once one has failed and another passed. What
 * fails is not made smaller first: nobody reads it.
 */
import { afterEach } from 'node:test'
import fc from 'fast-check'

fc.configureGlobal({ ...fc.readConfigureGlobal(), endOnFailure: true })

const seen = new Set<boolean>()
afterEach((test) => {
  if ('passed' in test) seen.add(test.passed)
  if (seen.size === 2) process.exit(99)
})
