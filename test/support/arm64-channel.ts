/**
 * How a test speaks with a machine that has no network: commands and their answers over a port of virtio-serial, one
 * after another. A request is `LENGTH LENGTH\n`, a script of `sh -eu`, and what it reads; an answer `CODE LENGTH\n` and
 * what it said.
 *
 * Invariants: answers come in the order of the requests; a request is answered, or rejected when its machine is gone or
 * its time is over, after which nothing more is asked.
 */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'

export const portName = 'holdfast.test'

/** The far side; perl-base is on every Debian. */
export const channelProgram = `#!/usr/bin/perl
use strict;
use warnings;
use Fcntl;
my $port;
for my $folder (glob '/sys/class/virtio-ports/*') {
    open my $name, '<', "$folder/name" or next;
    next unless (<$name> // '') eq "${portName}\\n";
    sysopen $port, '/dev/' . ($folder =~ s{.*/}{}r), O_RDWR or die "channel: $!\\n";
}
die "channel: no port\\n" unless $port;
my $buffer = '';
sub more { sysread($port, $buffer, 1 << 16, length $buffer) or sleep 1 }
sub part {
    my ($size, $file) = @_;
    more() while length $buffer < $size;
    open my $out, '>', $file or die "channel: $!\\n";
    print {$out} substr $buffer, 0, $size, '';
    close $out;
}
while (1) {
    my @sizes;
    more() until @sizes = $buffer =~ /^(\\d+) (\\d+)\\n/;
    $buffer =~ s/^.*\\n//;
    part($sizes[0], '/run/channel-script');
    part($sizes[1], '/run/channel-input');
    my $said = qx(exec sh -eu /run/channel-script </run/channel-input 2>&1);
    my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    my $answer = $code . ' ' . length($said) . "\\n" . $said;
    while (length $answer) { substr $answer, 0, syswrite($port, $answer) // die("channel: $!\\n"), '' }
}
`
/** The second disk holds what the test brings along, this program too: the first is the same for all tests. */
export const channelUnit = `[Unit]
Description=Commands of the test
[Service]
ExecStartPre=/bin/sh -ec 'mkdir -p /drop; tar -x -f /dev/vdb -C /drop'
ExecStart=/usr/bin/perl /drop/channel
Environment=HOME=/root
`

export interface Answer {
  readonly code: number
  readonly output: Buffer
}
export type Ask = (script: string, input?: Buffer) => Promise<Answer>

const askMs = 600_000

/** Waits on a Unix socket for the machine; `gone` fires when it is no more, and `why` says what it said last. */
export const listenForMachine = async (
  path: string,
  { gone, why }: { gone: AbortSignal; why: () => string },
): Promise<Ask> => {
  const server = createServer().listen(path)
  await once(server, 'listening')
  const [socket] = (await once(server, 'connection', { signal: gone })) as [Socket]
  server.close()
  let got = Buffer.alloc(0)
  let look = () => {}
  socket.on('data', (data) => {
    got = Buffer.concat([got, data])
    look()
  })
  // The machine's end tells of itself by `gone`.
  socket.on('error', () => {})
  const answered = (signal: AbortSignal): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const stop = () => reject(new Error(`the machine does not answer:\n${why()}`))
      look = () => {
        const [head, code, length] = /^(\d+) (\d+)\n/.exec(got.toString('latin1', 0, 40)) ?? []
        if (head === undefined || got.length < head.length + Number(length)) return
        signal.removeEventListener('abort', stop)
        look = () => {}
        const end = head.length + Number(length)
        resolve({ code: Number(code), output: got.subarray(head.length, end) })
        got = got.subarray(end)
      }
      if (signal.aborted) stop()
      else signal.addEventListener('abort', stop, { once: true })
    })
  let last: Promise<unknown> = Promise.resolve()
  return (script, input = Buffer.alloc(0)) => {
    const answer = last.then(() => {
      const text = Buffer.from(script)
      socket.write(Buffer.concat([Buffer.from(`${text.length} ${input.length}\n`), text, input]))
      return answered(AbortSignal.any([gone, AbortSignal.timeout(askMs)]))
    })
    last = answer
    // Whoever asked is told; the next one as well, since it waits for this.
    answer.catch(() => {})
    return answer
  }
}
