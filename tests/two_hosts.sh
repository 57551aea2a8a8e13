#!/usr/bin/env bash
# Runs a command as two hosts with addresses of their own: unshare -rnmu bash two_hosts.sh FOLDER COMMAND
#
# Both are network namespaces of this machine, left (10.77.0.1) and right (10.77.0.2), joined by a
# cable. The command gets --coordinator_address, --num_processes and --process_id.
set -euo pipefail
folder=$1
shift

printf '127.0.0.1 localhost\n10.77.0.1 left\n10.77.0.2 right\n' > "$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
hostname left
ip link set lo up
unshare -nu sh -c 'hostname right && echo ready && exec sleep 1000' > "$folder/right" &
right=$!
other=
trap 'kill $right $other 2>/dev/null || true' EXIT
until grep -q ready "$folder/right"; do sleep 0.05; done
on_right=(nsenter --target "$right" --net --uts)
ip link add cable type veth peer name cable netns "$right"
ip address add 10.77.0.1/24 dev cable
ip link set cable up
"${on_right[@]}" ip link set lo up
"${on_right[@]}" ip address add 10.77.0.2/24 dev cable
"${on_right[@]}" ip link set cable up

flags=(--coordinator_address=10.77.0.1:5000 --num_processes=2)
"${on_right[@]}" "$@" "${flags[@]}" --process_id=1 > "$folder/right.log" 2>&1 &
other=$!
"$@" "${flags[@]}" --process_id=0
wait "$other"
