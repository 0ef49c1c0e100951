#!/usr/bin/env bash
# Tests and measures GeePS on this machine's GPU, and writes one JSON file. Ends within 8 minutes.
# Usage: gpu-check.sh [RESULT]; without it gpu-HOST-DATE.json in the current directory.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
geeps=${GEEPS:-$here/bin/geeps}
[ -x "$geeps" ] || geeps=$here/../.build/release/geeps
result=${1:-gpu-$(hostname)-$(date +%F).json}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
started=$SECONDS
failed=()

if ! "$geeps" doctor --require cuda >"$work/doctor.txt" 2>"$work/doctor.err"; then
    cat "$work/doctor.err" >&2
    exit 69
fi
cat "$work/doctor.txt"

# step NAME SECONDS COMMAND...: its last line of output is its JSON; what fails does not end the others.
step() {
    local name=$1 limit=$2 begun=$SECONDS
    shift 2
    local left=$((470 - (SECONDS - started)))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -le 0 ]; then
        failed+=("$name (no time left)")
        return 1
    fi
    printf '%-34s' "$name"
    if timeout "$limit" "$@" >"$work/$name.out" 2>"$work/$name.err"; then
        printf 'ok      %3d s\n' $((SECONDS - begun))
        tail -1 "$work/$name.out" >"$work/$name.json"
    else
        local status=$?
        printf 'FAILED  %3d s (status %d)\n' $((SECONDS - begun)) "$status"
        tail -3 "$work/$name.err" >&2
        failed+=("$name")
        # A self-test that fails says in its JSON what.
        tail -1 "$work/$name.out" | grep '^{' >"$work/$name.json" || rm -f "$work/$name.json"
    fi
}

train() { "$geeps" train "$1" --json --quiet --set "memory.device=$2" "${@:3}"; }
digits=$here/Examples/digits.yaml
export -f train
export geeps

step doctor 30 "$geeps" doctor --json
step selftest 150 "$geeps" selftest --device cuda --json
step bench_device 60 "$geeps" bench device --device cuda --json
# The same seed on both: losses and accuracy must agree.
step digits_host 40 bash -c "train '$digits' host --workers 1"
step digits_cuda 40 bash -c "train '$digits' cuda --workers 1"
step digits_cuda_budget 40 bash -c "train '$here/Examples/budget.yaml' cuda --set memory.budget=60% --set output.directory='$work/run'"
for precision in float32 tf32 bf16; do
    step "wide_$precision" 30 bash -c "train '$here/Examples/wide.yaml' cuda --set train.precision=$precision"
done
step overhead 60 "$geeps" bench overhead "$here/Examples/wide.yaml" --set memory.device=cuda --json
step layers 30 "$geeps" bench layers "$here/Examples/wide.yaml" --set memory.device=cuda --json \
    --output "$work/wide.layers.json"
python=$(command -v python3 || true)
if [ -n "$python" ] && "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    step memory 240 "$python" "$here/Benchmarks/gpu_memory.py" --geeps "$geeps" --rounds 1 --timeout 60
else
    echo "no python3 with PyTorch and CUDA here: the comparison with PyTorch is left out"
fi

{
    printf '{"schema":"geeps.gpu-check/1","date":"%s","host":"%s","commit":"%s","seconds":%d' \
        "$(date -u +%FT%TZ)" "$(hostname)" "$(cat "$here/COMMIT" 2>/dev/null || echo unknown)" \
        $((SECONDS - started))
    printf ',"failed":['
    separator=
    for name in ${failed[@]+"${failed[@]}"}; do
        printf '%s"%s"' "$separator" "$name"
        separator=,
    done
    printf ']'
    for file in "$work"/*.json; do
        [ -s "$file" ] && printf ',"%s":%s' "$(basename "$file" .json)" "$(cat "$file")"
    done
    printf '}\n'
} >"$result"
echo "written to $result"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[*]}" >&2
    exit 1
fi
