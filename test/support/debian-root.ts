/**
 * Small Debians for tests, one with systemd to boot, one with lintian: made once by mmdebstrap from this machine's own
 * package sources, and kept in the cache folder.
 * Invariant: what is in the cache is complete, and nobody writes to it: machines boot it with an overlay.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cached, unpack } from './debian.ts'

export const contents = {
  /** What the package depends on, and what boots. */
  systemd: ['systemd', 'systemd-sysv', 'dbus', 'init-system-helpers', 'libstdc++6'],
  lintian: ['lintian'],
} as const
const leftOut = ['doc', 'locale', 'man'].map((one) => `path-exclude=/usr/share/${one}/*`)

export const codename = (): string => {
  const text = readFileSync('/etc/os-release', 'utf8')
  const [, name] = /^VERSION_CODENAME=(\S+)/m.exec(text) ?? []
  if (name === undefined) throw new Error('no Debian: /etc/os-release has no VERSION_CODENAME')
  return name
}

/** The folder of it; made (half a minute, 50 MB from the mirror; lintian twice that) where it is missing. Needs root. */
export const debianRoot = (kind: keyof typeof contents = 'systemd'): string => {
  const suite = codename()
  return cached(`root-${suite}-${kind}`, (folder) => {
    const tool = unpack('mmdebstrap')
    const paths = [`${tool}/usr/bin`, process.env.PATH ?? '', '/usr/sbin', '/sbin']
    const options = [
      ...['--mode=root', '--variant=minbase', `--include=${contents[kind].join()}`],
      '--aptopt=Acquire::Languages "none"',
      ...leftOut.map((one) => `--dpkgopt=${one}`),
    ]
    execFileSync('unshare', ['--mount', 'mmdebstrap', ...options, suite, folder], {
      env: { ...process.env, PATH: paths.join(':'), PERL5LIB: `${tool}/usr/share/perl5` },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: 300_000,
    })
  })
}
