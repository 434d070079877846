/** `holdfast destination test` as a person runs it, and what it says. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { cli } from '../support/site.ts'
import { temporaryFolder } from '../support/temp.ts'

export interface Step {
  readonly step: string
  readonly good: boolean
  readonly ms: number
  readonly text: string
  readonly code: string
  readonly hint: string
  readonly host?: string
  readonly bearable?: boolean
}
export interface Tried {
  readonly code: number
  readonly steps: readonly Step[]
  readonly nothingWritten?: string
  readonly warnings: readonly string[]
}
export const configOf = (destinations: readonly object[], more: object = {}) => {
  const folder = temporaryFolder('verbs')
  const path = join(folder, 'holdfast.yaml')
  writeFileSync(
    path,
    stringify({ agent: { name: 'gw-7', state_dir: folder }, ...more, destinations }),
  )
  return path
}
export const tried = (config: string, name: string, ...flags: string[]): Tried => {
  const { code, out, err } = cli(['destination', 'test', name, '--json', '-c', config, ...flags])
  assert.notEqual(out, '', err)
  const said = JSON.parse(out) as Omit<Tried, 'code'> & { ok: boolean }
  const { steps, ok } = said
  assert.equal(code, ok ? 0 : 1)
  for (const one of steps) {
    assert.ok(one.ms >= 0)
    assert.equal(one.good, one.hint === '', JSON.stringify(one))
  }
  return { ...said, code }
}
export const shape = (steps: readonly Step[]) =>
  steps.map(({ step, good }) => `${step} ${good ? 'ok' : 'BAD'}`)
