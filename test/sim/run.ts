/**
 * `node test/sim/run.ts --seeds N --from S [--workers 2] [--mutant NAME|all] [--trace]`: many seeds on two processes,
 * then totals. Exit 1 when a seed fails, or when a total is zero that many seeds must have reached.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { runMany, runMutant } from './many.ts'
import { mutants } from './mutants/table.ts'
import { totalNames } from './plan.ts'
import { runSeed } from './world.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '2000' },
    from: { type: 'string', default: '1' },
    workers: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    mutant: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
})
const [seeds, from, workers] = [values.seeds, values.from, values.workers].map(Number) as [
  number,
  number,
  number,
]

const runMutants = async (name: string) => {
  const chosen = mutants.filter((one) => name === 'all' || one.name === name)
  if (chosen.length === 0) throw new Error(`no mutant "${name}"`)
  for (const mutant of chosen) {
    const { end, seed, text } = await runMutant(mutant, { seeds, workers })
    console.log(`${mutant.name}: ${end}, seed ${seed}: ${text.slice(0, 160)}`)
    if (end !== 'killed') process.exitCode = 1
  }
}

const runSeeds = async () => {
  const started = process.hrtime.bigint()
  let shown = 0
  const { done, red, totals, virtualMs } = await runMany({
    seeds,
    from,
    workers,
    onRed: ({ seed, reasons }) => {
      if (++shown <= 10) console.log(`seed ${seed}: ${reasons.join('\n  ')}`)
    },
  })
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  const zeros = totalNames.filter((name) => totals[name] === 0)
  console.log(
    `${done} seeds, ${(virtualMs / 3.6e6).toFixed(1)} hours in ${seconds.toFixed(1)} s ` +
      `(${(done / seconds).toFixed(1)} seeds/s), ${red.length} red, ` +
      `${(totals.segments / Math.max(1, done)).toFixed(0)} segments a seed`,
  )
  console.log(totalNames.map((name) => `${name} ${totals[name]}`).join(', '))
  if (zeros.length > 0) console.log(`zero: ${zeros.join(', ')}`)
  if (red.length > 0 || done < seeds || zeros.length > 0) process.exitCode = 1
}

if (values.mutant !== undefined) await runMutants(values.mutant)
else if (values.trace)
  for (let seed = from; seed < from + seeds; seed++)
    console.log(JSON.stringify(await runSeed(seed, (...line) => console.log(...line)), null, 1))
else await runSeeds()
