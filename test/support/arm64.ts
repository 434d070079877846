/**
 * What runs arm64 programs on another machine: qemu's user mode and the three libraries that Node links, unpacked from
 * Debian's packages into the cache. Nothing is registered with the kernel.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cached, unpack } from './debian.ts'

const packages = ['libc6', 'libstdc++6', 'libgcc-s1']

/** The folder of the libraries; fetched (30 MB of lists, 3 MB of packages) where it is missing. */
const libraries = (): string =>
  cached('debian/arm64-libraries', (folder) => {
    const apt = `${folder}/apt`
    for (const one of ['lists/partial', 'cache/archives/partial', 'archives'])
      mkdirSync(join(apt, one), { recursive: true })
    const options = [
      ...['APT::Architecture=arm64', 'APT::Architectures=arm64', 'APT::Sandbox::User=root'],
      ...[
        `Dir::State::Lists=${apt}/lists`,
        `Dir::Cache=${apt}/cache`,
        'Dir::State::status=/dev/null',
      ],
      'Debug::NoLocking=1',
    ].flatMap((one) => ['-o', one])
    const get = (...words: readonly string[]) =>
      execFileSync('apt-get', [...options, '-qq', ...words], {
        cwd: join(apt, 'archives'),
        stdio: ['ignore', 'ignore', 'pipe'],
        timeout: 300_000,
      })
    get('update')
    get('download', ...packages)
    for (const file of readdirSync(join(apt, 'archives')))
      execFileSync('dpkg', ['-x', join(apt, 'archives', file), folder])
    rmSync(apt, { recursive: true })
  })

/** Words that stand before an arm64 program; none where the machine is one. */
export const arm64Runner = (): readonly string[] =>
  process.arch === 'arm64'
    ? []
    : [`${unpack('qemu-user-static')}/usr/bin/qemu-aarch64-static`, '-L', libraries()]
