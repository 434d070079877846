/**
 * What an arm64 machine is made of: Debian's own kernel, an initial file system that finds the disk, and a disk with a
 * Debian that has systemd. Its packages are unpacked here and installed there, by its own dpkg in its first boot: no
 * arm64 program ever runs on this machine but inside qemu. Needs root: files on the disk are other users'.
 * Invariant: what is in the cache is complete, and nobody writes to it: machines boot a copy of the disk.
 */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { arm64Apt } from './arm64.ts'
import { channelUnit } from './arm64-channel.ts'
import { cached, unpack } from './debian.ts'
import { codename, contents } from './debian-root.ts'

/** A program of qemu's and its surroundings. */
export const qemu = (): {
  readonly path: string
  readonly env: Readonly<Record<string, string>>
} => {
  const root = unpack('qemu-system-arm')
  const libraries = ['x86_64', 'aarch64'].flatMap((one) => [
    `${root}/usr/lib/${one}-linux-gnu`,
    `${root}/lib/${one}-linux-gnu`,
  ])
  return {
    path: `${root}/usr/bin/qemu-system-aarch64`,
    env: { LD_LIBRARY_PATH: libraries.join(':') },
  }
}
/**
 * Words of qemu for a machine of two processors without a network. Not the processor `max`: what V8 makes for it, the
 * emulation gets wrong. A disk that is never cut off need not be flushed.
 */
export const hardware = (
  parts: Parts,
  { disk, console, command }: { disk: string; console: string; command: string },
): readonly string[] => [
  ...['-machine', 'virt', '-cpu', 'cortex-a72', '-smp', '2', '-m', '1024'],
  ...['-accel', 'tcg,thread=multi,tb-size=512', '-nodefaults', '-no-reboot', '-display', 'none'],
  ...['-serial', `file:${console}`, '-kernel', parts.kernel, '-initrd', parts.initial],
  ...['-append', `console=ttyAMA0 panic=-1 hf.time=${Math.floor(Date.now() / 1000)} ${command}`],
  ...['-drive', `if=none,id=disk,format=raw,cache=unsafe,file=${disk}`],
  ...['-device', 'virtio-blk-pci,drive=disk', '-device', 'virtio-rng-pci'],
]

export interface Parts {
  readonly kernel: string
  readonly initial: string
  readonly disk: string
}

/** In the order in which they are loaded, each after those it needs; one that is built in has no file. */
const modules = [
  ...['crc32c_generic', 'pci_host_generic', 'virtio_pci', 'virtio_blk', 'ext4'],
  ...['virtio_console', 'virtio_rng', 'autofs4'],
]
const moduleFiles = (kernelTree: string): readonly string[] => {
  const files = new Map(
    globSync(`${kernelTree}/{lib,usr/lib}/modules/*/kernel/**/*.ko`).map((file) => [
      basename(file, '.ko').replaceAll('-', '_'),
      file,
    ]),
  )
  const found = new Set<string>()
  const add = (name: string): void => {
    const file = files.get(name)
    if (file === undefined || found.has(file)) return
    const needs = /(?<=\0)depends=([^\0]*)\0/.exec(readFileSync(file, 'latin1'))?.[1] ?? ''
    for (const one of needs.split(',')) add(one.replaceAll('-', '_'))
    found.add(file)
  }
  for (const name of modules) add(name)
  return [...found]
}

