/**
 * `npm run bench -- SUITE… [--json]`: measures, prints a table, and with --json one flat JSON object as the last line.
 * Each suite measures its baseline in the same run; figures are points per CPU-second, bytes and ratios wherever possible.
 */
import { existsSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'

export type Figures = Readonly<Record<string, number | string>>

const files: Readonly<Record<string, readonly string[]>> = {
  codec: ['codec'],
  intake: ['intake', 'intake-http'],
  spool: ['spool'],
  store: ['store'],
  pipeline: ['pipeline'],
  drain: ['drain'],
  destinations: ['destinations-postgres', 'destinations-influx'],
  startup: ['startup'],
  idle: ['idle'],
  package: ['package'],
  reduce: ['reduce', 'reduce-wear'],
  'reduce-table': ['reduce-table'],
}
const names = process.argv.slice(2).filter((one) => !one.startsWith('--'))
const json = process.argv.includes('--json')
const unknown = names.filter((name) => !(name in files))
if (names.length === 0 || unknown.length > 0) {
  process.stderr.write(
    `usage: npm run bench -- SUITE… [--json]; suites: ${Object.keys(files).join(' ')}\n`,
  )
  process.exit(2)
}

let figures: Figures = {}
process.stderr.write(
  `node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}\n`,
)
for (const name of names) {
  for (const file of files[name] ?? []) {
    const path = join(import.meta.dirname, `${file}.ts`)
    if (!existsSync(path)) {
      process.stderr.write(`there is no bench ${file} yet\n`)
      process.exit(1)
    }
    process.stderr.write(`bench ${file} …\n`)
    const { bench } = (await import(path)) as { bench: () => Promise<Figures> }
    figures = { ...figures, ...(await bench()) }
  }
}
const width = Math.max(...Object.keys(figures).map((key) => key.length))
for (const [key, value] of Object.entries(figures)) {
  process.stdout.write(
    `${key.padEnd(width)}  ${typeof value === 'number' ? Number(value.toPrecision(4)) : value}\n`,
  )
}
if (json) process.stdout.write(`${JSON.stringify(figures)}\n`)
