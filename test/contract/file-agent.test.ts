/** Over an air gap: an agent that writes files, SIGKILLs and a folder that goes away; another agent that imports them. */
import assert from 'node:assert/strict'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createHttpPublisher } from '../support/publisher.ts'
import { cli, createSite } from '../support/site.ts'

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** Of the writing agent; in every fourth one its folder is away. */
const kills = 20

test(`${kills} × SIGKILL and a folder that goes away, then files over the gap, imported twice: the equation holds`, async () => {
  const folder = join((await createSite()).folder, 'carry')
  mkdirSync(folder)
  const plant = await createSite({
    lanes: { raw: { max_delay: '50ms' } },
    destination: {
      ...{ name: 'carry', type: 'file', url: undefined, tls: undefined },
      ...{ output_dir: folder, file_max: '64KiB', disk_free_min: '1MiB' },
    },
  })
  let writer = await plant.startAgent()
  const publisher = createHttpPublisher(() => plant.door)
  const stop = new AbortController()
  const flood = publisher.flood(40, stop.signal)
  try {
    for (let kill = 0; kill < kills; kill++) {
      await publisher.ackedMore(80)
      await pause(200 + Math.random() * 300)
      const away = kill % 4 === 1
      if (away) renameSync(folder, `${folder}-away`)
      if (away) await pause(300)
      await writer.kill()
      if (away) renameSync(`${folder}-away`, folder)
      writer = await plant.startAgent()
    }
  } finally {
    stop.abort()
    await flood
  }
  await publisher.send(10)
  const { destinations } = await plant.drained(45)
  assert.equal(destinations[0]?.state, 'up')
  await writer.stop()
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith('.part')),
    [],
  )

  const files = readdirSync(folder).filter((name) => !name.includes('.index.'))
  assert.ok(files.length > kills / 2, `only ${files.length} files`)
  const gap = join(plant.folder, 'stick')
  mkdirSync(gap)
  for (const name of readdirSync(folder)) copyFileSync(join(folder, name), join(gap, name))
  const region = await createSite({ agent: 'gw-2' })
  let regional = await region.startRegional()
  let reader = await region.startAgent()
  const take = (...args: string[]) =>
    cli(['import', gap, '--json', '--socket', region.socket, ...args])
  // Broken off by the agent's death, and begun again.
  const [first = ''] = files
  assert.equal(cli(['import', join(gap, first), '--socket', region.socket]).code, 0)
  await reader.kill()
  const dead = take()
  assert.equal(dead.code, 5, dead.err)
  reader = await region.startAgent()
  const taken = take()
  assert.equal(taken.code, 0, taken.err)
  const again = take()
  assert.equal(again.code, 0, again.err)
  const sums = JSON.parse(again.out) as { points: number; known: number }
  assert.equal(sums.points, 0)
  assert.ok(sums.known >= publisher.acked(), `${sums.known} of ${publisher.acked()}`)
  assert.ok(publisher.acked() > kills * 40, `only ${publisher.acked()} points were accepted`)
  await region.drained(45)
  await reader.stop()
  await regional.stop()
  const verdict = await region.verdict(publisher.journal())
  assert.ok(verdict.ok, JSON.stringify(verdict).slice(0, 2_000))

  // Negative controls: a file that is missing is missed, one that was touched is refused.
  const without = await createSite({ agent: 'gw-3' })
  regional = await without.startRegional()
  reader = await without.startAgent()
  renameSync(join(gap, first), join(plant.folder, first))
  assert.equal(cli(['import', gap, '--socket', without.socket]).code, 0)
  const touched = readFileSync(join(plant.folder, first))
  touched[touched.length >> 1] = (touched[touched.length >> 1] as number) ^ 1
  writeFileSync(join(gap, first), touched)
  const refused = cli(['import', gap, '--socket', without.socket])
  assert.match(refused.err, /HF-X022/)
  assert.equal(refused.code, 1)
  // Nobody checks its digest: what unpacks no more is no bug of ours.
  const cut = join(plant.folder, 'cut.ndjson.zst')
  for (const bytes of [touched.subarray(0, touched.length >> 1), Buffer.from('no zstd at all')]) {
    writeFileSync(cut, bytes)
    const { code, err } = cli(['import', cut, '--without-index', '--socket', without.socket])
    assert.equal(code, 1)
    assert.match(err, /HF-K020 \S+cut\.ndjson\.zst cannot be unpacked: .*\n {2}= Copy it again/)
  }
  await without.drained(45)
  await reader.stop()
  await regional.stop()
  assert.equal((await without.verdict(publisher.journal())).ok, false)
})
