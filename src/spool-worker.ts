/** The program of the spool's thread: the one place beside the agent where the spool and its stages meet. */
import { remake, type StagesConfig, stagesOf } from './agent-stages.ts'
import { runSpoolWorker } from './spool/worker.ts'

runSpoolWorker((stages) => stagesOf((stages ?? []) as readonly StagesConfig[]), remake)
