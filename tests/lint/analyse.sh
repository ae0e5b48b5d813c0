#!/bin/sh
# analyse.sh OUT FILE - one source through gcc -fanalyzer, cppcheck and clang-tidy; a stamp in OUT when it is clean.
# A finding that was looked into and is none stands in accepted.txt: file, name of the check, why.
set -eu
out=$1 file=$2
stamp=$out/$(echo "$file" | tr / _).ok
log=$out/$(echo "$file" | tr / _).log
flags="-Iinclude -isystem $(pg_config --includedir) -D_GNU_SOURCE -DPST_VERSION=\"0\""
# Left out of bugprone: swappable parameters (a matter of taste), narrowing and widening (gcc -Wconversion has them),
# sizeof of pointers (tables of pointers), equal branches (one case a line is wanted).
checks='-*,clang-analyzer-*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions'
checks="$checks,-bugprone-implicit-widening-of-multiplication-result,-bugprone-sizeof-expression,-bugprone-branch-clone"
checks="$checks,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling"

# shellcheck disable=SC2086 # a list of flags
{
    gcc -std=c17 -Wall -Wextra $flags -O2 -fanalyzer -pthread -c "$file" -o /dev/null || echo "$file: error: gcc [gcc]"
    cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr \
        --suppress=missingIncludeSystem --suppress=internalAstError --suppress=comparePointers \
        --template='{file}:{line}:{column}: {severity}: {message} [{id}]' -D_GNU_SOURCE -Iinclude "$file"
    clang-tidy --quiet --checks="$checks" "$file" -- -std=c17 $flags || echo "$file: error: clang-tidy [clang-tidy]"
} >"$log" 2>&1

# every line that ends in [check] is a finding; notes that explain it are not
grep -E '^[^ ].*: (error|warning|style|performance|portability):? .*\[[^]]+\]$' "$log" | sed "s|^$PWD/||" | sort -u |
while IFS= read -r line; do
    at=${line%%:*}
    check=$(echo "$line" | sed 's/.*\[\([^]]*\)\]$/\1/; s/^-W//')
    grep -v '^#' tests/lint/accepted.txt | grep -qE "^$at[[:space:]]+$check[[:space:]]" || echo "$line"
done >"$log.left"
if [ -s "$log.left" ]; then
    sed 's/^/lint: /' "$log.left"
    exit 1
fi
touch "$stamp"
