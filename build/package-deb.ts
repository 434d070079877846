/**
 * `npm run package:deb -- [--arch amd64|arm64] [--output FOLDER] [--verify]`: one self-contained Debian package in
 * `release/`. Nothing is compiled, and nothing is downloaded on the gateway.
 *
 * Invariants: same commit, same bytes: every time is the commit's, every mode is set here, one thread compresses; all
 * files belong to root. With --verify the package is built twice and tried (`package-verify.ts`).
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  globSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { version } from '../src/release.ts'
import { bundleWithParts } from './bundle.ts'
import { maintainer, stageDocuments } from './package-documents.ts'
import {
  type Architecture,
  architectures,
  locate,
  nativeArchitecture,
  nativeParts,
  root,
} from './package-parts.ts'

const library = 'usr/lib/holdfast'

/** The commit's time, unless the environment says another. */
const commitSeconds = (): number =>
  Number(
    process.env.SOURCE_DATE_EPOCH ??
      execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' }),
  )

export interface Stage {
  readonly folder: string
  readonly put: (path: string, content: string | Buffer, mode?: number) => void
  readonly copy: (from: string, path: string, mode?: number) => void
}
const openStage = (): Stage & Disposable => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-deb-'))
  const put: Stage['put'] = (path, content, mode = 0o644) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), content)
    chmodSync(join(folder, path), mode)
  }
  return {
    folder,
    put,
    copy: (from, path, mode) => put(path, readFileSync(from), mode),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** Resolves with the folders of the npm packages that are in it. */
const stageProgram = async (
  { folder, copy }: Stage,
  arch: Architecture,
): Promise<readonly string[]> => {
  const { packages: bundled } = await bundleWithParts(join(folder, library), {
    unsent: 'platforms/linux/unsent.ts',
  })
  // Nobody starts it but by the Node that came with it.
  const command = join(folder, library, 'agent.mjs')
  writeFileSync(command, readFileSync(command, 'utf8').replace(/^#!.*\n/, ''))
  chmodSync(command, 0o644)
  const whole = ['better-sqlite3', 'lz4-napi']
  const packages = `node_modules/{${whole.join(',')}}`
  const scripts = globSync(
    ['package.json', 'LICENSE', '*.js', 'lib/**/*.js'].map((one) => `${packages}/${one}`),
    { cwd: root },
  )
  for (const file of scripts) copy(join(root, file), `${library}/${file}`)
  for (const part of nativeParts(arch)) {
    const mode = part.path === 'bin/node' ? 0o755 : 0o644
    copy(locate(part), `${library}/${part.path}`, mode)
  }
  const lz4 = nativeParts(arch).find(({ path }) => path.includes('lz4-napi'))?.path ?? ''
  const name = lz4.replace(/^node_modules\//, '').replace(/\/[^/]*$/, '')
  const manifest = { name, version: '2.10.0', main: basename(lz4) }
  writeFileSync(join(folder, library, dirname(lz4), 'package.json'), JSON.stringify(manifest))
  return [...bundled, ...whole.map((one) => `node_modules/${one}`)]
}

const stageRest = ({ copy, put }: Stage): void => {
  const linux = (name: string) => join(root, 'platforms/linux', name)
  const units = 'usr/lib/systemd/system'
  copy(linux('holdfast.sh'), 'usr/bin/holdfast', 0o755)
  copy(linux('launch.pl'), `${library}/bin/launch`, 0o755)
  copy(linux('holdfast.yaml'), 'etc/holdfast/holdfast.yaml')
  copy(linux('holdfast.service'), `${units}/holdfast.service`)
  copy(linux('holdfast-regional.service'), `${units}/holdfast-regional.service`)
  copy(linux('sysusers.conf'), 'usr/lib/sysusers.d/holdfast.conf')
  copy(linux('serial-can.conf'), 'usr/share/doc/holdfast/examples/serial-can.conf')
  copy(linux('lintian-overrides'), 'usr/share/lintian/overrides/holdfast')
  put('DEBIAN/conffiles', '/etc/holdfast/holdfast.yaml\n')
  for (const name of ['postinst', 'prerm', 'postrm']) copy(linux(name), `DEBIAN/${name}`, 0o755)
}

const control = (arch: Architecture, installedKib: number): string => `\
Package: holdfast
Version: ${version}
Architecture: ${arch}
Maintainer: ${maintainer}
Section: net
Priority: optional
Installed-Size: ${installedKib}
Depends: libc6 (>= 2.34), libstdc++6 (>= 11), libgcc-s1, systemd (>= 247), init-system-helpers (>= 1.54)
Description: edge-to-cloud sync agent that does not lose points
 Takes sensor points from MQTT and HTTP, holds them in a durable local spool,
 and forwards them over mutual TLS to a regional node, which commits them to
 PostgreSQL: exactly once in effect, through outages, crashes and failovers.
 .
 Agent and regional node, with the Node.js they run on.
`

const stageSums = ({ folder, put }: Stage, arch: Architecture): void => {
  const files = globSync('{usr,etc}/**', { cwd: folder })
    .filter((path) => statSync(join(folder, path)).isFile())
    .sort()
  const sum = (path: string) =>
    createHash('md5')
      .update(readFileSync(join(folder, path)))
      .digest('hex')
  const config = 'etc/holdfast/holdfast.yaml'
  const summed = files.filter((path) => path !== config)
  put('DEBIAN/md5sums', summed.map((path) => `${sum(path)}  ${path}\n`).join(''))
  const kib = files.map((path) => Math.ceil(statSync(join(folder, path)).size / 1_024))
  put(
    'DEBIAN/control',
    control(
      arch,
      kib.reduce((total, one) => total + one, 0),
    ),
  )
}

/** Builds one package into `output`, for tests larger and in a fifth of the time if `quick`; returns its path. */
export const packageDeb = async (
  arch: Architecture,
  output: string,
  quick = false,
): Promise<string> => {
  const seconds = commitSeconds()
  using stage = openStage()
  const packages = await stageProgram(stage, arch)
  stageDocuments(stage, { arch, seconds, packages })
  stageRest(stage)
  stageSums(stage, arch)
  chmodSync(stage.folder, 0o755)
  for (const path of globSync('**', { cwd: stage.folder })) {
    const full = join(stage.folder, path)
    const found = statSync(full)
    chmodSync(full, found.isDirectory() || found.mode & 0o100 ? 0o755 : 0o644)
    lutimesSync(full, seconds, seconds)
  }
  lutimesSync(stage.folder, seconds, seconds)
  mkdirSync(output, { recursive: true })
  const file = join(output, `holdfast_${version}_${arch}.deb`)
  // xz at 3: a fifth smaller than zstd's default in a seventh of xz -6's time, and dpkg of every age reads it.
  const packed = quick ? ['-Zgzip', '-z1'] : ['-Zxz', '-z3', '--threads-max=1']
  const how = ['--root-owner-group', ...packed, '--build']
  execFileSync('dpkg-deb', [...how, stage.folder, file], {
    env: { ...process.env, SOURCE_DATE_EPOCH: String(seconds) },
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 900_000,
  })
  return file
}

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string', default: nativeArchitecture },
      output: { type: 'string', default: join(root, 'release') },
      verify: { type: 'boolean', default: false },
    },
  })
  const arch = architectures.find((one) => one === values.arch)
  if (arch === undefined) throw new Error(`--arch is one of ${architectures.join(', ')}`)
  const file = await packageDeb(arch, values.output)
  process.stdout.write(`${file}  ${(statSync(file).size / 1e6).toFixed(1)} MB\n`)
  if (!values.verify) return
  const { verifyDeb } = await import('./package-verify.ts')
  const seen = await verifyDeb(arch, file, { rebuild: (output) => packageDeb(arch, output) })
  process.exitCode = seen.some(({ outcome }) => outcome === 'FAILED') ? 1 : 0
}

if (import.meta.main) await main()
