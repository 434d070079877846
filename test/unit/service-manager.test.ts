/** What systemd hears: nothing unasked, beats only from the living, and every message as one datagram of the process itself. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLog } from '../../src/host.ts'
import { openServiceManager } from '../../src/service-manager.ts'
import { start } from '../support/processes.ts'
import { temporaryFolder } from '../support/temp.ts'

const root = join(import.meta.dirname, '../..')

/** A socket whose other end keeps what it hears; virtual time that a test moves. */
const listen = async () => {
  const path = join(temporaryFolder('notify'), 'socket')
  const server = createServer().listen(path)
  await once(server, 'listening')
  const near = createConnection(path)
  const [far] = (await once(server, 'connection')) as [Socket]
  let heard = ''
  far.on('data', (data) => {
    heard += `${data.toString()}|`
  })
  const { fd } = (near as unknown as { _handle: { fd: number } })._handle
  const warned: string[] = []
  let nowMs = 5_000
  const sleeps: (() => void)[] = []
  return {
    environment: { HOLDFAST_NOTIFY_FD: String(fd), WATCHDOG_USEC: '4000000' },
    host: {
      log: { ...silentLog, warn: (event: string) => warned.push(event) },
      clock: {
        nowUs: () => nowMs * 1000,
        monotonicMs: () => nowMs,
        sleep: (ms: number) =>
          new Promise<void>((resolve) =>
            sleeps.push(() => {
              nowMs += ms
              resolve()
            }),
          ),
        after: () => () => {},
      },
    },
    warned,
    /** Lets everything happen up to the next sleep, and ends that. */
    pass: async () => {
      await new Promise((resolve) => setImmediate(resolve))
      for (const wake of sleeps.splice(0)) wake()
      await new Promise((resolve) => setImmediate(resolve))
    },
    nowMs: () => nowMs,
    heard: async () => {
      near.end()
      await once(far, 'close')
      server.close()
      return heard
    },
  }
}

test('states are told as systemd spells them; a status is one line, without secrets, and told once', async () => {
  const { environment, host, heard } = await listen()
  const hide = (text: string) => text.replaceAll('hunter2', '[hidden]')
  const manager = openServiceManager({ environment, host, hide })
  manager.ready()
  manager.status('degraded: north cannot be reached:\nhunter2\x1b[31m')
  manager.status('degraded: north cannot be reached:\nhunter2\x1b[31m')
  manager.reloading()
  manager.stopping()
  assert.equal(
    (await heard()).replaceAll('|', ''),
    'READY=1STATUS=degraded: north cannot be reached: [hidden] [31mRELOADING=1\nMONOTONIC_USEC=5000000STOPPING=1',
  )
})

test('a beat leaves only after an answer: who never answers is silent, who fails too', async () => {
  const { environment, host, heard, pass, nowMs } = await listen()
  const manager = openServiceManager({ environment, host, hide: String })
  const stop = new AbortController()
  let alive: () => Promise<void> = async () => {}
  const beating = manager.watch(() => alive(), stop.signal)
  for (let beat = 0; beat < 3; beat++) await pass()
  // Four beats in the time after which it would be killed.
  assert.equal(nowMs(), 5_000 + 3 * 1_000)
  await new Promise((resolve) => setImmediate(resolve))
  alive = () => Promise.reject(new Error('the spool is lost'))
  for (let beat = 0; beat < 3; beat++) await pass()
  const never = Promise.withResolvers<void>()
  alive = () => never.promise
  for (let beat = 0; beat < 3; beat++) await pass()
  stop.abort()
  never.reject(new Error('closed'))
  await pass()
  await pass()
  await beating
  assert.equal((await heard()).match(/WATCHDOG=1/g)?.length, 4)
})

test('nothing happens without a socket: not asked, not a socket, not a number', async () => {
  for (const HOLDFAST_NOTIFY_FD of [undefined, '', '0', '1', '9999', 'x', '-1']) {
    const { host, warned, heard } = await listen()
    const environment = { HOLDFAST_NOTIFY_FD, WATCHDOG_USEC: '1000' }
    const manager = openServiceManager({ environment, host, hide: String })
    manager.ready()
    await manager.watch(() => Promise.reject(new Error('asked')), new AbortController().signal)
    assert.deepEqual([await heard(), warned], ['', []])
  }
  const { host, warned, heard } = await listen()
  openServiceManager({ environment: { NOTIFY_SOCKET: '/run/x' }, host, hide: String })
  assert.deepEqual([await heard(), warned], ['', ['service_manager_not_told']])
})

/** Prints the sender's number and each datagram on a line. */
const listener = `use Socket; $| = 1;
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0); bind($s, pack_sockaddr_un($ARGV[0])) or die $!; print "bound\\n";
  while (defined recv($s, my $text, 9999, 0)) { $text =~ s/\\n/ /g; print "[$text]\\n" }`
const teller = `import { openServiceManager } from '${root}/src/service-manager.ts'
  import { silentLog, systemClock } from '${root}/src/host.ts'
  const manager = openServiceManager({ environment: process.env, host: { log: silentLog, clock: systemClock }, hide: String })
  manager.ready(); manager.status('pid ' + process.pid + ' ' + process.env.NOTIFY_SOCKET); manager.stopping()`

test('the launcher hands the socket over to the process it becomes, and to nobody else', async () => {
  const path = join(temporaryFolder('notify'), 's')
  const far = start('perl', ['-e', listener, path])
  await far.says('bound')
  const launch = join(root, 'platforms/linux/launch.pl')
  const near = start('perl', [launch, process.execPath, '--input-type=module', '-e', teller], {
    env: { NOTIFY_SOCKET: path },
  })
  assert.equal(await near.ended, 0, near.output())
  await far.says('[STOPPING=1]')
  // setpriv, which starts it, and the launcher become Node: one process all the way.
  assert.equal(far.output(), `bound\n[READY=1]\n[STATUS=pid ${near.pid} undefined]\n[STOPPING=1]\n`)
  await far.kill()
  // Without a service manager it only becomes the program.
  const plain = ['-e', 'console.log(process.env.HOLDFAST_NOTIFY_FD)']
  const env = { ...process.env, NOTIFY_SOCKET: '', HOLDFAST_NOTIFY_FD: '7' }
  const said = execFileSync('perl', [launch, process.execPath, ...plain], { encoding: 'utf8', env })
  assert.equal(said, 'undefined\n')
})
