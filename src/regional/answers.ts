/**
 * The region's answers as HTTP: what each refusal and each trouble of the store is called; pure.
 * Invariant: whatever an agent is told about waiting also stands in `Retry-After`.
 */
import type { StoreTrouble } from '../database/store.ts'
import { contentTypes } from '../protocol/relay.ts'
import { errorAnswer, errorTextMax, type RelayError } from '../protocol/relay-messages.ts'

export interface RelayResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}
export interface Refusal {
  readonly status: number
  readonly error: RelayError
}

/**
 * Every refusal that is about waiting carries Retry-After in whole seconds, so that any client
 * understands it.
 */
export const respondError = ({ status, error }: Refusal): RelayResponse => ({
  status,
  headers: {
    'content-type': contentTypes.json,
    ...(error.afterMs === undefined
      ? {}
      : { 'retry-after': String(Math.ceil(error.afterMs / 1000)) }),
  },
  // A database may have much to say; what does not fit the message would not be understood.
  body: errorAnswer.encode({ error: { ...error, text: error.text.slice(0, errorTextMax) } }),
})
export const respond = (body: Uint8Array): RelayResponse => ({
  status: 200,
  headers: { 'content-type': contentTypes.json },
  body,
})
export const badRequest = (text: string, status = 400): Refusal => ({
  status,
  error: { code: 'bad-request', text },
})

export const refusalOf = (trouble: StoreTrouble): Refusal => {
  switch (trouble.kind) {
    case 'need-series': {
      const text = `series of epoch ${trouble.epoch} are known below ${trouble.first} only`
      const { epoch, first } = trouble
      return { status: 409, error: { code: 'need-series', text, epoch, first } }
    }
    case 'need-hello':
      return {
        status: 409,
        error: { code: 'need-hello', text: 'this epoch was never introduced here' },
      }
    case 'fenced':
      return { status: 403, error: { code: 'fenced', text: trouble.text } }
    case 'fork':
      return { status: 409, error: { code: 'fork', text: trouble.text } }
    case 'later': {
      const { text, afterMs, stalled } = trouble
      const after = afterMs === undefined ? {} : { afterMs: Math.ceil(afterMs) }
      const less = stalled === undefined ? {} : { stalled }
      return { status: 503, error: { code: 'unavailable', text, ...after, ...less } }
    }
    case 'blocked': {
      const text = `${trouble.code}: ${trouble.text}`
      return { status: 503, error: { code: 'blocked', text, hint: trouble.hint } }
    }
  }
}
