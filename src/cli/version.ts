/** `holdfast version`: what runs, on what. */
import { version } from '../release.ts'
import type { CliContext } from './context.ts'

export const versionVerb = async (context: CliContext): Promise<number> => {
  const what = {
    holdfast: version,
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
  }
  if (context.flags.json) context.json(what)
  else context.out(`holdfast ${what.holdfast}  node ${what.node}  ${what.platform}`)
  return 0
}
