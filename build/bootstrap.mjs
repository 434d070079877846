// Makes a bare clone runnable: installs the locked packages once per lockfile, then checks the Node that scripts will run on.
// Dependency-free and plain JavaScript, because it runs on whatever Node the machine has (18 or later).
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

const stampPath = 'node_modules/.stamp'
const lock = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex')
const installed = existsSync(stampPath) && readFileSync(stampPath, 'utf8') === lock

if (!installed) {
  const npm = process.env.npm_execpath
  const [command, first] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []]
  process.stderr.write('holdfast: installing the locked packages (about 15 s, once)\n')
  const result = spawnSync(
    command,
    [...first, 'ci', '--no-audit', '--no-fund', '--loglevel=error'],
    { stdio: ['ignore', 2, 2] },
  )
  if (result.status !== 0) {
    process.stderr.write('holdfast: `npm ci` failed (see above); is the npm registry reachable?\n')
    process.exit(1)
  }
  writeFileSync(stampPath, lock)
}

const version = execFileSync('node', ['-v'], { encoding: 'utf8' }).trim()
if (Number(version.slice(1).split('.')[0]) < 24) {
  process.stderr.write(
    `holdfast: scripts would run on Node ${version}, but 24 is needed.\n  The locked package "node" brings it on Linux, Windows and Intel Macs; elsewhere install Node 24 or later, and run npm with install scripts on.\n`,
  )
  process.exit(1)
}
