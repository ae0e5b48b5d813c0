#!/bin/sh
# Installs the Debian packages that the named groups need and this machine lacks; asks dpkg only, so it is quick and
# touches no network when everything is there.   usage: packages.sh GROUP...
set -eu

packages_of() {
    case $1 in
    build)      echo gcc make pkg-config libc6-dev libevent-dev libssl-dev libjansson-dev libsqlite3-dev \
                     libpq-dev libyaml-dev libcurl4-openssl-dev libhiredis-dev ;;
    test)       echo python3 libcmocka-dev nginx-light openssl sqlite3 strace curl spin \
                     postgresql pgbouncer redis-server redis-sentinel faketime ;;
    lint)       echo clang clang-tidy clang-format cppcheck libclang-rt-14-dev lcov ;;
    bench)      echo python3 nginx-light strace openssl python3-venv ;;
    interop)    echo python3 python3-venv git ;;
    run-demo)   echo python3 openssl curl ;;
    run-mlflow) echo python3 python3-venv openssl curl ;;
    run-mage)   echo python3 python3-venv openssl curl git ;;
    *)          echo "packages.sh: no group called '$1'" >&2; exit 2 ;;
    esac
}

why() {
    case $1 in
    gcc|make|pkg-config|libc6-dev) echo "compiles Postern" ;;
    libevent-dev)         echo "event loop, timers, DNS" ;;
    libssl-dev)           echo "signatures, hashes, TLS" ;;
    libjansson-dev)       echo "JSON" ;;
    libsqlite3-dev)       echo "the embedded database" ;;
    libpq-dev)            echo "the database of a fleet" ;;
    postgresql)           echo "tests start their own server of it" ;;
    pgbouncer)            echo "stands before it in tests, in transaction mode" ;;
    libyaml-dev)          echo "configuration and profiles" ;;
    libcurl4-openssl-dev) echo "fetches key sets" ;;
    libhiredis-dev)       echo "the protocol of Redis" ;;
    redis-server|redis-sentinel) echo "the feed is tested on it" ;;
    faketime)             echo "a wall clock that jumps, for the fault tests" ;;
    libcmocka-dev)        echo "unit tests" ;;
    nginx-light)          echo "front proxy of the auth_request tests, yardstick of the bench" ;;
    strace)               echo "counts system calls per request" ;;
    sqlite3)              echo "looks into the database in tests" ;;
    openssl)              echo "makes the keys and tokens of tests and demo" ;;
    spin)                 echo "searches the models of the consistency rules" ;;
    curl)                 echo "the lines that make run prints" ;;
    python3)              echo "runs tests and demo" ;;
    python3-venv)         echo "private environments for programs from PyPI" ;;
    git)                  echo "Mage AI looks for it" ;;
    *)                    echo "needed by: $groups" ;;
    esac
}

installed() {
    # nginx-light is one of several packages that bring the same program
    case $1 in
    nginx-light) command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] ;;
    *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
    esac
}

[ $# -gt 0 ] || { echo "usage: packages.sh GROUP..." >&2; exit 2; }
command -v dpkg-query >/dev/null 2>&1 || { echo "packages.sh: this is no Debian system; install by hand what docs name" >&2; exit 1; }
groups=$*
missing=
for group in "$@"; do
    list=$(packages_of "$group") || exit 2
    for package in $list; do
        case " $missing " in *" $package "*) continue ;; esac
        installed "$package" || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0

echo "Debian packages that are missing here (groups: $groups):"
for package in $missing; do
    printf '  %-22s %s\n' "$package" "$(why "$package")"
done
root="Installing packages needs root, because apt-get writes to /usr and to the package database"
if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    echo "$root: apt-get runs under sudo."
    as_root=sudo
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
    echo "$root: sudo will ask for your password."
    as_root=sudo
else
    echo "$root. This user is not root and has no sudo. Ask root for:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
case " $missing " in
*" postgresql "*)
    # Tests start their own server: the package is not to make a cluster and run it.
    $as_root mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/postern.conf >/dev/null ;;
esac
# Nor is any other server to run because a test wants its program.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT INT TERM
fi
$as_root apt-get -qq update
# shellcheck disable=SC2086 # one word a package; sudo passes on only what env sets behind it
$as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq install -y --no-install-recommends $missing >/dev/null
for package in $missing; do
    installed "$package" || { echo "packages.sh: $package could not be installed" >&2; exit 1; }
done
echo "installed."
