/**
 * `node test/sim/run.ts --seeds N --from S [--mutant NAME] [--trace] [--json]`: many seeds on two processes, then totals.
 * Exit 1 when a seed fails, or when a total is zero that many seeds must have reached.
 */
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { noTotals, type Totals, totalNames } from './plan.ts'
import { runSeed, type SeedResult } from './world.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    mutant: { type: 'string' },
    workers: { type: 'string', default: '2' },
    trace: { type: 'boolean', default: false },
    worker: { type: 'boolean', default: false },
    step: { type: 'string', default: '1' },
    'stop-at-red': { type: 'boolean', default: false },
  },
})
const [seeds, from, workers, step] = [values.seeds, values.from, values.workers, values.step].map(
  Number,
) as [number, number, number, number]

const asBug = (seed: number, error: unknown): SeedResult => ({
  seed,
  ok: false,
  reasons: [`bug: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`],
  verdict: null,
  digest: '',
  totals: noTotals(),
  virtualMs: 0,
})

const work = async () => {
  let stray: unknown
  process.on('unhandledRejection', (error) => {
    stray = error
  })
  for (let seed = from; seed < from + seeds; seed += step) {
    stray = undefined
    let result: SeedResult
    try {
      result = await runSeed(seed, values.trace ? (...line) => console.log(...line) : undefined)
      if (stray !== undefined) result = asBug(seed, stray)
    } catch (error) {
      result = asBug(seed, error)
    }
    if (values.worker) process.send?.(result)
    else console.log(JSON.stringify(result, null, 1))
  }
  process.disconnect?.()
}

const lead = async () => {
  const started = process.hrtime.bigint()
  const totals: Totals = noTotals()
  const red: SeedResult[] = []
  let done = 0
  let virtualMs = 0
  await Promise.all(
    Array.from({ length: workers }, (_, at) => {
      const mine = String(Math.ceil(seeds - at))
      const args = [
        '--worker',
        '--seeds',
        mine,
        '--from',
        String(from + at),
        '--step',
        String(workers),
      ]
      const child = fork(import.meta.filename, args)
      child.on('message', (message) => {
        const result = message as SeedResult
        done++
        virtualMs += result.virtualMs
        for (const name of totalNames) totals[name] += result.totals[name]
        if (result.ok) return
        red.push(result)
        if (red.length <= 10) console.log(`seed ${result.seed}: ${result.reasons.join('\n  ')}`)
        if (values['stop-at-red']) child.kill()
      })
      return new Promise((resolve) => child.on('exit', resolve))
    }),
  )
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  const zeros = totalNames.filter((name) => totals[name] === 0)
  const rate = (done / seconds).toFixed(1)
  console.log(
    `${done} seeds, ${(virtualMs / 3.6e6).toFixed(1)} hours in ${seconds.toFixed(1)} s (${rate} seeds/s), ` +
      `${red.length} red, ${(totals.segments / Math.max(1, done)).toFixed(0)} segments a seed`,
  )
  console.log(totalNames.map((name) => `${name} ${totals[name]}`).join(', '))
  if (zeros.length > 0) console.log(`zero: ${zeros.join(', ')}`)
  process.exitCode = red.length > 0 || done < seeds || zeros.length > 0 ? 1 : 0
}

if (values.worker || values.trace) await work()
else await lead()
