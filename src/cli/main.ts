#!/usr/bin/env node
/** The command: looks at the Node that runs it before anything native is loaded, then hands over to `program.ts`. */
const major = Number(process.versions.node.split('.')[0])
if (major < 24) {
  process.stderr.write(
    `holdfast: Node ${process.versions.node} runs this, but 24 or later is needed.\n` +
      '  In a clone, `npm run holdfast -- VERB` uses the right one; else install Node 24 from nodejs.org.\n',
  )
  process.exitCode = 1
} else {
  const { runProgram } = await import('./program.ts')
  process.exitCode = await runProgram(process.argv.slice(2), process.env)
}

export {}
