/**
 * Child of `file-disk.test.ts`: `node file-child.ts FOLDER FILLER`. Sends until the disk is full, frees it, sends on; says
 * in one line of JSON what happened and what stands in the folder.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { readBlock } from '../../src/codec/points-file.ts'
import { fileDestination } from '../../src/destinations/file.ts'
import { createSystemHost } from '../../src/host.ts'
import type { LaneItem } from '../../src/model.ts'
import { createTestLog } from '../contract/destination-log.ts'

const [folder = '', filler = ''] = process.argv.slice(2)
const log = createTestLog('gw-7')
const settings = fileDestination.config.parse({
  ...{ type: 'file', output_dir: folder, compression: 'none' },
  ...{ file_max: '1MiB', disk_free_min: '1B' },
})
const deps = {
  ...{ host: createSystemHost(), name: 'carry', agent: 'gw-7' },
  ...{ spool: log.spool, farTime: () => {} },
}
const destination = fileDestination.create(deps, settings)
const { signal } = new AbortController()
const segment = (nth: number) =>
  log.add(
    Array.from({ length: 1_000 }, (_, at) => ({
      name: 'm.v',
      timeUs: nth * 1_000 + at,
      value: at / 3,
    })),
  )
const stored: LaneItem[] = []
let blocked: unknown
let waiting: LaneItem | undefined
for (let nth = 0; nth < 1_000 && waiting === undefined; nth++) {
  const item = segment(nth)
  const outcome = await destination.send(log.batch([item]), signal)
  if (outcome.kind === 'stored') stored.push(item)
  else {
    blocked = outcome
    waiting = item
  }
}
const still = await destination.send(log.batch([waiting as LaneItem]), signal)
rmSync(filler)
const after = await destination.send(log.batch([waiting as LaneItem]), signal)
const more = await destination.send(log.batch([...stored.slice(-2), segment(1_000)]), signal)
await destination[Symbol.asyncDispose]()

const lines: string[] = []
for (const name of readdirSync(folder)) {
  if (name.endsWith('.index.ndjson')) continue
  const bytes = readFileSync(join(folder, name))
  for (let at = 0; at < bytes.length; ) {
    const read = readBlock(bytes, at)
    if (read === undefined) throw new Error(`${name} is torn at ${at}`)
    lines.push(...Buffer.from(read.block.body).toString('utf8').split('\n').slice(0, -1))
    at = read.end
  }
}
const open = readdirSync(folder).filter((name) => /\.(part|tmp)$/.test(name))
const result = { blocked, still, after, more, open, sent: (stored.length + 2) * 1_000 }
process.stdout.write(
  `${JSON.stringify({ ...result, lines: lines.length, distinct: new Set(lines).size })}\n`,
)
