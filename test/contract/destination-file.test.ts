/** The destination contract over a folder of files: a crash of the writer instead of a lost answer. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { type Block, encodeBlock, readBlock } from '../../src/codec/points-file.ts'
import { fileDestination } from '../../src/destinations/file.ts'
import { type IndexLine, readIndex } from '../../src/destinations/file-index.ts'
import { createSystemHost } from '../../src/host.ts'
import type { Destination, SendBatch } from '../../src/model.ts'
import { temporaryFolder } from '../support/temp.ts'
import { type DestinationRig, runDestinationContract } from './destination.ts'
import { createTestLog, type TestLog } from './destination-log.ts'

const signal = new AbortController().signal
const stored = { kind: 'stored', rejected: [] }

const unpacked = (path: string): Uint8Array => {
  const bytes = readFileSync(path)
  if (path.endsWith('.zst')) return zstdDecompressSync(bytes)
  return path.endsWith('.gz') ? gunzipSync(bytes) : bytes
}
/** Every block of the finished files and of the open one. */
const blocksIn = (folder: string): Block[] =>
  readdirSync(folder)
    .filter((name) => !name.endsWith('.index.ndjson'))
    .sort()
    .flatMap((name) => {
      const bytes = unpacked(join(folder, name))
      const blocks: Block[] = []
      for (let at = 0; at < bytes.length; ) {
        const read = readBlock(bytes, at)
        assert.ok(read !== undefined, `${name} is torn at ${at}`)
        blocks.push(read.block)
        at = read.end
      }
      return blocks
    })
const linesIn = (folder: string): string[] =>
  blocksIn(folder).flatMap(({ body }) =>
    Buffer.from(body).toString('utf8').split('\n').slice(0, -1),
  )
const indexOf = async (folder: string): Promise<readonly IndexLine[]> =>
  (await readIndex(join(folder, 'gw-7-carry.index.ndjson'))).lines

