/** Debian's own judge of packages, run in a Debian of its own. Needs root. */
import { execFile } from 'node:child_process'
import { debianRoot } from './debian-root.ts'

/** Lines of lintian, those that the package overrides with `O:`; what it wrote is gone with its mount namespace. */
export const lintian = (file: string): Promise<string> => {
  const root = debianRoot('lintian')
  const script = `
    mount -t tmpfs tmpfs ${root}/tmp; mount -t proc proc ${root}/proc; mount --rbind /dev ${root}/dev
    cp ${file} ${root}/tmp/package.deb
    exec chroot ${root} env LC_ALL=C.UTF-8 lintian --allow-root --show-overrides --fail-on none --no-tag-display-limit /tmp/package.deb`
  return new Promise((resolve, reject) => {
    const given = ['--mount', '--propagation', 'private', 'sh', '-euc', script]
    execFile('unshare', given, { timeout: 300_000 }, (error, out, err) =>
      error === null ? resolve(out) : reject(new Error(`lintian: ${error.message}\n${out}${err}`)),
    )
  })
}
