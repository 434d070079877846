/**
 * The disk under the state folder: rights, room, the time of a real flush, and how long a card lasts at this rate.
 * Invariant: the probe writes one small file of its own and removes it; nothing else in the folder is touched.
 */
import { randomBytes } from 'node:crypto'
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../../config/schema.ts'
import type { AgentStatus } from '../../control/view.ts'
import { isDenied, textOf } from '../../errors.ts'
import type { Host } from '../../host.ts'
import { setAsideIn } from '../../spool/set-aside.ts'
import { bytesText, spanText } from '../format.ts'
import { bad, type Finding, good, notForUs, unknown, warning } from './finding.ts'

const rounds = 20
/** Enough has been seen: a disk as slow as this is not asked once more. */
const roundsMsMax = 3_000
const slowFlushMs = 100
const stuckFlushMs = 2_000
/** No flash and no disk flushes in this; a battery-backed cache, or a device that only says it did. */
const incredibleFlushMs = 0.02

/** Milliseconds of each of some flushes of 4 KiB, ascending. */
export const flushTimesMs = (folder: string, clock: Pick<Host['clock'], 'monotonicMs'>) => {
  const path = join(folder, `.doctor-${randomBytes(6).toString('hex')}`)
  const fd = openSync(path, 'wx', 0o600)
  try {
    const block = randomBytes(4_096)
    const times: number[] = []
    const firstMs = clock.monotonicMs()
    for (let round = 0; round < rounds; round++) {
      const beganMs = clock.monotonicMs()
      if (beganMs - firstMs > roundsMsMax) break
      writeSync(fd, block)
      fsyncSync(fd)
      times.push(clock.monotonicMs() - beganMs)
    }
    return times.sort((a, b) => a - b)
  } finally {
    closeSync(fd)
    rmSync(path, { force: true })
  }
}

/** Filesystems that forget or that other machines hold (statfs(2), linux/magic.h). */
const forgetful = new Map([
  [0x01021994, 'tmpfs: it is lost at every restart of the machine'],
  [0x858458f6, 'ramfs: it is lost at every restart of the machine'],
  [0x6969, 'NFS: its locks and flushes cannot be relied on'],
  [0xff534d42, 'CIFS: its locks and flushes cannot be relied on'],
  [0xfe534d42, 'SMB: its locks and flushes cannot be relied on'],
])
const filesystem = (folder: string): Finding[] => {
  const why = forgetful.get(statfsSync(folder).type)
  if (why === undefined) return []
  return [warning('disk', `${folder} is on ${why}`, 'Put agent.state_dir on a local disk.')]
}
const flush = (folder: string, clock: Host['clock']): Finding => {
  try {
    const times = flushTimesMs(folder, clock)
    const [median = 0, worst = 0] = [times[times.length >> 1], times.at(-1)]
    const ms = (value: number) => `${value < 10 ? value.toFixed(2) : Math.round(value)} ms`
    const text = `a flush takes ${ms(median)}, at worst ${ms(worst)}`
    const fix = 'A worn or busy card: look at smartctl, dmesg and what else writes there.'
    const found =
      median > stuckFlushMs
        ? bad('flush', text, fix)
        : median > slowFlushMs || worst > stuckFlushMs
          ? warning('flush', text, fix)
          : median < incredibleFlushMs
            ? warning(
                'flush',
                `${text}: too fast to be true`,
                'Ask whether the device honours flush.',
              )
            : good('flush', text)
    return { ...found, ms: median }
  } catch (error) {
    const text = `nothing can be written to ${folder}: ${textOf(error)}`
    if (isDenied(error)) return notForUs('flush', text)
    return bad('flush', text, 'Look at mount (read-only?), room and rights.')
  }
}
const room = (folder: string, config: Config | undefined, usedBytes: number): Finding => {
  const { bavail, bsize } = statfsSync(folder)
  const free = bavail * bsize
  const { size_max: quota = 0, disk_free_min: floor = 0 } = config?.spool ?? {}
  const text = `${bytesText(free)} free under ${folder}`
  const fix = 'Free space on this disk, or lower spool.size_max.'
  if (free <= floor) return bad('room', `${text}: intake waits below ${bytesText(floor)}`, fix)
  const wanted = Math.max(0, quota - usedBytes)
  if (free - floor < wanted)
    return warning('room', `${text}, the spool may yet grow by ${bytesText(wanted)}`, fix)
  return good('room', text)
}

