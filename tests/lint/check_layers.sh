#!/bin/sh
# check_layers.sh - fail when a file includes a header of a layer, or of a library, that its layer
# may not use.
#
# Reads src/LAYERS; looks at every include under src/ and include/.  A line of LAYERS may only refer
# to earlier ones, so cycles cannot be written down, let alone compiled.
set -eu
cd "$(dirname "$0")/../.."

grep -rnE --include='*.[ch]' '^#include ("postern/|<(openssl|jansson|event2|curl|sqlite3|yaml|libpq-fe|hiredis|nghttp2)[/.])' src include | awk '
    FILENAME == "src/LAYERS" {
        if ($0 ~ /^#/ || $0 !~ /:/) next
        split($0, half, "|")
        split(half[1], part, ":"); layer = part[1]
        n = split(part[2], uses, " ")
        for (i = 1; i <= n; i++) {
            if (!(uses[i] in known)) { print "src/LAYERS: " layer " uses " uses[i] ", not yet declared"; bad = 1 }
            allowed[layer, uses[i]] = 1
        }
        known[layer] = allowed[layer, layer] = 1
        n = split(half[2], libs, " ")
        for (i = 1; i <= n; i++) library[layer, libs[i]] = 1
        next
    }
    {
        split($0, field, ":"); file = field[1]
        from = file; sub(/^src\//, "", from); sub(/^include\/postern\//, "", from); sub(/\/.*/, "", from)
        if (!(from in known)) { print file ": layer " from " is not in src/LAYERS"; bad = 1; next }
        if ($0 ~ /#include "postern\//) {
            to = $0; sub(/.*#include "postern\//, "", to); sub(/\/.*/, "", to)
            if (!((from, to) in allowed)) { print file ":" field[2] ": " from " may not include " to; bad = 1 }
        } else {
            to = $0; sub(/.*#include </, "", to); sub(/[\/.].*/, "", to)
            if (!((from, to) in library)) { print file ":" field[2] ": " from " may not use " to; bad = 1 }
        }
    }
    END { exit bad }
' src/LAYERS -
