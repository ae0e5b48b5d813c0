#!/bin/sh
# lint.sh - what the compiler alone does not say: gcc -fanalyzer, cppcheck, clang-tidy, and gates by pattern.
# A file is looked at again only when it, a header or this folder is newer than its stamp in build/lint.
set -eu
cd "$(dirname "$0")/../.."

out=build/lint
mkdir -p "$out"
bad=0
fail() { echo "lint: $1"; bad=1; }
# gate TEXT FILE...: what grep printed is a finding
gate() { if [ -s "$out/hits" ]; then fail "$1"; sed 's/^/    /' "$out/hits"; fi; }

sources=$(find src -name '*.c' | sort)
everything=$(git ls-files --cached --others --exclude-standard | grep -v '^tests/vectors/')

# 1. functions that read or write without a length, or parse numbers without saying so
banned='strcpy|strncpy|strcat|strncat|sprintf|vsprintf|gets|strtok|strtok_r|alloca|atoi|atol|atoll|atof|strtol|strtoul|strtoll|strtoull|strtod|sscanf|scanf'
grep -rnE --include='*.[ch]' "(^|[^A-Za-z0-9_])($banned)[[:space:]]*\(" src include >"$out/hits" || true
gate "banned function"

# 2. sources that no rule of the Makefile would build, nor tests/faults by itself
find src tests bench -name '*.c' | grep -vE \
    '^src/[a-z]+/[^/]+\.c$|^tests/unit/[a-z]+/test_[^/]+\.c$|^tests/suites/[a-z]+/suite_[^/]+\.c$|^tests/fuzz/[a-z]+/fuzz_[^/]+\.c$|^bench/micro/[a-z]+/bench_[^/]+\.c$|^bench/tools/[^/]+\.c$|^tests/faults/[^/]+\.c$' \
    >"$out/hits" || true
gate "source outside the Makefile's rules"

# 3. words that have no place in the project (written in two halves, so that this file passes)
words="TO""DO|FIX""ME|iss""ue #[0-9]|/wor""k/|\.\./sha""red"
for file in $everything; do
    [ -f "$file" ] && grep -nHIE "$words" "$file" || true
done >"$out/hits"
gate "word that must not be in the project"

# 4. a file that has grown beyond one reading
for file in $everything; do
    case $file in *.c|*.h|*.py|*.sh|*.S) ;; *) continue ;; esac
    [ -f "$file" ] || continue
    lines=$(wc -l <"$file")
    [ "$lines" -le 800 ] || echo "$file: $lines lines"
done >"$out/hits"
gate "file of more than 800 lines"

# 5. a function that has grown beyond one screen; clang-format puts the braces of each in the first column
for file in $sources; do
    awk -v limit=60 '/^[a-z].*\(/ {head = $0} /^{$/ {start = FNR} /^}$/ {if (start && FNR - start - 1 > limit)
        print FILENAME ":" start ": " FNR - start - 1 " lines: " head; start = 0}' "$file"
done >"$out/hits"
gate "function of more than 60 lines"

# 6. the analysers, two files at a time
newest=$(find include src tests/lint Makefile -name '*.h' -newer "$out/.headers" 2>/dev/null | head -n 1 || true)
if [ ! -e "$out/.headers" ] || [ -n "$newest" ] || [ tests/lint/analyse.sh -nt "$out/.headers" ]; then
    find "$out" -name '*.ok' -delete
    touch "$out/.headers"
fi
for file in $sources; do
    stamp=$out/$(echo "$file" | tr / _).ok
    [ -e "$stamp" ] && [ ! "$file" -nt "$stamp" ] || echo "$file"
done >"$out/todo"
echo "lint: $(wc -l <"$out/todo") of $(echo "$sources" | wc -w) sources to analyse"
xargs -r -n 1 -P 2 tests/lint/analyse.sh "$out" <"$out/todo" || bad=1

[ "$bad" -eq 0 ] && echo "lint: clean"
exit "$bad"
