/**
 * What a package holds for people and their tools: manual pages, completions, schemas, changelog, licences, the bill of
 * materials, dashboards, alerts and their pages. Each at the place where Debian's tools look for it.
 * Invariant: nothing in it depends on the machine that builds: only on the commit and its time.
 */
import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { catalog } from '../src/config/catalog.ts'
import { regionalJsonSchema } from '../src/config/regional.ts'
import { configJsonSchema } from '../src/config/schema.ts'
import { version } from '../src/release.ts'
import { billOfMaterials, notices } from './bill-of-materials.ts'
import { bashCompletion, fishCompletion, zshCompletion } from './completions.ts'
import { configManual, manual } from './manual.ts'
import type { Stage } from './package-deb.ts'
import { type Architecture, root } from './package-parts.ts'

/**
 * Who answers for a package: the `author` of package.json, an address that by RFC 2606 reaches nobody, unless whoever
 * builds packages for others names themselves by Debian's own variables.
 */
export const maintainerFrom = (
  environment: Readonly<Record<string, string | undefined>>,
): string => {
  const { author } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly author: string
  }
  const [, name = '', address = ''] = /^(.*) <(.*)>$/.exec(author) ?? []
  return `${environment.DEBFULLNAME || name} <${environment.DEBEMAIL || address}>`
}
export const maintainer = maintainerFrom(process.env)
const documents = 'usr/share/doc/holdfast'
const columnsMax = 78

/** Lines of at most 78 columns, the first after `first`, the others after as many spaces. */
const wrapped = (text: string, first: string): string => {
  const lines: string[] = []
  let line = first
  for (const word of text.split(/\s+/)) {
    if (line.length + word.length >= columnsMax && line.trim() !== first.trim()) {
      lines.push(line.trimEnd())
      line = ' '.repeat(first.length)
    }
    line += `${word} `
  }
  return [...lines, line.trimEnd()].join('\n')
}
/** CHANGELOG.md in the form that Debian's tools read. */
const changelog = (seconds: number): string => {
  const text = readFileSync(join(root, 'CHANGELOG.md'), 'utf8')
  const newest = (text.split(/^## /m)[1] ?? '').split(/^- /m).slice(1)
  const changes = newest.map((one) => wrapped(one.trim(), '  * ')).join('\n')
  const date = new Date(seconds * 1_000).toUTCString().replace('GMT', '+0000')
  return `holdfast (${version}) unstable; urgency=medium\n\n${changes}\n\n -- ${maintainer}  ${date}\n`
}

interface Content {
  readonly arch: Architecture
  /** Of the commit, since 1970. */
  readonly seconds: number
  /** Folders of the npm packages in the program. */
  readonly packages: readonly string[]
}
export const stageDocuments = (
  { copy, put }: Pick<Stage, 'copy' | 'put'>,
  { arch, seconds, packages }: Content,
): void => {
  const packed = (text: string) => gzipSync(text, { level: 9 })
  const json = (value: object) => `${JSON.stringify(value, null, 1)}\n`
  const day = new Date(seconds * 1_000).toISOString().slice(0, 10)
  put('usr/share/man/man1/holdfast.1.gz', packed(manual(version, day)))
  put('usr/share/man/man5/holdfast.yaml.5.gz', packed(configManual(version, day)))
  put('usr/share/bash-completion/completions/holdfast', bashCompletion())
  put('usr/share/zsh/vendor-completions/_holdfast', zshCompletion())
  put('usr/share/fish/vendor_completions.d/holdfast.fish', fishCompletion())
  put('usr/share/holdfast/holdfast.schema.json', json(configJsonSchema(catalog)))
  put('usr/share/holdfast/regional.schema.json', json(regionalJsonSchema()))
  copy(join(root, 'platforms/linux/copyright'), `${documents}/copyright`)
  put(`${documents}/changelog.gz`, packed(changelog(seconds)))
  put(`${documents}/third-party.txt.gz`, packed(notices(packages)))
  put(`${documents}/sbom.cdx.json`, billOfMaterials(arch, version, packages))
  for (const file of globSync('platforms/{grafana,prometheus}/*.{json,yaml}', { cwd: root }))
    copy(join(root, file), `usr/share/holdfast/${file.replace('platforms/', '')}`)
  for (const file of globSync('docs/operate/runbooks/*.md', { cwd: root }))
    copy(join(root, file), `${documents}/runbooks/${basename(file)}`)
}
