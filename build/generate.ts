/**
 * `node build/generate.ts`: writes the files of this repository that are made from others: the dashboards, the reference
 * of the configuration.
 * Invariant: what is in the repository is what this writes (test/unit/generated.test.ts).
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { referencePage } from './config-reference.ts'
import { fleet } from './dashboard-fleet.ts'
import { gateway } from './dashboard-gateway.ts'

const root = join(import.meta.dirname, '..')
export const dashboards = { gateway, fleet }

/** Content by path, relative to the repository. */
export const generated = (): Readonly<Record<string, string>> => ({
  'docs/operate/config-reference.md': referencePage(),
  ...Object.fromEntries(
    Object.entries(dashboards).map(([name, one]) => [
      `platforms/grafana/${name}.json`,
      `${JSON.stringify(one, null, 1)}\n`,
    ]),
  ),
})

if (import.meta.main)
  for (const [path, content] of Object.entries(generated())) {
    writeFileSync(join(root, path), content)
    process.stdout.write(`${path}\n`)
  }
