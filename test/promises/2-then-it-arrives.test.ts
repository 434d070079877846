/** "Then it arrives: once in effect, in order per series, bit for bit": whole recordings, through every door at once. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { loadRecordings, type Recording, type RecordingSet } from '../bench/recordings.ts'
import { createCertificates } from '../support/certificates.ts'
import { createPlayers, type Track } from '../support/players.ts'
import { startMosquitto, startPgBouncer, startPostgres } from '../support/servers.ts'
import { createSite, type Site } from '../support/site.ts'
import { exact, type JournalPoint } from './checker.ts'

const release = process.env.HOLDFAST_TEST_RELEASE === '1'
/** Of each recording, where it is longer: a release plays all. */
const pointsEach = release ? Number.POSITIVE_INFINITY : 4_096

const chosen = (context: TestContext): RecordingSet[] => {
  const { made, sets } = loadRecordings()
  const cut = ({ name, timesUs, values }: Recording): Recording => ({
    name,
    timesUs: timesUs.subarray(0, pointsEach),
    values: values.subarray(0, pointsEach),
  })
  const played = sets.map(({ name, series }) => ({ name, series: series.map(cut) }))
  const count = (all: readonly RecordingSet[]) =>
    all.reduce((sum, { series }) => series.reduce((more, one) => more + one.values.length, sum), 0)
  context.diagnostic(
    `${made ? 'made input (HOLDFAST_TEST_DATA is unset)' : 'recordings'}: ` +
      `${count(played)} of ${count(sets)} points, three ways each` +
      (release ? '' : '; HOLDFAST_TEST_RELEASE=1 plays all'),
  )
  return played
}

function* journalOf(tracks: readonly Track[]): Generator<JournalPoint> {
  for (const { series, recording } of tracks)
    for (const [at, timeUs] of recording.timesUs.entries())
      yield { ...exact(series, timeUs, recording.values[at] as number), acked: true }
}

/** The region's own order of each series is the order of its file, and its times are the file's. */
const assertOrder = async (site: Site, tracks: readonly Track[]): Promise<void> => {
  const ords = new Map<string, Map<number, bigint>>()
  await site.withReadBack(async (back) => {
    for await (const { name, timeUs, ord } of back.readBack(site.name)) {
      const known = ords.get(name) ?? new Map<number, bigint>()
      ords.set(name, known.set(timeUs, ord))
    }
  })
  assert.deepEqual([...ords.keys()].sort(), tracks.map(({ series }) => series).sort())
  for (const { series, recording } of tracks) {
    const found = ords.get(series) as Map<number, bigint>
    // Where a file says two things of one moment, the later one stands.
    const sent = [...new Set([...recording.timesUs].reverse())].reverse()
    assert.equal(found.size, sent.length, series)
    let before = 0n
    for (const timeUs of sent) {
      const ord = found.get(timeUs) ?? -1n
      assert.ok(ord >= before, `${series}: ${timeUs} was accepted after what was sent before it`)
      before = ord
    }
  }
}

test('recordings by MQTT, many points a message and one, and by an InfluxDB client, through PgBouncer into PostgreSQL', async (context) => {
  const sets = chosen(context)
  const certificates = await createCertificates()
  const postgres = await startPostgres({ certificates })
  const bouncer = await startPgBouncer(postgres, certificates)
  const broker = await startMosquitto({
    certificates,
    quiet: true,
    settings: ['max_queued_messages 0', 'max_inflight_messages 4000'],
  })
  const where = {
    broker: broker.url,
    ca: certificates.ca,
    key: await certificates.agent('publisher'),
    door: (): string => site.door,
  }
  const players = createPlayers(sets, where)
  const tracks = players.flatMap((player) => player.tracks)
  const site = await createSite({
    certificates,
    database: { url: bouncer.url, postgres },
    sources: [
      {
        name: 'plant',
        type: 'mqtt',
        url: broker.url,
        tls: { ca: certificates.ca, ...(await certificates.agent('gw-mqtt')) },
        subscribe: players.flatMap((player) => player.subscribe),
      },
    ],
  })
  const regional = await site.startRegional()
  const agent = await site.startAgent()
  await agent.says('"connected"')
  const points = tracks.reduce((sum, { recording }) => sum + recording.values.length, 0)
  await Promise.all(players.map((player) => player.play()))
  await site.drained(release ? 600 : 90, points)
  await agent.stop()
  const verdict = await site.verdict(journalOf(tracks))
  await assertOrder(site, tracks)
  await regional.stop()
  await Promise.all([broker.stop(), bouncer.stop()])
  await postgres.stop()
  assert.deepEqual(verdict.reasons, [])
  assert.equal(verdict.accepted, points)
  assert.equal(verdict.delivered, points)
  assert.equal(verdict.duplicates + verdict.altered + verdict.declared_lost, 0)
})
