#!/usr/bin/perl
# launch COMMAND...: opens what Node cannot open, datagram sockets to the service manager and to the journal, and
# becomes COMMAND, in the same process, with them open and their numbers in the environment. perl-base is essential.
use strict;
use warnings;
use Socket qw(AF_UNIX SOCK_DGRAM SOCK_NONBLOCK pack_sockaddr_un);

# Descriptors up to this number survive exec.
$^F = 255;
my @open;

sub open_for {
    my ($name, $path) = @_;
    return if !defined $path || $path !~ m{^[/@]};
    $path =~ s/^@/\0/;
    socket(my $socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0) or return;
    connect($socket, pack_sockaddr_un($path)) or return;
    push @open, $socket;
    $ENV{$name} = fileno $socket;
    return 1;
}

delete @ENV{qw(HOLDFAST_NOTIFY_FD HOLDFAST_JOURNAL_FD)};
# Whoever is started from here has nothing to say to the manager.
delete $ENV{NOTIFY_SOCKET} if open_for('HOLDFAST_NOTIFY_FD', $ENV{NOTIFY_SOCKET});
open_for('HOLDFAST_JOURNAL_FD', '/run/systemd/journal/socket') if $ENV{JOURNAL_STREAM};
exec { $ARGV[0] } @ARGV or die "launch: cannot start $ARGV[0]: $!\n";
