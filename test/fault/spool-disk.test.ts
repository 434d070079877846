/**
 * The spool on disks that fail: real processes, real SQLite; faults from a full tmpfs and from a preloaded
 * library.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isRoot, killAll, type Running, start } from '../support/processes.ts'
import { createShim, noShim } from '../support/shim.ts'
import { forgetFolder, temporaryFolder } from '../support/temp.ts'

after(killAll)
const child = join(import.meta.dirname, 'spool-child.ts')
const node = process.execPath

const lastAck = (running: Running): number =>
  Math.max(0, ...[...running.output().matchAll(/acked (\d+) /g)].map((match) => Number(match[1])))
/** Resolves once `running` has acked something after now. */
const acksMore = async (running: Running, than = lastAck(running)): Promise<void> => {
  while (lastAck(running) <= than) {
    await Promise.race([
      new Promise((resolve) => setTimeout(resolve, 20)),
      running.ended.then((code) => {
        throw new Error(`ended with ${code}: ${running.output()}`)
      }),
    ])
  }
}
const readBack = (path: string, wrap: readonly string[] = []) => {
  const [command = node, ...args] = [...wrap, node, child, 'read', path]
  const out = execFileSync(command, args, { encoding: 'utf8', timeout: 60_000 })
  return JSON.parse(out.trim().split('\n').at(-1) ?? '') as {
    points: number
    lost: number
    distinct: number
    last: number
    accepted: number
  }
}
/** Nothing acked is missing, nothing is there twice. */
const assertHolds = (found: ReturnType<typeof readBack>, acked: number) => {
  assert.ok(acked > 0)
  assert.equal(found.distinct, found.points, 'a point twice')
  assert.equal(found.points + found.lost, found.accepted)
  assert.ok(found.points + found.lost >= acked, `${acked} acked, ${JSON.stringify(found)}`)
  assert.ok(found.last >= acked, 'an acked point is missing at the end')
}

const unshimmed = noShim()

const startShimmed = (folder: string, policy = 'block') => {
  const { env, order } = createShim('spool.db')
  const running = start(node, [child, 'write', join(folder, 'spool.db'), policy], { env })
  return { running, order }
}

/** Stops the process where it stands and reads its files from outside: a tmpfs goes with its process. */
const readStopped = async (running: Running, path: string, copy: string) => {
  mkdirSync(copy)
  const acked = lastAck(running)
  running.signal('SIGSTOP')
  const inside = ['-t', String(running.pid), '-m', '--', 'sh', '-c', `cp ${path}* ${copy}/`]
  execFileSync('nsenter', inside)
  await running.kill()
  return { acked, found: readBack(join(copy, 'spool.db')) }
}

test('a flush that fails ends the process with 74, and nothing acked is lost', {
  skip: unshimmed,
}, async () => {
  const folder = temporaryFolder('disk')
  const { running, order } = startShimmed(folder)
  await acksMore(running, 2_000)
  order('fsync-eio')
  assert.equal(await running.ended, 74)
  assert.match(running.output(), /fatal HF-S074/)
  assertHolds(readBack(join(folder, 'spool.db')), lastAck(running))
  forgetFolder(folder)
})

test('a slow flush holds acks back, not the thread that talks to the plant', {
  skip: unshimmed,
}, async () => {
  const folder = temporaryFolder('disk')
  const { running, order } = startShimmed(folder)
  await acksMore(running, 1_000)
  order('fsync-ms=300')
  const before = lastAck(running)
  await acksMore(running, before + 1_500)
  const slow = [...running.output().matchAll(/acked (\d+) beats (\d+)/g)].filter(
    (match) => Number(match[1]) > before + 500,
  )
  // 300 ms are fifteen beats of 20 ms; a blocked thread would have none.
  assert.ok(
    slow.some((match) => Number(match[2]) >= 5),
    running.output().slice(-400),
  )
  await running.kill()
  assertHolds(readBack(join(folder, 'spool.db')), lastAck(running))
  forgetFolder(folder)
})

test('writes refused for lack of space: nothing is acked, and it goes on by itself', {
  skip: unshimmed,
}, async () => {
  const folder = temporaryFolder('disk')
  const { running, order } = startShimmed(folder)
  await acksMore(running, 1_000)
  order('write-enospc')
  await running.says('blocked')
  const held = lastAck(running)
  order('')
  await acksMore(running, held + 1_000)
  await running.stop()
  assertHolds(readBack(join(folder, 'spool.db')), lastAck(running))
  forgetFolder(folder)
})

const noMount = isRoot && process.platform === 'linux' ? false : 'not root: no tmpfs can be mounted'
const startOnTmpfs = async (folder: string, policy: string) => {
  const mount = join(folder, 'mnt')
  mkdirSync(mount)
  const filler = join(mount, 'filler')
  const script = `mount -t tmpfs -o size=24m tmpfs ${mount} && dd if=/dev/zero of=${filler} bs=1M count=15 status=none && exec "$@"`
  const path = join(mount, 'spool.db')
  const command = [node, child, 'write', path, policy]
  const running = start(
    'unshare',
    ['-m', '--propagation', 'private', 'sh', '-c', script, 'sh', ...command],
    { env: { ...process.env, FILLER: filler, BATCH: '2000' } },
  )
  await running.says('ready')
  return { running, path }
}

test('a disk full under a lane that blocks: acks stop, and go on once there is room', {
  skip: noMount,
}, async () => {
  const folder = temporaryFolder('disk')
  const { running, path } = await startOnTmpfs(folder, 'block')
  await running.says('blocked')
  const held = lastAck(running)
  running.signal('SIGUSR2')
  await acksMore(running, held + 20_000)
  const { acked, found } = await readStopped(running, path, join(folder, 'copy'))
  assert.equal(found.lost, 0)
  assertHolds(found, acked)
  forgetFolder(folder)
})

test('a disk full under a lane that drops: acks go on, what was dropped is declared', {
  skip: noMount,
}, async () => {
  const folder = temporaryFolder('disk')
  const { running, path } = await startOnTmpfs(folder, 'drop_oldest')
  await acksMore(running, 1_000_000)
  const { acked, found } = await readStopped(running, path, join(folder, 'copy'))
  assert.ok(found.lost > 0, JSON.stringify(found))
  assertHolds(found, acked)
  forgetFolder(folder)
})

test('a disk mounted read-only: refused with its code, nothing changed', {
  skip: noMount,
}, async () => {
  const folder = temporaryFolder('disk')
  const path = join(folder, 'spool.db')
  const writer = start(node, [child, 'write', path])
  await acksMore(writer, 1_000)
  await writer.stop()
  const script = `mount --bind ${folder} ${folder} && mount -o remount,bind,ro ${folder} && exec "$@"`
  const reader = start('unshare', [
    ...['-m', '--propagation', 'private', 'sh', '-c', script, 'sh'],
    ...[node, child, 'read', path],
  ])
  assert.equal(await reader.ended, 1)
  assert.match(reader.output(), /failed HF-S004/)
  assertHolds(readBack(path), lastAck(writer))
  forgetFolder(folder)
})
