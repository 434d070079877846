/** The `file` destination on a disk that is full: a pause, nothing acknowledged that is not there, and on by itself. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openSmallDisk } from '../support/namespace.ts'
import { isRoot, killAll } from '../support/processes.ts'

after(killAll)
const noMount = isRoot && process.platform === 'linux' ? false : 'not root: no tmpfs can be mounted'

test('a full disk pauses with a remedy; with room again it goes on, and no line stands twice', {
  skip: noMount,
}, async () => {
  const disk = await openSmallDisk(12)
  try {
    const carry = join(disk.folder, 'carry')
    disk.inside('mkdir', [carry])
    disk.fill(5_000_000)
    const child = join(import.meta.dirname, 'file-child.ts')
    const said = disk.inside(process.execPath, [child, carry, join(disk.folder, 'filler')])
    const seen = JSON.parse(said.trim())
    for (const one of [seen.blocked, seen.still]) {
      assert.deepEqual([one.kind, one.code], ['blocked', 'HF-F151'], JSON.stringify(one))
      assert.match(one.text, /ENOSPC|free/)
      assert.match(one.hint, /Carry finished files away/)
    }
    assert.deepEqual([seen.after.kind, seen.more.kind], ['stored', 'stored'], JSON.stringify(seen))
    assert.ok(seen.sent > 10_000)
    assert.deepEqual([seen.lines, seen.distinct], [seen.sent, seen.sent])
    assert.deepEqual(seen.open, [])
  } finally {
    await disk.dispose()
  }
})
