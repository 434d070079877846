/**
 * Holds one thread of a process still, as a call into a dead disk would, while the others run: ptrace(2) by a program
 * of perl-base. Needs root. The thread goes on when the holder is killed.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { type Running, start } from './processes.ts'

/** PTRACE_SEIZE, then PTRACE_INTERRUPT, which a tracer must await. */
const program = `
  my ($call, $thread) = @ARGV;
  syscall($call + 0, 0x4206, $thread + 0, 0, 0) == 0 or die "seize: $!";
  syscall($call + 0, 0x4207, $thread + 0, 0, 0) == 0 or die "interrupt: $!";
  waitpid($thread, 0x40000000); $| = 1; print "held\\n";
  # A thread that was killed is gone only once its tracer has seen it.
  waitpid($thread, 0x40000000)`

/** `pid` as the host counts; the thread is the first whose name matches. */
export const holdThread = async (pid: number, name: RegExp): Promise<Running> => {
  const thread = readdirSync(`/proc/${pid}/task`).find((one) =>
    name.test(readFileSync(`/proc/${pid}/task/${one}/comm`, 'utf8')),
  )
  if (thread === undefined) throw new Error(`process ${pid} has no thread ${name}`)
  const holder = start('perl', ['-e', program, process.arch === 'arm64' ? '117' : '101', thread])
  await holder.says('held')
  return holder
}
