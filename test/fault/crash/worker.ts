/**
 * `TRACE SCRATCH SEED STATES FIRST STEP STOP`: one process of several. Walks the trace once, stops at its share of `STATES` moments
 * and examines what a crash there may leave; tells its parent what is wrong, and at the end how many states it saw.
 */

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { createChance } from '../../sim/random.ts'
import { examine } from './examine.ts'
import { learn, type Note, noFacts } from './life.ts'
import { advance, emptyDisk, fates, imageOf, models, readTrace } from './trace.ts'

export interface Found {
  readonly states: number
  readonly distinct: number
  readonly wrong: readonly {
    readonly state: number
    readonly step: number
    readonly text: string
  }[]
}

const [path = '', scratch = '', ...numbers] = process.argv.slice(2)
const [seed = 1, states = 1, first = 0, step = 1, stopAtRed = 0] = numbers.map(Number)
const orphaned = () => process.exit(1)
process.on('disconnect', orphaned)

const folder = mkdtempSync(join(scratch, 'image-'))
const place = (image: ReadonlyMap<string, Buffer>) => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { force: true })
  for (const [name, bytes] of image) writeFileSync(join(folder, name), bytes)
}
const digestOf = (image: ReadonlyMap<string, Buffer>, notes: number): string =>
  [...image].map(([name, bytes]) => `${name} ${bytes.length} ${crc32(bytes)}`).join() + notes

const run = async (): Promise<Found> => {
  const steps = readTrace(path)
  const disk = emptyDisk()
  const facts = noFacts()
  const seen = new Set<string>()
  const wrong: { state: number; step: number; text: string }[] = []
  let at = 0
  let notes = 0
  let done = 0
  for (let state = first; state < states; state += step) {
    const upTo = Math.floor(((state + 1) * steps.length) / states)
    for (; at < upTo; at++) {
      const one = steps[at]
      if (one === undefined) break
      if (one.name !== 'notes') advance(disk, one)
      else if (one.operation === 'write') {
        learn(facts, JSON.parse(one.bytes.toString()) as Note)
        notes++
      }
    }
    const chance = createChance(seed * 1_000_003 + state, 'crash')
    const image = imageOf(disk, models[state % 2] ?? 'posix', chance.pick(fates), chance)
    seen.add(digestOf(image, notes))
    place(image)
    const text = await examine(folder, seed, facts, chance)
    done++
    if (text !== '') wrong.push({ state, step: at, text })
    if (text !== '' && stopAtRed === 1) break
    if (done % 20 === 0) process.send?.({ done })
  }
  return { states: done, distinct: seen.size, wrong }
}
try {
  const found = await run()
  process.off('disconnect', orphaned)
  process.send?.(found)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.disconnect?.()
