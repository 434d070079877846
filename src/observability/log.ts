/**
 * Log lines over pino, in the form the reader of stderr understands: plain on a terminal, `<priority>` for journald
 * (entries with fields where its own socket is open), JSON else. Level says who must act: warn recovers by itself,
 * error needs a person.
 *
 * Invariants: one event is one line, whatever its fields hold; no secret leaves (`redact.ts`); logging never throws.
 */
import { writeSync } from 'node:fs'
import pino from 'pino'
import type { Log, LogFields } from '../host.ts'
import { isJournal } from '../service-manager.ts'
import { printable } from './printable.ts'
import { createRedactor, type Redactor, withoutSecrets } from './redact.ts'

export type LogKind = 'tty' | 'journald' | 'json'
export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

export interface LogOptions {
  readonly kind: LogKind
  readonly level: LogLevel
  /** Where lines go; stderr, written synchronously, unless given. */
  readonly stream?: { readonly write: (line: string) => void }
  /** Takes entries of the journal's own protocol, with fields; false: not taken, the line goes to the stream. */
  readonly journal?: { readonly identifier: string; readonly take: (entry: string) => boolean }
  readonly redactor?: Redactor
  readonly color?: boolean
  /** Wall clock in microseconds; the system's unless given. */
  readonly nowUs: () => number
}

const lineCharsMax = 16_384
const priorities: Readonly<Record<string, number>> = { debug: 7, info: 6, warn: 4, error: 3 }
const colors: Readonly<Record<string, string>> = { debug: '2', info: '0', warn: '33', error: '31' }

export const logKindOf = (isTty: boolean, ...stderr: Parameters<typeof isJournal>): LogKind => {
  if (isTty) return 'tty'
  return isJournal(...stderr) ? 'journald' : 'json'
}

const valueText = (value: unknown): string => {
  if (typeof value === 'string')
    return /^[^\s"=]+$/.test(value) ? printable(value) : JSON.stringify(printable(value))
  return printable(JSON.stringify(value) ?? String(value))
}
type Line = Record<string, unknown> & { level: string; time: string; event: string }
const plain = (line: Line, kind: 'tty' | 'journald', color: boolean): string => {
  const { level, time, event, ...fields } = line
  const rest = Object.entries(fields)
    .map(([name, value]) => ` ${name}=${valueText(value)}`)
    .join('')
  if (kind === 'journald') return `<${priorities[level] ?? 6}>${printable(event)}${rest}`
  const head = `${time.slice(11, 23)} ${level.toUpperCase().padEnd(5)}`
  const shown = color ? `\x1b[${colors[level] ?? '0'}m${head}\x1b[0m` : head
  return `${shown} ${printable(event)}${rest}`
}

/** `waitMs` is HOLDFAST_WAIT_MS: journald allows capitals, digits and `_`, 64 of them. */
const journalName = (name: string): string => {
  const words = name.replaceAll(/[a-z](?=[A-Z])/g, '$&_').toUpperCase()
  return `HOLDFAST_${words.replaceAll(/[^A-Z0-9_]/g, '_')}`.slice(0, 64)
}
/** Every value is one line, as in the message, so the protocol's plain form holds it. */
const journalEntry = (line: Line, message: string, identifier: string): string => {
  const { level, time: _, event, ...rest } = line
  const named = Object.entries({ event, ...rest }).map(([name, value]) => [
    journalName(name),
    printable(typeof value === 'string' ? value : (JSON.stringify(value) ?? '')),
  ])
  const fields = {
    MESSAGE: message,
    PRIORITY: priorities[level] ?? 6,
    SYSLOG_IDENTIFIER: identifier,
  }
  return [...Object.entries(fields), ...named].map(([name, text]) => `${name}=${text}\n`).join('')
}

const standardError = {
  write: (line: string) => {
    try {
      writeSync(2, line)
    } catch {
      // stderr is closed or full: the agent's work goes on without its log.
    }
  },
}

const ownNames = new Set(['level', 'time', 'event'])
/** Fields without secrets; one that is named like a part of the line keeps its value under another name. */
const cleaned = (fields: LogFields, hide: Redactor['hide']): object =>
  Object.fromEntries(
    Object.entries(withoutSecrets(fields, hide) as object).map(([name, value]) => [
      ownNames.has(name) ? `${name}_` : name,
      value,
    ]),
  )
const wrap = (logger: pino.Logger, { hide }: Pick<Redactor, 'hide'>): Log => {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (event: string, fields: LogFields = {}) => {
      try {
        logger[level](cleaned(fields, hide), '%s', hide(event))
      } catch {
        // A field that cannot be printed must not stop the work that mentions it.
      }
    }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => wrap(logger.child(cleaned(fields, hide)), { hide }),
  }
}

export const createLog = (options: LogOptions): Log => {
  const { kind, nowUs, stream = standardError, color = false } = options
  const redactor = options.redactor ?? createRedactor()
  const write = (json: string) => {
    const line = JSON.parse(json) as Line
    const text = kind === 'json' ? json.trimEnd() : plain(line, kind, color)
    if (options.journal && kind === 'journald' && text.length <= lineCharsMax) {
      const entry = journalEntry(line, text.replace(/^<\d>/, ''), options.journal.identifier)
      if (options.journal.take(entry)) return
    }
    if (text.length <= lineCharsMax) return stream.write(`${text}\n`)
    const { level, time } = line
    const start = text.slice(0, lineCharsMax)
    stream.write(
      kind === 'json'
        ? `${JSON.stringify({ level, time, event: line.event.slice(0, 200), cut: start })}\n`
        : `${start}…\n`,
    )
  }
  return wrap(
    pino(
      {
        level: options.level,
        base: null,
        messageKey: 'event',
        timestamp: () => `,"time":"${new Date(nowUs() / 1000).toISOString()}"`,
        formatters: { level: (level) => ({ level }) },
      },
      { write },
    ),
    redactor,
  )
}
