/** What a machine keeps while no process runs: the spool's image, and its anchor as it is and as it was last flushed. */
import { type AnchorFile, createMemoryAnchor } from '../../src/spool/anchor.ts'
import type { Recorded } from '../unit/spool/stage-support.ts'
import { type Archive, emptyArchive } from './recorded.ts'

/** What is on the machine's disk while no process runs. */
export interface Disk {
  image: Uint8Array | null
  /** Bytes of the anchor file as they are, and as of its last flush. */
  anchor: Uint8Array
  anchorFlushed: Uint8Array
  /** What the stage was given, by seq: not on the disk, but it tells what should be. */
  record: Map<number, Recorded>
  /** Histories of the states of rules and windows: likewise. */
  archive: Archive
}
export const emptyDisk = (): Disk => ({
  image: null,
  anchor: new Uint8Array(0),
  anchorFlushed: new Uint8Array(0),
  record: new Map(),
  archive: emptyArchive(),
})
export const copyDisk = (disk: Disk): Disk => ({
  image: disk.image?.slice() ?? null,
  anchor: disk.anchor.slice(),
  anchorFlushed: disk.anchorFlushed.slice(),
  record: new Map(disk.record),
  archive: disk.archive,
})

export const anchorOn = (disk: Disk): AnchorFile => {
  const file = createMemoryAnchor()
  if (disk.anchor.length > 0) file.write(0, disk.anchor)
  const size = file.read(0, 1 << 20).length
  disk.anchorFlushed = disk.anchor = file.read(0, size)
  return {
    read: file.read,
    write: (offset, bytes) => {
      file.write(offset, bytes)
      disk.anchor = file.read(0, size)
    },
    sync: () => {
      disk.anchorFlushed = disk.anchor
    },
    close: () => {},
  }
}