interface Entry {
  readonly path: string
  readonly content: Buffer
  readonly mode: number
}
/** An archive as the kernel unpacks it (`cpio -H newc`). */
const archive = (entries: readonly Entry[]): Buffer => {
  const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
  return Buffer.concat(
    [...entries, { path: 'TRAILER!!!', content: Buffer.alloc(0), mode: 0 }].flatMap(
      ({ path, content, mode }, at) => {
        const fields = [at + 1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, path.length + 1, 0]
        const head = fields.map((one) => one.toString(16).padStart(8, '0')).join('')
        return [padded(Buffer.from(`070701${head}${path}\0`)), padded(content)]
      },
    ),
  )
}
/** Finds the disk, and becomes the program that the kernel's command line names as `init=`. */
const firstProgram = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module || echo "not loaded: $module"; done
init=/sbin/init
for word in $($b cat /proc/cmdline); do
  case $word in
  init=*) init=\${word#init=} ;;
  hf.time=*) $b date -s @\${word#hf.time=} ;;
  esac
done
tries=0
until [ -b /dev/vda ] || [ $tries = 60 ]; do tries=$((tries + 1)); $b sleep 1; done
$b mount -t ext4 -o rw,noatime /dev/vda /root
$b umount /proc
$b mount --move /dev /root/dev
exec $b switch_root -c /dev/console /root $init
`
const directory = (path: string): Entry => ({ path, content: Buffer.alloc(0), mode: 0o040755 })
const initialFiles = (busybox: string, kernelTree: string): Buffer => {
  const program = (path: string, content: Buffer): Entry => ({ path, content, mode: 0o100755 })
  return archive([
    ...['bin', 'dev', 'modules', 'proc', 'root'].map(directory),
    program('bin/busybox', readFileSync(busybox)),
    program('init', Buffer.from(firstProgram)),
    ...moduleFiles(kernelTree).map((file, at) =>
      program(`modules/${String(at).padStart(2, '0')}-${basename(file)}`, readFileSync(file)),
    ),
  ])
}

const leftOut = ['doc', 'locale', 'man'].map((one) => `/usr/share/${one}/*`)
/** What installs them all, in the order that dpkg finds; what is needed for it lies there unpacked. */
const installation = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
mount -t proc proc /proc; mount -t sysfs sys /sys
ln -s /proc/self/fd /dev/fd; for at in 0:in 1:out 2:err; do ln -s "fd/\${at%:*}" "/dev/std\${at#*:}"; done
mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run; mkdir -p /run/lock
dpkg --force-depends --force-unsafe-io ${leftOut.map((one) => `'--path-exclude=${one}'`).join(' ')} \\
  --install /archives/*.deb && dpkg --audit && rm -r /archives && echo 'installed: all'
umount /tmp /run
mount -o remount,ro /
sync
echo o >/proc/sysrq-trigger
sleep 60
`
const unpackInto = (file: string, tree: string): void => {
  const excluded = leftOut.map((one) => `--exclude='.${one}'`).join(' ')
  const tar = `tar -x -p --keep-directory-symlink --wildcards ${excluded} -C '${tree}'`
  execFileSync('bash', ['-euo', 'pipefail', '-c', `dpkg-deb --fsys-tarfile '${file}' | ${tar}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
}
/** The tree of a disk whose packages are not yet installed. */
const layTree = (archives: readonly string[], tree: string): void => {
  for (const one of ['bin', 'lib', 'sbin']) {
    mkdirSync(join(tree, 'usr', one), { recursive: true })
    symlinkSync(`usr/${one}`, join(tree, one))
  }
  for (const file of archives) unpackInto(file, tree)
  const put = (path: string, text: string, mode = 0o644) => {
    mkdirSync(dirname(join(tree, path)), { recursive: true })
    writeFileSync(join(tree, path), text, { mode })
  }
  for (const one of ['info', 'updates', 'triggers'])
    mkdirSync(join(tree, 'var/lib/dpkg', one), { recursive: true })
  for (const one of ['status', 'available']) put(`var/lib/dpkg/${one}`, '')
  // Whom files belong to must have a name before the package that says so is installed.
  for (const one of ['passwd', 'group'])
    cpSync(join(tree, `usr/share/base-passwd/${one}.master`), join(tree, 'etc', one))
  put('etc/hostname', 'gateway\n')
  put('etc/hosts', '127.0.0.1 localhost gateway\n')
  put('usr/local/sbin/install-all', installation, 0o755)
  put('etc/systemd/system/channel.service', channelUnit)
  const wanted = join(tree, 'etc/systemd/system/multi-user.target.wants')
  mkdirSync(wanted, { recursive: true })
  symlinkSync('../channel.service', join(wanted, 'channel.service'))
  mkdirSync(join(tree, 'archives'))
  for (const file of archives) cpSync(file, join(tree, 'archives', basename(file)))
}

/** The packages of a kind of Debian, the kernel's and busybox, fetched; nothing of the machine's own is looked at. */
const fetchPackages = (work: string) => {
  const apt = arm64Apt(work)
  const wanted = ['?essential', 'usr-is-merged', ...contents.systemd]
  apt('install', '--yes', '--download-only', '--no-install-recommends', ...wanted)
  const archives = globSync(`${work}/cache/archives/*.deb`)
  const plan = apt('install', '--simulate', '--no-install-recommends', 'linux-image-arm64')
  const [, kernel = ''] = /^Inst (linux-image-\d\S+)/m.exec(plan) ?? []
  apt('download', kernel, 'busybox-static')
  return { archives, kernel: globSync(`${work}/linux-image-*.deb`)[0] ?? '' }
}

/** Boots the disk once, to install what lies on it. */
const installOnDisk = (parts: Parts, work: string): void => {
  const console = join(work, 'console.log')
  const { path, env } = qemu()
  const words = hardware(parts, {
    disk: parts.disk,
    console,
    command: 'init=/usr/local/sbin/install-all',
  })
  const said = () => (existsSync(console) ? readFileSync(console, 'utf8') : '')
  try {
    execFileSync('setpriv', ['--pdeathsig', 'KILL', '--', path, ...words], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 1_200_000,
      killSignal: 'SIGKILL',
    })
    if (!said().includes('installed: all')) throw new Error('not all was installed')
  } catch (error) {
    throw new Error(`an arm64 Debian could not be made: ${error}\n${said().slice(-4_000)}`)
  }
}

/** Made (nine minutes, 150 MB from the mirror) where it is missing. */
export const arm64Parts = (): Parts => {
  const inside = (folder: string): Parts => ({
    kernel: join(folder, 'vmlinuz'),
    initial: join(folder, 'initial.cpio'),
    disk: join(folder, 'disk.img'),
  })
  qemu()
  return inside(
    cached(`root-${codename()}-arm64`, (folder) => {
      const work = join(folder, 'work')
      const [tree, kernelTree] = [join(work, 'tree'), join(work, 'kernel')]
      for (const one of [tree, kernelTree]) mkdirSync(one, { recursive: true })
      const { archives, kernel } = fetchPackages(work)
      const parts = inside(folder)
      unpackInto(kernel, kernelTree)
      const [vmlinuz = ''] = globSync(`${kernelTree}/boot/vmlinuz-*`)
      cpSync(vmlinuz, parts.kernel)
      const [busybox = ''] = globSync(`${work}/busybox-static_*.deb`)
      unpackInto(busybox, kernelTree)
      const [program = ''] = globSync(`${kernelTree}/{usr/,}bin/busybox`)
      writeFileSync(parts.initial, initialFiles(program, kernelTree))
      layTree(archives, tree)
      // Checksums of its own would need more of the kernel before the disk is there.
      const format = ['-q', '-t', 'ext4', '-O', '^metadata_csum', '-m', '0', '-d', tree]
      execFileSync('mke2fs', [...format, parts.disk, '3G'], {
        env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      installOnDisk(parts, work)
      rmSync(work, { recursive: true })
    }),
  )
}