const modeText = (mode: number) => (mode & 0o777).toString(8).padStart(3, '0')
/** The folder must be its user's alone to write; a link in its place is not followed. */
export const rightsOf = (folder: string): Finding => {
  const found = lstatSync(folder)
  if (!found.isDirectory())
    return bad('rights', `${folder} is no folder`, 'Remove what stands there; the agent makes it.')
  if ((found.mode & 0o002) !== 0)
    return bad(
      'rights',
      `${folder} can be written by everybody (mode ${modeText(found.mode)})`,
      `chmod o-w ${folder}`,
    )
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch {
    return notForUs('rights', `${folder} is not open to this user`)
  }
  if ((found.mode & 0o007) !== 0)
    return warning(
      'rights',
      `${folder} can be read by everybody (mode ${modeText(found.mode)})`,
      `chmod o-rwx ${folder}`,
    )
  return good('rights', `${folder}: mode ${modeText(found.mode)}, owner ${found.uid}`)
}

/** Bytes that the spool takes now, as far as this user may know. */
const spoolBytes = (folder: string): number =>
  ['spool.db', 'spool.db-wal'].reduce((sum, name) => {
    const size = statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0
    return sum + size
  }, 0)

/** Says before each thing it asks of the disk what that is: it may be the last it says. */
type Look = (check: string, what: string) => void
type Tell = (findings: readonly Finding[]) => void

export const lookAtDisk = (
  folder: string,
  config: Config | undefined,
  clock: Host['clock'],
  looking: Look,
  tell: Tell,
): void => {
  try {
    looking('rights', 'looking at')
    const rights = rightsOf(folder)
    tell([rights])
    if (rights.state === 'bad' || rights.state === 'unknown') return
    looking('room', 'the room under')
    tell([...filesystem(folder), room(folder, config, spoolBytes(folder))])
    looking('flush', 'a flush in')
    tell([flush(folder, clock)])
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const fix = 'The agent makes it when it starts; or name the configuration with -c.'
    tell([
      missing
        ? warning('disk', `${folder} does not exist yet`, fix)
        : isDenied(error)
          ? notForUs('disk', textOf(error))
          : unknown('disk', textOf(error)),
    ])
  }
}

export const lookAtSetAside = (stateDir: string, looking: Look, tell: Tell): void => {
  looking('spool', 'reading')
  let names: readonly string[] = []
  try {
    names = readdirSync(stateDir)
  } catch {
    // The rights of the folder are a finding of their own.
  }
  const left = setAsideIn(names, stateDir).filter(({ dealtWith }) => !dealtWith)
  tell(
    left.map(({ file, kind }) => {
      const why = kind === 'suspect' ? 'after five crashes in a minute' : 'because it was damaged'
      const fix = `bring back what it holds with: holdfast spool salvage ${file}`
      const code = kind === 'suspect' ? 'HF-H011' : 'HF-H012'
      return { ...warning('spool', `${file} was set aside ${why}`, fix), code }
    }),
  )
}

/** What a commit costs on disk beyond its points (docs/BENCHMARKS.md): pages of the log and of the database. */
const commitBytes = 16_384
const hourUs = 3_600e6
const dayS = 86_400

/** Bytes the kernel has handed to the disk for this process; null when we may not know. */
const writtenBy = (pid: number): number | null => {
  try {
    const line = /^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))
    return line === null ? null : Number(line[1])
  } catch {
    return null
  }
}
export interface Wear {
  readonly bytesPerDay: number
  readonly measured: boolean
  readonly lifeYears: number
  readonly cardTbw: number
}
export const wearOf = (status: AgentStatus, pid: number | null, cardTbw: number): Wear | null => {
  if (status.spool === null || status.upForUs < hourUs / 6) return null
  const kernel = pid === null ? null : writtenBy(pid)
  const bytes = kernel ?? status.spool.bytesWritten + status.spool.commits * commitBytes
  const bytesPerDay = (bytes / (status.upForUs / 1e6)) * dayS
  const lifeYears = (cardTbw * 1e12) / Math.max(1, bytesPerDay) / 365
  return { bytesPerDay, measured: kernel !== null, lifeYears, cardTbw }
}
const lifeText = ({ lifeYears }: Wear) =>
  lifeYears > 100 ? 'more than 100 years' : `${lifeYears.toFixed(lifeYears < 10 ? 1 : 0)} years`
export const lookAtWear = (
  status: AgentStatus | undefined,
  pid: number | null,
  cardTbw: number,
): Finding => {
  if (status === undefined) return unknown('wear', 'only a running agent knows what it writes')
  const wear = wearOf(status, pid, cardTbw)
  if (wear === null)
    return unknown(
      'wear',
      `up for ${spanText(status.upForUs / 1_000)}: ask again after ten minutes`,
    )
  const how = wear.measured ? 'as the kernel counts' : 'reckoned from commits'
  const text =
    `${bytesText(wear.bytesPerDay)} written a day (${how}); a card good for ${cardTbw} TB ` +
    `written lasts ${lifeText(wear)} (--card-tbw says otherwise)`
  if (wear.lifeYears >= 5) return good('wear', text)
  return warning(
    'wear',
    text,
    'Raise spool.commit_window and lanes.*.max_delay, or use a card made for writing.',
  )
}
