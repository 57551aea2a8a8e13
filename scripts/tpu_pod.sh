#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU pod slice:
#   bash scripts/tpu_pod.sh NAME ZONE --config=configs/resnet18.py --workdir=/mnt/shared/runs/resnet18
#
# NAME is a TPU VM that exists in ZONE, with this repository in ~/cifar_cnn on every host and its
# environment made there (.venv with the extra [tpu]). --workdir lies on storage that all hosts mount.
# The same command again goes on after the last checkpoint, for example after a preemption.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash scripts/tpu_pod.sh NAME ZONE FLAGS-OF-cifar_cnn.main" >&2
    exit 2
fi
name="$1" zone="$2"
shift 2

# Every host asks the metadata server which of them it is. JAX would ask the same, but later.
# shellcheck disable=SC2016  # Expanded on the hosts.
remote='
set -euo pipefail
cd ~/cifar_cnn
ask() { curl --fail --silent --show-error --header "Metadata-Flavor: Google" \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"; }
# NAME:NUMBER:ADDRESS,NAME:NUMBER:ADDRESS or ADDRESS,ADDRESS
hosts=$(ask worker-network-endpoints | tr "," "\n" | sed "s/.*://")
first=$(echo "$hosts" | sed -n 1p)
count=$(echo "$hosts" | wc -l)
number=$(ask agent-worker-number)
export JAX_COORDINATOR_ADDRESS="$first:8476" JAX_NUM_PROCESSES="$count" JAX_PROCESS_ID="$number"
exec .venv/bin/python -m cifar_cnn.main --config.run.platform=tpu "$@"
'
quoted=$(printf ' %q' "$@")
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="bash -c $(printf '%q' "$remote") train$quoted"
