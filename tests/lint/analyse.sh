#!/bin/sh
# analyse.sh OUT FILE - one source through gcc -fanalyzer, cppcheck and clang-tidy; a stamp in OUT when it is clean.
set -eu
out=$1 file=$2
stamp=$out/$(echo "$file" | tr / _).ok
log=$out/$(echo "$file" | tr / _).log
flags="-Iinclude -D_GNU_SOURCE -DPST_VERSION=\"0\""
bad=0

# shellcheck disable=SC2086 # a list of flags
{
    gcc -std=c17 -Wall -Wextra -Werror $flags -O2 -fanalyzer -pthread -c "$file" -o /dev/null || bad=1
    cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
        --suppress=missingIncludeSystem -D_GNU_SOURCE -Iinclude "$file" || bad=1
    clang-tidy --quiet --warnings-as-errors='*' \
        --checks='-*,clang-analyzer-*,bugprone-*,-bugprone-easily-swappable-parameters,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling' \
        "$file" -- -std=c17 $flags || bad=1
} >"$log" 2>&1
if [ "$bad" -ne 0 ]; then
    echo "lint: $file"
    grep -vE '^[0-9]+ warnings? generated|^Suppressed|^Use -header' "$log" | sed 's/^/    /' | head -n 60
    exit 1
fi
touch "$stamp"
