#!/usr/bin/env python3
"""Keeps tests/vectors equal to the folder that the case data come from.

    vectors_sync.py            copy from there (VECTORS_FROM=DIR, else a neighbour of the project is looked for)
    vectors_sync.py --check    say what differs, change nothing; quiet where there is no such folder"""
import filecmp
import glob
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import paths  # noqa: E402


def source():
    """The folder that VECTORS_FROM names, else the one beside the project that holds http_cases.json; None: none."""
    given = os.environ.get("VECTORS_FROM")
    if given:
        return given
    beside = os.path.join(glob.escape(os.path.dirname(paths.ROOT)), "*", "vectors", "http_cases.json")
    found = [os.path.dirname(p) for p in sorted(glob.glob(beside))]
    found = [f for f in found if not os.path.realpath(f).startswith(paths.ROOT + os.sep)]
    return found[0] if found else None


def files(folder):
    """Relative names of the data files; notes in tests/vectors (README, licences) are ours."""
    out = set()
    for base, _, names in os.walk(folder):
        out |= {os.path.relpath(os.path.join(base, n), folder) for n in names if n.endswith(".json")}
    return out


def differences(folder):
    """[(what, name)] between `folder` and tests/vectors."""
    theirs, ours = files(folder), files(paths.VECTORS)
    out = [("new there", n) for n in sorted(theirs - ours)]
    out += [("gone there", n) for n in sorted(ours - theirs)]
    for name in sorted(theirs & ours):
        if not filecmp.cmp(os.path.join(folder, name), os.path.join(paths.VECTORS, name), shallow=False):
            out.append(("differs", name))
    return out


def main():
    check = "--check" in sys.argv[1:]
    folder = source()
    if folder is None:
        if not check:
            print("vectors-sync: no folder of vectors beside the project; name one with VECTORS_FROM=DIR")
        return 0 if check else 1
    if not os.path.exists(os.path.join(folder, "http_cases.json")):
        print("vectors-sync: %s holds no http_cases.json" % folder)
        return 1
    found = differences(folder)
    for what, name in found:
        if check:
            print("vectors: %s %s (make vectors-sync takes it over)" % (name, what))
        elif what == "gone there":
            os.remove(os.path.join(paths.VECTORS, name))
            print("removed", name)
        else:
            target = os.path.join(paths.VECTORS, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(folder, name), target)
            print("copied", name)
    if not check:
        print("tests/vectors equals %s" % folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
