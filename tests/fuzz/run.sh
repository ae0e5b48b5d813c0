#!/bin/sh
# run.sh SECONDS: every built fuzz target for so long, over its committed corpus.
#
# Inputs that the run finds stay under build/fuzz/found, crashing ones under build/fuzz/crashes. Ends
# with `P passed, F failed` and with 1 if a target failed or none is built.
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${1:-60}
passed=0
failed=0

for target in build/fuzz/*/fuzz_*; do
    [ -f "$target" ] && [ -x "$target" ] || continue
    layer=$(basename "$(dirname "$target")")
    name=$(basename "$target")
    corpus=tests/fuzz/$layer/corpus/${name#fuzz_}
    [ -d "$corpus" ] || corpus=tests/fuzz/$layer/corpus/$name
    [ -d "$corpus" ] || corpus=
    found=build/fuzz/found/$layer/$name
    crashes=build/fuzz/crashes/$layer
    mkdir -p "$found" "$crashes"
    log=build/fuzz/$layer-$name.log
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$crashes/$name-" "$found" ${corpus:+"$corpus"} >"$log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
        echo "ok   $layer/$name ($runs inputs)"
    else
        failed=$((failed + 1))
        echo "FAIL $layer/$name; the end of $log:"
        tail -n 20 "$log" | sed 's/^/    /'
    fi
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
