/** The program of the spool's thread, for those who start it beside an agent. */
export const spoolWorkerUrl = new URL('../../src/spool-worker.ts', import.meta.url)