interface FileRig extends DestinationRig {
  readonly folder: string
  /** The writer is gone without a word; another one begins in the same folder. */
  readonly crash: () => void
}
const noAnswers = () => assert.fail('a folder answers nothing')
const makeFileRig = (config: object = {}, log: TestLog = createTestLog('gw-7')) => {
  const folder = temporaryFolder('carry')
  const settings = fileDestination.config.parse({
    type: 'file',
    output_dir: folder,
    disk_free_min: '1KiB',
    ...config,
  })
  const host = createSystemHost()
  /** A write that hangs in its middle, on the series it writes of, until the send was answered. */
  let hanging: (PromiseWithResolvers<void> & { readonly arrives: () => void }) | undefined
  const dictionary: TestLog['spool']['dictionary'] = async (...given) => {
    const mine = hanging
    hanging = undefined
    mine?.arrives()
    await mine?.promise
    return log.spool.dictionary(...given)
  }
  const spool = { ...log.spool, dictionary }
  const deps = { host, name: 'carry', agent: 'gw-7', spool, farTime: () => {} }
  let inner = fileDestination.create(deps, settings)
  const lost: Destination[] = []
  let loseNext = false
  const crash = () => {
    lost.push(inner)
    inner = fileDestination.create(deps, settings)
  }
  const rig: FileRig = {
    folder,
    crash,
    unholdable: Number.NaN,
    log,
    destination: {
      name: 'carry',
      type: 'file',
      bodyBytesMax: inner.bodyBytesMax,
      ...(inner.inOrder === undefined ? {} : { inOrder: inner.inOrder }),
      standing: (...given) => inner.standing(...given),
      send: async (batch: SendBatch, stop: AbortSignal) => {
        const mine = hanging
        const outcome = await inner.send(batch, stop)
        assert.ok(mine === undefined || hanging === undefined, 'it was given up before any work')
        mine?.resolve()
        if (!loseNext) return outcome
        loseNext = false
        crash()
        return { kind: 'later', text: 'the process died' }
      },
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    },
    arrived: async () => new Set(linesIn(folder)).size,
    answerNext: noAnswers,
    loseNextAnswer: () => {
      loseNext = true
    },
    holdNext: (arrives) => {
      hanging = { arrives, ...Promise.withResolvers<void>() }
    },
    remember: async () => noAnswers(),
    forget: async () => noAnswers(),
    [Symbol.asyncDispose]: async () => {
      await inner[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
      for (const one of lost) await one[Symbol.asyncDispose]()
    },
  }
  return rig
}
runDestinationContract('file, NDJSON', async () => makeFileRig(), ['lost-answer'])
runDestinationContract('file, line protocol', async () => makeFileRig({ format: 'lines' }), [
  'lost-answer',
  'bad-point',
])

const points = (from: number, count = 5) =>
  Array.from({ length: count }, (_, at) => ({ name: 'm.v', timeUs: from + at, value: at / 3 }))

test('file: a restart finishes what was open; the index says what is in it, and its digest is right', async () => {
  for (const compression of ['none', 'gzip', 'zstd']) {
    await using rig = makeFileRig({ compression })
    const { destination, log, folder } = rig
    const items = [log.add(points(100)), log.addGap({ count: 3 }), log.add(points(50))]
    assert.deepEqual(await destination.send(log.batch(items), signal), stored)
    assert.deepEqual(await indexOf(folder), [])
    rig.crash()
    assert.deepEqual(await destination.send(log.batch(items), signal), stored)
    const [line, ...others] = await indexOf(folder)
    assert.ok(line !== undefined && others.length === 0)
    const bytes = readFileSync(join(folder, line.file))
    assert.equal(createHash('sha256').update(bytes).digest('hex'), line.sha256)
    assert.equal(bytes.length, line.bytes)
    assert.deepEqual(
      [line.points, line.gaps, line.left_out, line.time_us_min, line.time_us_max],
      [10, 1, 0, 50, 104],
    )
    const { epoch } = log.spool
    const range = { lane: 'raw', lane_id: 3, epoch, seq_first: 1, seq_last: 3 }
    assert.deepEqual(line.ranges, [range])
    // Sent again after the crash, and not written again.
    assert.equal(linesIn(folder).length, 10)
    assert.deepEqual(
      blocksIn(folder).map(({ header }) => header.seq),
      [1, 2, 3],
    )
  }
})

test('file: a torn end is cut off, at every length of it, and sent again', async () => {
  const log = createTestLog('gw-7')
  const [one, two] = [log.add(points(0)), log.add(points(100))]
  await using whole = makeFileRig({}, log)
  assert.deepEqual(await whole.destination.send(log.batch([one]), signal), stored)
  const [part = ''] = readdirSync(whole.folder)
  const firstBytes = readFileSync(join(whole.folder, part)).length
  assert.deepEqual(await whole.destination.send(log.batch([two]), signal), stored)
  const bytes = readFileSync(join(whole.folder, part))
  for (let length = firstBytes; length < bytes.length; length += 37) {
    await using rig = makeFileRig({}, log)
    writeFileSync(join(rig.folder, part), bytes.subarray(0, length))
    // A page that never reached the disk reads as zeros.
    appendFileSync(join(rig.folder, part), Buffer.alloc(length % 3 === 0 ? 64 : 0))
    assert.deepEqual(await rig.destination.send(log.batch([one, two]), signal), stored)
    const lines = linesIn(rig.folder)
    assert.equal(lines.length, 10, `cut at ${length}`)
    assert.equal(new Set(lines).size, 10)
    assert.equal((await indexOf(rig.folder))[0]?.points, 5)
  }
})

test('file: a segment of several blocks, torn between two of them, is cut off whole', async () => {
  const log = createTestLog('gw-7')
  const [one, two] = [log.add(points(0)), log.add(points(100, 12_000))]
  await using whole = makeFileRig({}, log)
  assert.deepEqual(await whole.destination.send(log.batch([one, two]), signal), stored)
  const [part = ''] = readdirSync(whole.folder)
  const bytes = readFileSync(join(whole.folder, part))
  const blocks = blocksIn(whole.folder)
  assert.ok(blocks.length > 3, `${blocks.length} blocks`)
  assert.deepEqual(
    blocks.map(({ header }) => [header.seq, header.last]),
    blocks.map((_, at) => [at === 0 ? 1 : 2, at === 0 || at === blocks.length - 1]),
  )
  await using rig = makeFileRig({}, log)
  const ends = blocks.slice(0, 2).reduce((sum, block) => sum + encodeBlock(block).length, 0)
  writeFileSync(join(rig.folder, part), bytes.subarray(0, ends))
  assert.deepEqual(await rig.destination.send(log.batch([one, two]), signal), stored)
  const lines = linesIn(rig.folder)
  assert.deepEqual([lines.length, new Set(lines).size], [12_005, 12_005])
})

test('file: a crash at each step of finishing a file leaves it once, whole', async () => {
  await using rig = makeFileRig({ compression: 'gzip' })
  const { destination, log, folder } = rig
  const item = log.add(points(0))
  assert.deepEqual(await destination.send(log.batch([item]), signal), stored)
  const [part = ''] = readdirSync(folder)
  const open = readFileSync(join(folder, part))
  rig.crash()
  assert.deepEqual(await destination.send(log.batch([item]), signal), stored)
  const [line] = await indexOf(folder)
  assert.ok(line !== undefined)
  const index = join(folder, 'gw-7-carry.index.ndjson')
  const again = async (what: string) => {
    rig.crash()
    assert.deepEqual(await destination.send(log.batch([item]), signal), stored)
    assert.deepEqual(await indexOf(folder), [line], what)
    assert.deepEqual(
      readdirSync(folder).sort(),
      [line.file, 'gw-7-carry.index.ndjson'].sort(),
      what,
    )
  }
  writeFileSync(join(folder, part), open)
  await again('in the index, its part not yet removed')
  writeFileSync(join(folder, part), open)
  rmSync(index)
  await again('renamed, not yet in the index')
  writeFileSync(join(folder, part), open)
  writeFileSync(index, readFileSync(index).subarray(0, 40))
  await again('torn line of the index')
  writeFileSync(join(folder, part), open)
  rmSync(index)
  renameSync(join(folder, line.file), join(folder, `.${line.file}.tmp`))
  await again('not yet renamed')
})

test('file: finished at its size; the next one has the next number', async () => {
  await using rig = makeFileRig({ file_max: '64KiB', compression: 'none' })
  const { destination, log, folder } = rig
  assert.equal(destination.inOrder, true)
  for (let at = 0; at < 4; at++) {
    const batch = log.batch([log.add(points(at * 10_000, 1_000))])
    assert.deepEqual(await destination.send(batch, signal), stored)
  }
  const lines = await indexOf(folder)
  assert.deepEqual(
    lines.map(({ number, points: held }) => [number, held]),
    [1, 2, 3, 4].map((number) => [number, 1_000]),
  )
  assert.equal(readdirSync(folder).filter((name) => name.endsWith('.part')).length, 0)
})

test('file: a stopped agent leaves finished files alone', async () => {
  const rig = makeFileRig()
  const { log, folder } = rig
  assert.deepEqual(await rig.destination.send(log.batch([log.add(points(0))]), signal), stored)
  await rig.destination[Symbol.asyncDispose]()
  assert.equal((await indexOf(folder))[0]?.points, 5)
  assert.ok(!readdirSync(folder).some((name) => name.endsWith('.part')))
  await rig[Symbol.asyncDispose]()
})

test('file: what line protocol cannot say is counted in the header, the rest is there', async () => {
  await using rig = makeFileRig({ format: 'lines' })
  const { destination, log, folder } = rig
  const values = [1.5, Number.NaN, 'text with\nholdfast', 9_007_199_254_740_993n, true, -0]
  const item = log.add(values.map((value, at) => ({ name: 'm.v', timeUs: at, value })))
  const refused = [{ why: 'value', text: 'line protocol cannot say this value', at: [1] }]
  const where = { seq: 1, source: 'm.v', timeUsMin: 1, timeUsMax: 1 }
  const lost = [{ ...where, reason: 'rejected', count: 1, refused }]
  assert.deepEqual(await destination.send(log.batch([item]), signal), { ...stored, lost })
  // Already written, and lost in this ack as in the one before.
  assert.deepEqual(await destination.send(log.batch([item]), signal), { ...stored, lost })
  const [block, ...others] = blocksIn(folder)
  assert.deepEqual(others, [])
  assert.deepEqual([block?.header.points, block?.header.leftOut], [5, 1])
  assert.equal(
    Buffer.from(block?.body ?? []).toString('utf8'),
    'm,plant=north v=1.5 0\nm,plant=north v="text with\nholdfast" 2\nm,plant=north v=9007199254740993i 3\n' +
      'm,plant=north v=t 4\nm,plant=north v=-0 5\n',
  )
})

test('file: no folder, no room, a damaged index: a pause with a remedy, and on by itself', async () => {
  await using rig = makeFileRig()
  const { destination, log, folder } = rig
  const batch = log.batch([log.add(points(0))])
  renameSync(folder, `${folder}-away`)
  const missing = await destination.send(batch, signal)
  assert.ok(missing.kind === 'blocked' && missing.code === 'HF-F150', JSON.stringify(missing))
  assert.ok(!existsSync(folder), 'an unmounted medium is not replaced by a folder')
  renameSync(`${folder}-away`, folder)
  const index = join(folder, 'gw-7-carry.index.ndjson')
  writeFileSync(index, 'nonsense\n{}\n')
  const damaged = await destination.send(batch, signal)
  assert.ok(damaged.kind === 'blocked' && damaged.code === 'HF-F154', JSON.stringify(damaged))
  assert.match(damaged.hint, /all that is in the folder aside, the folder stays/)
  const aside = temporaryFolder('aside')
  for (const name of readdirSync(folder)) renameSync(join(folder, name), join(aside, name))
  assert.deepEqual(await destination.send(batch, signal), stored)
  // Taken away while it was open: the next one begins anew.
  mkdirSync(`${folder}-away`)
  for (const name of readdirSync(folder))
    renameSync(join(folder, name), join(`${folder}-away`, name))
  const next = log.batch([log.add(points(100))])
  assert.equal((await destination.send(next, signal)).kind, 'blocked')
  assert.deepEqual(await destination.send(next, signal), stored)
  assert.equal(linesIn(folder).length, 5)
  assert.equal(linesIn(`${folder}-away`).length, 5)
  rmSync(`${folder}-away`, { recursive: true })
  await using full = makeFileRig({ disk_free_min: '900TB' })
  const said = await full.destination.send(full.log.batch([full.log.add(points(0))]), signal)
  assert.ok(said.kind === 'blocked' && said.code === 'HF-F151', JSON.stringify(said))
})

test('file: another destination here whose name begins like this one’s keeps its open file', async () => {
  await using rig = makeFileRig({ compression: 'none' })
  const { folder } = rig
  const log = createTestLog('gw-7')
  const given = { type: 'file', output_dir: folder, disk_free_min: '1KiB', format: 'lines' }
  const host = createSystemHost()
  const deps = { host, name: 'carry-raw', agent: 'gw-7', spool: log.spool, farTime: () => {} }
  await using other = fileDestination.create(deps, fileDestination.config.parse(given))
  assert.deepEqual(await other.send(log.batch([log.add(points(0))]), signal), stored)
  const temporary = '.gw-7-carry-raw-none-000001.lp.zst.tmp'
  writeFileSync(join(folder, temporary), '')
  const mine = rig.log.batch([rig.log.add(points(0))])
  assert.deepEqual(await rig.destination.send(mine, signal), stored)
  const both = ['gw-7-carry-000001.part', 'gw-7-carry-raw-000001.part']
  assert.deepEqual(readdirSync(folder).sort(), [temporary, ...both])
})
