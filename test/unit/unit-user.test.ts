/** Closing a file to others must leave it to the user that the unit runs as. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { closingOf, isOpen, unitGroupOf } from '../../src/unit-user.ts'
import { temporaryFolder } from '../support/temp.ts'

const path = '/etc/holdfast/holdfast.yaml'
const group = 991

test('the group of the unit is found by its name alone', () => {
  const file = join(temporaryFolder('groups'), 'group')
  writeFileSync(file, `root:x:0:\nholdfast-old:x:7:\nmyholdfast:x:8:\nholdfast:x:${group}:anna\n`)
  assert.equal(unitGroupOf(file), group)
  writeFileSync(file, 'root:x:0:\nholdfast-old:x:7:\n')
  assert.equal(unitGroupOf(file), undefined)
  assert.equal(unitGroupOf('/nonexistent'), undefined)
})

test("root's file stays readable to the unit; a person's own is closed whole", () => {
  const rootFile = { uid: 0, gid: 0 }
  assert.equal(
    closingOf(path, rootFile, group),
    `chgrp holdfast ${path}; chmod 640 ${path}`,
    'the reason for this room: chmod 600 would end the agent at its next start',
  )
  assert.equal(closingOf(path, { uid: 0, gid: group }, group), `chmod 640 ${path}`)
  assert.equal(closingOf(path, rootFile, undefined), `chmod 600 ${path}`)
  assert.equal(closingOf(path, { uid: 1000, gid: 1000 }, group), `chmod 600 ${path}`)
})

test('what the command leaves is no longer open', () => {
  assert.equal(isOpen({ mode: 0o100640, gid: group }, group), false)
  assert.equal(isOpen({ mode: 0o100600, gid: 0 }, undefined), false)
  for (const [mode, gid] of [
    [0o100640, 0],
    [0o100644, group],
    [0o100604, 0],
  ] as const)
    assert.equal(isOpen({ mode, gid }, group), true, mode.toString(8))
})
