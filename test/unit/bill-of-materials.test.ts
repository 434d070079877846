/** The bill of materials names all that is in a package which this project did not write, and says it validly. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { test } from 'node:test'
import { Ajv } from 'ajv'
import ajvFormats from 'ajv-formats'
import { billOfMaterials, notices } from '../../build/bill-of-materials.ts'
import { bundleWithParts } from '../../build/bundle.ts'
import { architectures, locate, nativeParts, root } from '../../build/package-parts.ts'
import { temporaryFolder } from '../support/temp.ts'

interface Component {
  readonly type: string
  readonly 'bom-ref': string
  readonly name: string
  readonly version: string
  readonly purl?: string
  readonly licenses?: readonly { readonly expression: string }[]
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[]
  readonly components?: readonly Component[]
}
interface Bill {
  readonly bomFormat: string
  readonly specVersion: string
  readonly version: number
  readonly components: readonly Component[]
}
const { packages } = await bundleWithParts(join(temporaryFolder('bill'), 'dist'))
const inPackage = [...packages, 'node_modules/better-sqlite3', 'node_modules/lz4-napi']
const billOf = (folders: readonly string[]) =>
  JSON.parse(billOfMaterials('amd64', '1.2.3', folders)) as Bill
const bill = billOf(inPackage)

/** npm packages that the program's own sources ask for by name. */
const imported = (): ReadonlySet<string> => {
  const files = globSync(['src/**/*.ts', 'platforms/linux/*.ts'], { cwd: root })
  const names = files.flatMap((file) =>
    [
      ...readFileSync(join(root, file), 'utf8').matchAll(
        /^(?!import type).*\b(?:from|import\()\s*'([@a-z][\w@/:.-]*)'/gm,
      ),
    ].map(([, name = '']) => name),
  )
  const plain = names.map((name) =>
    name
      .split('/')
      .slice(0, name.startsWith('@') ? 2 : 1)
      .join('/'),
  )
  return new Set(plain.filter((name) => !isBuiltin(name)))
}
const missingFrom = ({ components }: Bill): readonly string[] =>
  [...imported()].filter((name) => !components.some((one) => one.name === name))

test('every npm package that the sources import is in it, with the version that is installed', () => {
  assert.ok(imported().size > 10)
  assert.deepEqual(missingFrom(bill), [])
  const libraries = bill.components.filter(({ purl }) => purl?.startsWith('pkg:npm/'))
  assert.equal(libraries.length, inPackage.length)
  for (const folder of inPackage) {
    const own = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
    assert.ok(
      libraries.some(({ name, version }) => name === own.name && version === own.version),
      folder,
    )
  }
  for (const tool of ['typescript', 'esbuild', 'fast-check', '@biomejs/biome'])
    assert.ok(!libraries.some(({ name }) => name === tool), tool)
})

test('a package that is left out is found, and one that is not in the lock file is refused', () => {
  assert.deepEqual(missingFrom(billOf(inPackage.filter((one) => !one.endsWith('/pino')))), ['pino'])
  assert.throws(() => billOf(['node_modules/nowhere']), /not in the lock file/)
})

test('Node, the libraries in it, SQLite and every binary are in it, as they are', () => {
  const named = (name: string) => bill.components.find((one) => one.name === name)
  const node = nativeParts('amd64').find(({ path }) => path === 'bin/node')
  assert.ok(node)
  const native = process.arch === 'x64' ? locate(node) : process.execPath
  const said = execFileSync(native, ['--version'], { encoding: 'utf8' }).trim()
  assert.equal(`v${named('node')?.version}`, said)
  for (const library of ['openssl', 'v8', 'zlib', 'llhttp'])
    assert.ok(
      named('node')?.components?.some(({ name }) => name === library),
      library,
    )
  assert.match(named('sqlite')?.version ?? '', /^3\.\d+\.\d+$/)
  const { path } = nativeParts('amd64')[1] ?? assert.fail()
  const file = readFileSync(locate(nativeParts('amd64')[1] ?? assert.fail()))
  assert.equal(named(path)?.hashes?.[0]?.content, createHash('sha256').update(file).digest('hex'))
})

/** What the official JSON Schema of CycloneDX 1.5 has against it; [] when nothing. */
const schemaErrors = (() => {
  const folder = join(root, 'node_modules/@cyclonedx/cyclonedx-library/res/schema')
  const read = (name: string) =>
    JSON.parse(readFileSync(join(folder, `${name}.SNAPSHOT.schema.json`), 'utf8'))
  // Strict is about how a schema is written; this one has words for readers.
  const ajv = new Ajv({ allErrors: true, strict: false })
  ajvFormats.default(ajv)
  // Not among the formats, and not in our bill: whatever has one is refused.
  for (const format of ['iri-reference', 'idn-email']) ajv.addFormat(format, () => false)
  for (const name of ['spdx', 'jsf-0.82'])
    ajv.addSchema(read(name), `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`)
  const validate = ajv.compile(read('bom-1.5'))
  return (value: unknown): readonly string[] => {
    if (validate(value)) return []
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
  }
})()

test('the official schema of CycloneDX has nothing against it, on either architecture', () => {
  for (const arch of architectures)
    assert.deepEqual(schemaErrors(JSON.parse(billOfMaterials(arch, '1.2.3', inPackage))), [])
  const [first, ...others] = bill.components
  assert.ok(first)
  for (const [wrong, said] of [
    [{ ...bill, bomFormat: 'SPDX' }, /bomFormat/],
    [{ ...bill, componets: [] }, /additional properties/],
    [{ ...bill, components: [{ ...first, type: 'program' }, ...others] }, /components\/0\/type/],
    [{ ...bill, components: [first, first] }, /duplicate items/],
    [
      { ...bill, components: [{ ...first, hashes: [{ alg: 'SHA-256', content: 'x' }] }] },
      /hashes\/0\/content/,
    ],
    [{ ...bill, components: [{ ...first, version: 24 }] }, /version must be string/],
  ] as const)
    assert.match(schemaErrors(wrong).join('\n'), said)
})

test('it is CycloneDX 1.5, the same from build to build, and each entry stands once', () => {
  assert.deepEqual([bill.bomFormat, bill.specVersion, bill.version], ['CycloneDX', '1.5', 1])
  for (const arch of architectures)
    assert.equal(billOfMaterials(arch, '1', inPackage), billOfMaterials(arch, '1', inPackage))
  const all = bill.components.flatMap((one) => [one, ...(one.components ?? [])])
  const references = all.map((one) => one['bom-ref'])
  assert.equal(new Set(references).size, references.length)
  const lengths: Readonly<Record<string, number>> = { 'SHA-512': 128, 'SHA-256': 64 }
  for (const { type, name, version, licenses = [], hashes = [] } of all) {
    assert.match(type, /^(application|library|file)$/)
    assert.ok(name !== '' && version !== '', name)
    for (const { expression } of licenses)
      assert.match(expression, /^[\w.-]+( (AND|OR) [\w.-]+)*$/, `${name}: ${expression}`)
    for (const { alg, content } of hashes)
      assert.match(content, new RegExp(`^[0-9a-f]{${lengths[alg]}}$`), name)
  }
})

test('every package in it has its notice', () => {
  const text = notices(inPackage)
  for (const { name, version, purl } of bill.components)
    if (purl?.startsWith('pkg:npm/')) assert.ok(text.includes(`\n${name} ${version} (`), name)
})
