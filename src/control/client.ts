/**
 * Asks a running agent over its control socket.
 * Invariant: every way of not getting an answer is a Failure that says what to do; HF-X005 is "no agent there".
 */
import { type IncomingMessage, request } from 'node:http'
import { createInterface } from 'node:readline'
import { Failure, textOf } from '../errors.ts'

export interface ControlClient {
  readonly get: <T>(path: string) => Promise<T>
  readonly text: (path: string) => Promise<string>
  readonly post: <T>(path: string, body?: unknown) => Promise<T>
  /** Calls `take` with each line, until the agent ends, `signal` fires, or `take` answers false. */
  readonly lines: (
    path: string,
    take: (line: string) => boolean,
    signal?: AbortSignal,
  ) => Promise<void>
}

const answerBytesMax = 64 << 20
const unreachable = (socket: string, error: NodeJS.ErrnoException): Failure => {
  if (error.code === 'EACCES' || error.code === 'EPERM')
    return new Failure(
      'HF-X077',
      `no permission to open ${socket}`,
      "run as root or as the agent's user: sudo -u holdfast",
    )
  return new Failure(
    'HF-X005',
    `no agent answers on ${socket} (${error.code ?? error.message})`,
    'is it running? systemctl status holdfast; by hand: holdfast run; or name its socket with --socket',
  )
}

export const createControlClient = (socket: string, timeoutMs: number): ControlClient => {
  const open = (method: string, path: string, body: string | null, signal?: AbortSignal) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      let answered = false
      const asked = request(
        {
          socketPath: socket,
          path,
          method,
          agent: false,
          timeout: timeoutMs,
          ...(signal ? { signal } : {}),
          headers: body === null ? {} : { 'content-type': 'application/json' },
        },
        (answer) => {
          answered = true
          resolve(answer)
        },
      )
      asked.once('timeout', () => {
        // A tap may be silent for as long as the plant is.
        if (!answered) asked.destroy(new Error(`no answer in ${timeoutMs} ms`))
      })
      asked.once('error', (error) => reject(unreachable(socket, error)))
      asked.end(body ?? undefined)
    })
  const read = async (answer: IncomingMessage): Promise<string> => {
    const parts: Buffer[] = []
    let bytes = 0
    try {
      for await (const part of answer as AsyncIterable<Buffer>) {
        bytes += part.length
        if (bytes > answerBytesMax) throw new Error('the answer is too long')
        parts.push(part)
      }
    } catch (error) {
      throw new Failure('HF-X005', `the agent broke off: ${textOf(error)}`, 'ask again')
    }
    return Buffer.concat(parts).toString('utf8')
  }
  const refuse = (text: string, status: number): Failure => {
    try {
      const { error } = JSON.parse(text) as { error: { code: string; text: string; hint: string } }
      return new Failure(error.code, error.text, error.hint)
    } catch {
      return new Failure('HF-X008', `the agent answered ${status}: ${text.slice(0, 200)}`)
    }
  }
  const ask = async (method: string, path: string, body: unknown): Promise<string> => {
    const answer = await open(method, path, body === undefined ? null : JSON.stringify(body))
    const text = await read(answer)
    if (answer.statusCode !== 200) throw refuse(text, answer.statusCode ?? 0)
    return text
  }
  return {
    get: async <T>(path: string) => JSON.parse(await ask('GET', path, undefined)) as T,
    text: (path) => ask('GET', path, undefined),
    post: async <T>(path: string, body: unknown = {}) =>
      JSON.parse(await ask('POST', path, body)) as T,
    lines: async (path, take, signal) => {
      const answer = await open('GET', path, null, signal)
      if (answer.statusCode !== 200) throw refuse(await read(answer), answer.statusCode ?? 0)
      try {
        for await (const line of createInterface({ input: answer })) if (!take(line)) break
      } catch (error) {
        if (!signal?.aborted) throw new Failure('HF-X005', `the agent broke off: ${textOf(error)}`)
      }
      answer.destroy()
    },
  }
}
