/** `BASE SCRATCH SEED FLIPS FIRST STEP`: one process of several; tells its parent how its share of the flips ended. */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Flip, flipOne, prepareBases } from './flips.ts'

export interface FlipsFound {
  readonly ends: Readonly<Record<Flip['kind'], number>>
  readonly wrong: readonly (Flip & { readonly flip: number })[]
}
const [life = '', scratch = '', ...numbers] = process.argv.slice(2)
const [seed = 1, flips = 1, first = 0, step = 1] = numbers.map(Number)
const orphaned = () => process.exit(1)
process.on('disconnect', orphaned)

const own = mkdtempSync(join(scratch, 'flips-'))
const folder = mkdtempSync(join(scratch, 'flip-'))
const ends = { whole: 0, declared: 0, refused: 0 }
const wrong: (Flip & { flip: number })[] = []
try {
  const bases = prepareBases(life, seed, own)
  for (let flip = first; flip < flips; flip += step) {
    const base = bases[Math.floor(flip / step) % bases.length]
    if (base === undefined) break
    const found = flipOne(base, flip, folder)
    ends[found.kind]++
    if (found.text !== '') wrong.push({ ...found, flip })
    if (flip % 20 === first % 20) process.send?.({ flip })
  }
  process.off('disconnect', orphaned)
  process.send?.({ ends, wrong })
} finally {
  for (const one of [own, folder]) rmSync(one, { recursive: true, force: true })
}
process.disconnect?.()
