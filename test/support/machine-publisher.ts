/**
 * `machine-publisher.ts DOOR TOKEN FILE NAME [PAUSE_MS]`: publishes series of this name to a door until SIGTERM,
 * steadily, and then writes what it knows of every point to FILE, and when each ack came. It runs beside a machine, in
 * its network (`machine.ts`), or in it (`arm64-machine.ts`).
 */
import { writeFileSync } from 'node:fs'
import type { JournalPoint } from '../../src/verify/checker.ts'
import { createHttpPublisher } from './publisher.ts'

export interface Published {
  readonly journal: readonly JournalPoint[]
  /** Wall clock, milliseconds, of every request that was acknowledged. */
  readonly ackedAtMs: readonly number[]
}
const pointsARequest = 200

export const readPublished = (text: string): Published =>
  JSON.parse(text, (key, value) => (key === 'bits' ? BigInt(value) : value)) as Published

const main = async (
  door: string,
  token: string,
  file: string,
  name: string,
  pauseMs: number,
): Promise<void> => {
  const publisher = createHttpPublisher(() => door, { token, name })
  const ackedAtMs: number[] = []
  let over = false
  process.once('SIGTERM', () => {
    over = true
  })
  console.log('publishing')
  while (!over) {
    if (await publisher.send(pointsARequest)) ackedAtMs.push(Date.now())
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
  const published: Published = { journal: publisher.journal(), ackedAtMs }
  const text = JSON.stringify(published, (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  )
  writeFileSync(file, text)
}

const [, , door, token, file, name, pause = '10'] = process.argv
if (import.meta.main && door && token && file && name)
  await main(door, token, file, name, Number(pause))
