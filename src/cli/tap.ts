/** `holdfast tap`: points as they become durable, until Ctrl-C or --count. */
import type { TapJson } from '../control/wire.ts'
import { exitCodes } from '../errors.ts'
import { printable } from '../observability/printable.ts'
import type { CliContext } from './context.ts'

type Line = TapJson | { readonly skipped: number }

export const tapLine = (point: TapJson): string => {
  const tags = Object.entries(point.tags)
    .map(([name, value]) => `,${name}=${value}`)
    .join('')
  const value = point.kind === 'string' ? JSON.stringify(point.value) : String(point.value)
  const mark = point.quality === 'good' ? '' : `  ${point.quality}`
  return printable(`${point.time}  ${point.series}${tags}  ${value}${mark}`)
}

export const tap = async (
  context: CliContext,
  options: { readonly count?: number },
  series = '*',
): Promise<number> => {
  const client = await context.client()
  let left = options.count ?? Number.POSITIVE_INFINITY
  context.say('waiting for points; Ctrl-C ends')
  await client.lines(
    `/v1/tap?series=${encodeURIComponent(series)}`,
    (text) => {
      const line = JSON.parse(text) as Line
      if ('skipped' in line) {
        context.warn(`${line.skipped} points skipped: too many to show`)
        return true
      }
      context.out(context.flags.json ? text : tapLine(line))
      return --left > 0
    },
    context.signal,
  )
  return exitCodes.good
}
