#!/bin/bash
# Two nodes, imitated by two network namespaces of this machine: is the model theirs as well?
#
#     sudo PATH=$PATH benchmarks/two_nodes.sh
#
# Trains once with torchrun on one "node", and once on two that see nothing of one another but a virtual cable;
# both with two processes. Prints the largest difference of their weights, and fails where it exceeds 1e-5.
set -euo pipefail

work=$(mktemp -d)
near=noref-near-$$ far=noref-far-$$
cleanup() {
    ip netns del "$near" 2>/dev/null || true
    ip netns del "$far" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$near"
ip netns add "$far"
ip link add cable netns "$near" type veth peer name cable netns "$far"
ip -n "$near" addr add 10.99.0.1/24 dev cable
ip -n "$far" addr add 10.99.0.2/24 dev cable
for node in "$near" "$far"; do
    ip -n "$node" link set lo up
    ip -n "$node" link set cable up
done

export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME
noref simulate "$work/scans" --scans 3 --slices 2 --coils 4 --matrix 48 --acceleration 2 2>/dev/null
train=(-m noref.cli train ssdu "data.target.path=$work/scans" "network={name: vsharp, steps: 2, features: 4}"
    training.epochs=1 training.batch=4 training.device=cpu training.precision=float32)

node() {
    local where=$1 address=$2 host=$3
    ip netns exec "$where" torchrun --nnodes 2 --nproc-per-node 1 --local-addr "$address" \
        --rdzv-backend c10d --rdzv-endpoint 10.99.0.1:29400 --rdzv-id noref --rdzv-conf "is_host=$host" \
        "${train[@]}" "output=$work/two" 2>"$work/$where.txt" >&2 || { cat "$work/$where.txt" >&2; return 1; }
}

GLOO_SOCKET_IFNAME=cable
node "$near" 10.99.0.1 1 &
first=$!
node "$far" 10.99.0.2 0
wait "$first"
sent=$(ip -n "$near" -s link show cable | awk '/TX:/ { getline; print $1 }')

GLOO_SOCKET_IFNAME=lo
ip netns exec "$near" torchrun --nnodes 1 --nproc-per-node 2 --local-addr 127.0.0.1 \
    --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:29500 \
    "${train[@]}" "output=$work/one" >"$work/one.txt" 2>&1 || { cat "$work/one.txt" >&2; exit 1; }

python - "$work" "$sent" <<'END'
import sys
from pathlib import Path

from safetensors.torch import load_file

one, two = (load_file(Path(sys.argv[1]) / run / "model" / "model.safetensors") for run in ("one", "two"))
apart = max(float((one[name] - two[name]).abs().max()) for name in one | two)
print(f"{len(one)} weights, {sys.argv[2]} bytes sent over the cable, at most {apart:.1e} apart")
sys.exit(apart > 1e-5)
END
