/**
 * Line protocol through the HTTP door, durable: the agent's door and spool in a process of their own, whose CPU time
 * (all threads: parsing, worker, codec, SQLite) is what counts. Bodies are Telegraf's default size, 1,000 lines, made
 * before; as many connections as fill a commit window keep the door busy. `http_line_gzip…` is the same, packed as
 * Telegraf packs it.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { gzipSync } from 'node:zlib'
import { seriesIdOf } from '../../src/codec/series-id.ts'
import { createSeriesTable } from '../../src/pipeline/series.ts'
import { createLineParser } from '../../src/protocol/line.ts'

const linesABody = 1_000
const bodies = 80
const seriesInAll = 1_000
/** On their way at once: a sender waits a commit window for each answer. */
const pointsAWindow = 80_000
/** Long enough that the compiler's own time no longer counts. */
const pointsToWarm = 2e6
const pointsToMeasure = 6e6

interface Shape {
  readonly fields: number
  readonly tags: number
}
/**
 * A gateway of 1,000 series, fields of each line together: they walk with two decimals, one step a
 * second, nanosecond times.
 */
const bodiesOf = ({ fields, tags }: Shape): Buffer[] => {
  let seed = 1
  const draw = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff
    return seed
  }
  const walk = Array.from({ length: seriesInAll }, (_, no) => 2_000 + no)
  const heads = seriesInAll / fields
  const lineOf = (at: number): string => {
    const [head, second] = [at % heads, Math.floor(at / heads)]
    const named = Array.from({ length: tags }, (_, tag) => `,tag${tag}=unit${head + tag}`).join('')
    const pairs = Array.from({ length: fields }, (_, field) => {
      const no = head * fields + field
      walk[no] = (walk[no] as number) + ((draw() >> 16) % 7) - 3
      return `field${field}=${(walk[no] as number) / 100}`
    })
    return `plant${named} ${pairs.join(',')} ${1_700_000_000_000_000_000n + BigInt(second) * 1_000_000_000n}\n`
  }
  return Array.from({ length: bodies }, (_, body) =>
    Buffer.from(
      Array.from({ length: linesABody }, (_line, line) => lineOf(body * linesABody + line)).join(
        '',
      ),
    ),
  )
}

const openDoor = async () => {
  const child = fork(new URL('./intake-http-door.ts', import.meta.url))
  const gone = once(child, 'exit').then(() => Promise.reject(new Error('the door has ended')))
  gone.catch(() => {})
  const heard = () => Promise.race([once(child, 'message'), gone])
  const [{ port }] = (await heard()) as [{ port: number }]
  const cpuUs = async () => {
    child.send('cpu')
    const [{ cpuUs: used }] = (await heard()) as [{ cpuUs: number }]
    return used
  }
  const close = async () => {
    const exited = once(child, 'exit')
    child.disconnect()
    await exited
  }
  return { port, cpuUs, close }
}

const post = (port: number, agent: Agent, body: Buffer, encoding: string) =>
  new Promise<void>((resolve, reject) => {
    const headers = { 'content-encoding': encoding, 'content-length': body.length }
    const options = { port, agent, headers, method: 'POST', path: '/write' }
    const sending = request(options, (response) => {
      response.resume()
      response.once('end', () =>
        response.statusCode === 204 ? resolve() : reject(new Error(`HTTP ${response.statusCode}`)),
      )
    })
    sending.once('error', reject)
    sending.end(body)
  })

/** Million points per CPU-second of the door's process. */
const measure = async (shape: Shape, encoding: 'identity' | 'gzip'): Promise<number> => {
  const plain = bodiesOf(shape)
  const sent = encoding === 'gzip' ? plain.map((body) => gzipSync(body)) : plain
  const door = await openDoor()
  const connections = pointsAWindow / (linesABody * shape.fields)
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const round = async () => {
    const queue = sent.slice()
    const lane = async () => {
      for (let body = queue.pop(); body; body = queue.pop()) {
        await post(door.port, agent, body, encoding)
      }
    }
    await Promise.all(Array.from({ length: connections }, lane))
  }
  try {
    const pointsARound = bodies * linesABody * shape.fields
    for (let sent = 0; sent < pointsToWarm; sent += pointsARound) await round()
    const before = await door.cpuUs()
    let points = 0
    for (; points < pointsToMeasure; points += pointsARound) await round()
    return points / ((await door.cpuUs()) - before)
  } finally {
    agent.destroy()
    await door.close()
  }
}

/** The reader alone, in this process. */
const measureParser = (shape: Shape): number => {
  const all = bodiesOf(shape)
  const parser = createLineParser(createSeriesTable({ agent: 'bench', seriesIdOf }))
  let [best, points] = [0, 0]
  for (let at = 0; at < 8; at++) {
    const before = process.cpuUsage()
    points = 0
    for (const body of all) {
      const reading = parser.read(body, 'ns')
      while (!reading.done()) points += reading.next(20_000).count
    }
    const { user, system } = process.cpuUsage(before)
    best = Math.max(best, points / (user + system))
  }
  return best
}

const one = { fields: 1, tags: 3 }
const ten = { fields: 10, tags: 3 }
export const bench = async () => ({
  http_line_mpts_per_cpu_s: await measure(ten, 'identity'),
  http_line_1_field_mpts_per_cpu_s: await measure(one, 'identity'),
  http_line_gzip_mpts_per_cpu_s: await measure(ten, 'gzip'),
  line_parse_mpts_per_cpu_s: measureParser(ten),
  line_parse_1_field_mpts_per_cpu_s: measureParser(one),
})
