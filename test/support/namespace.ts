/**
 * A private mount namespace for processes whose disk a test owns: what is mounted inside is seen by nobody else and gone
 * with the namespace. Needs root.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Running, type StartOptions, start } from './processes.ts'
import { temporaryFolder } from './temp.ts'

export interface Namespace {
  readonly run: (command: string, args: readonly string[], options?: StartOptions) => Running
  /** Runs to its end inside and returns stdout. */
  readonly inside: (command: string, args: readonly string[]) => string
  readonly dispose: () => Promise<void>
}

export const openNamespace = async (): Promise<Namespace> => {
  // The namespace lives as long as this process; with it go the mounts and their loop devices.
  const keeper = start('unshare', [
    '-m',
    '--propagation',
    'private',
    'sh',
    '-c',
    'echo up; exec sleep infinity',
  ])
  await keeper.says('up')
  const enter = ['-t', String(keeper.pid), '-m', '--']
  return {
    run: (command, args, options) => start('nsenter', [...enter, command, ...args], options),
    inside: (command, args) =>
      execFileSync('nsenter', [...enter, command, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    dispose: () => keeper.kill(),
  }
}

export interface SmallDisk extends Namespace {
  /** Where it is mounted, for processes started with `run`. */
  readonly folder: string
  /** Another program takes what is free but for `leaveBytes`. */
  readonly fill: (leaveBytes: number) => void
  /** And gives it back. */
  readonly free: () => void
}

/** A tmpfs of so many MiB. */
export const openSmallDisk = async (sizeMiB: number): Promise<SmallDisk> => {
  const namespace = await openNamespace()
  const folder = join(temporaryFolder('tmpfs'), 'mnt')
  mkdirSync(folder)
  namespace.inside('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'tmpfs', folder])
  const filler = join(folder, 'filler')
  return {
    ...namespace,
    folder,
    fill: (leaveBytes) => {
      const free = Number(namespace.inside('stat', ['-f', '-c', '%a', folder]))
      const block = Number(namespace.inside('stat', ['-f', '-c', '%S', folder]))
      const bytes = Math.max(0, free * block - leaveBytes)
      namespace.inside('fallocate', ['-l', String(bytes), filler])
    },
    free: () => {
      namespace.inside('rm', ['-f', filler])
    },
  }
}
