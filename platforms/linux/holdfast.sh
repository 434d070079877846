#!/bin/sh
# The bundle on the Node that came with it, wherever both are unpacked.
lib=$(dirname "$(dirname "$(readlink -f "$0")")")/lib/holdfast
exec "$lib/bin/node" "$lib/agent.mjs" "$@"
