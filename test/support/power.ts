/**
 * A disk whose power can be cut: ext4 on a loop device inside a private mount namespace, shut down by the kernel's own
 * FS_IOC_SHUTDOWN, which drops every dirty page and every journal transaction not yet flushed. Needs root.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type Namespace, openNamespace } from './namespace.ts'
import { temporaryFolder } from './temp.ts'

export interface PowerCutDisk extends Namespace {
  /** Where the filesystem is mounted, for processes started with `run`. */
  readonly folder: string
  /** Power off. Processes on the disk see errors from now on: kill them, then `powerOn`. */
  readonly cut: () => void
  /** The kernel finds an error on it and makes it read-only. */
  readonly failReadOnly: () => void
  /** Mounts the disk again as the kernel finds it (journal replay). */
  readonly powerOn: () => void
}

/** _IOR('X', 125, __u32) with flag 2 = NOLOGFLUSH. perl-base is on every Debian; Node has no ioctl. */
const shutdownProgram =
  'open(my $f, "<", $ARGV[0]) or die $!; my $flag = pack("I", 2); ioctl($f, 0x8004587d, $flag) or die $!'

export const openPowerCutDisk = async (sizeMiB = 64): Promise<PowerCutDisk> => {
  const base = temporaryFolder('pow')
  const image = join(base, 'disk.img')
  const folder = join(base, 'mnt')
  mkdirSync(folder)
  writeFileSync(image, '')
  execFileSync('truncate', ['-s', `${sizeMiB}M`, image])
  execFileSync('mkfs.ext4', ['-q', '-F', '-b', '4096', '-m', '0', image], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  })
  const { inside, run, dispose } = await openNamespace()
  const powerOn = () => {
    inside('mount', ['-o', 'loop,noatime', image, folder])
  }
  powerOn()
  let on = true
  return {
    folder,
    inside,
    run,
    cut: () => {
      inside('perl', ['-e', shutdownProgram, folder])
      on = false
    },
    failReadOnly: () => {
      inside('mount', ['-o', 'remount,errors=remount-ro', folder])
      const device = inside('findmnt', ['-no', 'SOURCE', folder]).trim()
      inside('sh', ['-c', `echo test > /sys/fs/ext4/${basename(device)}/trigger_fs_error`])
      on = false
    },
    powerOn: () => {
      if (on) return
      inside('umount', [folder])
      powerOn()
      on = true
    },
    dispose,
  }
}
