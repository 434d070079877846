/**
 * What runs arm64 programs on another machine: qemu's user mode and the three libraries that Node links, unpacked from
 * Debian's packages into the cache. Nothing is registered with the kernel.
 */
import { execFileSync } from 'node:child_process'
import { globSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cached, unpack } from './debian.ts'

const packages = ['libc6', 'libstdc++6', 'libgcc-s1']

/**
 * apt as on an arm64 Debian where nothing is installed, by this machine's own sources; its lists (30 MB to fetch) and
 * `cache/archives` lie in `folder`, which it works in. Answers what apt said.
 */
export const arm64Apt = (folder: string): ((...words: readonly string[]) => string) => {
  for (const one of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(folder, one), { recursive: true })
  const options = [
    ...['APT::Architecture=arm64', 'APT::Architectures=arm64', 'APT::Sandbox::User=root'],
    ...[`Dir::State::Lists=${folder}/lists`, `Dir::Cache=${folder}/cache`],
    ...['Dir::State::status=/dev/null', 'Debug::NoLocking=1'],
  ].flatMap((one) => ['-o', one])
  const apt = (...words: readonly string[]) =>
    execFileSync('apt-get', [...options, '-qq', ...words], {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 300_000,
    })
  apt('update')
  return apt
}

/** The folder of the libraries; fetched (3 MB of packages) where it is missing. */
const libraries = (): string =>
  cached('debian/arm64-libraries', (folder) => {
    const work = `${folder}/apt`
    arm64Apt(work)('download', ...packages)
    for (const file of globSync(`${work}/*.deb`)) execFileSync('dpkg', ['-x', file, folder])
    rmSync(work, { recursive: true })
  })

/** Words that stand before an arm64 program; none where the machine is one. */
export const arm64Runner = (): readonly string[] =>
  process.arch === 'arm64'
    ? []
    : [`${unpack('qemu-user-static')}/usr/bin/qemu-aarch64-static`, '-L', libraries()]
