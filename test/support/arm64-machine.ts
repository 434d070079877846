/**
 * A whole arm64 machine for tests, whatever this one is: Debian's kernel and a real systemd on processors that qemu
 * emulates, so that kernel, system calls, control groups and programs are arm64's own. Its network is nothing but a
 * loopback, its disk a copy that is gone when it is. Needs root; nothing is installed, mounted or registered.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { channelProgram, listenForMachine, portName } from './arm64-channel.ts'
import { arm64Parts, hardware, qemu } from './arm64-root.ts'
import type { Inside } from './machine.ts'
import { start } from './processes.ts'
import { temporaryFolder } from './temp.ts'

export interface Arm64Machine extends Inside {
  /** What the kernel and systemd said on the console, the end of it. */
  readonly console: () => string
}

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`
const bootSeconds = 600
const tar = (...words: readonly string[]): Buffer =>
  execFileSync('tar', words, { maxBuffer: 256 << 20 })

/** Switches one on that finds the files of `drop` in /drop; resolves when it takes commands. */
const switchOn = async (drop: string) => {
  const parts = arm64Parts()
  const folder = temporaryFolder('arm')
  const place = (name: string) => join(folder, name)
  const disk = place('disk.img')
  execFileSync('cp', ['--sparse=always', parts.disk, disk])
  writeFileSync(place('channel'), channelProgram)
  // As blocks of a disk, which a tar file always is.
  tar('-c', '-f', place('drop.tar'), '-C', folder, 'channel', '-C', drop, '.')
  const log = place('console.log')
  const console = () => (existsSync(log) ? readFileSync(log, 'utf8').slice(-4_000) : '')
  // No console for people: nothing here makes the device that it waits for.
  const command = 'systemd.mask=serial-getty@ttyAMA0.service'
  const words = [
    ...hardware(parts, { disk, console: log, command }),
    ...['-drive', `if=none,id=drop,format=raw,readonly=on,file=${place('drop.tar')}`],
    ...['-device', 'virtio-blk-pci,drive=drop', '-device', 'virtio-serial-pci'],
    ...['-chardev', `socket,id=port,path=${place('port')}`],
    ...['-device', `virtserialport,chardev=port,name=${portName}`],
  ]
  const over = new AbortController()
  const listening = listenForMachine(place('port'), { gone: over.signal, why: console })
  const { path, env } = qemu()
  const running = start(path, words, { env })
  void running.ended.then(() => over.abort())
  const giveUp = setTimeout(() => over.abort(), bootSeconds * 1000)
  try {
    const ask = await listening
    await ask('systemctl is-system-running --wait')
    // It has them open: were this test killed, nothing large would stay.
    for (const large of [disk, place('drop.tar')]) rmSync(large)
    return { ask, running, console }
  } catch (error) {
    await running.kill()
    throw new Error(`no arm64 machine: ${error}\n${running.output()}${console()}`)
  } finally {
    clearTimeout(giveUp)
  }
}

/** Resolves once everything that starts with the machine has; it sees the files of `drop` in /drop. */
export const bootArm64 = async (drop: string): Promise<Arm64Machine> => {
  const { ask, running, console } = await switchOn(drop)
  /** What went wrong with something that nobody waits for: whoever asks next is told. */
  let unsaid: unknown
  const unwaited = (done: Promise<unknown>): void => {
    done.catch((error: unknown) => {
      unsaid ??= error
    })
  }
  const attempt: Inside['attempt'] = async (...command) => {
    const { code, output } = await ask(command.map(quoted).join(' '))
    return { code, text: output.toString('utf8') }
  }
  const good = async (script: string, input?: Buffer): Promise<Buffer> => {
    const { code, output } = await ask(script, input)
    if (unsaid !== undefined) throw unsaid
    if (code !== 0) throw new Error(`${script}: exit ${code}\n${output}`)
    return output
  }
  const sh = async (script: string) => (await good(script)).toString('utf8')
  return {
    console,
    attempt,
    sh,
    run: (...command) => sh(command.map(quoted).join(' ')),
    put: (file, content, mode = 0o644) => {
      const name = quoted(file)
      const script = `mkdir -p "$(dirname ${name})"; umask 77; cat >${name}; chmod ${mode.toString(8)} ${name}`
      unwaited(good(script, Buffer.from(content)))
    },
    copyIn: (from, to) =>
      unwaited(good(`mkdir -p ${quoted(to)}; tar -x -C ${quoted(to)}`, tar('-c', '-C', from, '.'))),
    copyOut: async (from, to) => {
      const input = await good(`tar -c -C ${quoted(from)} . 2>/dev/null`)
      execFileSync('tar', ['-x', '-C', to], { input })
    },
    powerOff: async () => {
      await attempt('systemctl', 'poweroff').catch(() => undefined)
      await Promise.race([running.ended, sleep(60_000, undefined, { ref: false })])
      await running.kill()
    },
  }
}
