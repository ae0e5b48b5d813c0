#!/usr/bin/env python3
"""Checks the models with spin: each variant that a model names must end as the model says.

    run.py [--only epoch] [--verbose]

A model names its variants in comment lines of its head:

    /* variant: FLAGS holds|broken|reached: why */       FLAGS: `none` or the -D options, as for the C compiler
    /* search: OPTION... */                              options of its own for the C compiler, where it needs any

holds    the whole state space was searched and nothing is violated; there must be one without flags
broken   a rule was left out, and an assertion must be violated: a promise that cannot be broken says nothing
reached  an interesting place was reached (-DPROBE=i); the first violation must be that probe's

A program that spin makes stays in build/model until what it is made of changes; it searches anew every time. It exits
with 0 whatever it found, so its words are read. A switch in the text of a model that no variant names is a failure, and
so is a variant whose switch does nothing."""
import argparse
import concurrent.futures
import glob
import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "model")
VARIANT = re.compile(r"^/\* variant: +((?:-D\S+ +)*-D\S+|none) +(holds|broken|reached): +(\S.*) \*/$", re.M)
SEARCH = re.compile(r"^/\* search: (.*) \*/$", re.M)
SWITCH = re.compile(r"^ *#(?:ifdef|ifndef) (\w+)|defined\((\w+)\)", re.M)
PROBE = re.compile(r"REACHED\((\d+),")
MEMORY = 1 << 30
DEPTH = 1000000
LIMIT = 120


class Case:
    def __init__(self, path, flags, expected, why, options):
        self.path, self.expected, self.why, self.options = path, expected, why, options
        self.flags = [] if flags == "none" else flags.split()
        self.name = "%s %s" % (os.path.basename(path), flags)


def switches(flags):
    return {flag[2:] for flag in flags}


def read_model(path):
    """(cases, complaints) of one file."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    search = SEARCH.search(text)
    cases = [Case(path, *m.groups(), search[1].split() if search else []) for m in VARIANT.finditer(text)]
    named = set().union(*(switches(c.flags) for c in cases)) if cases else set()
    used = {a or b for a, b in SWITCH.findall(text)} | {"PROBE=" + n for n in PROBE.findall(text)}
    wrong = ["switch %s has no variant" % s for s in sorted(used - named)]
    wrong += ["variant -D%s switches nothing" % s for s in sorted(named - used)]
    wrong += ["a line that is no variant: " + line for line in text.splitlines()
              if "variant:" in line and not VARIANT.match(line)]
    if not any(c.expected == "holds" and not c.flags for c in cases):
        wrong.append("no variant `none` that holds")
    for kind in ("broken", "reached"):
        if not any(c.expected == kind for c in cases):
            wrong.append("no variant that is " + kind)
    wrong += ["-DPROBE belongs to `reached` alone: " + c.name for c in cases
              if (c.expected == "reached") != any(f.startswith("-DPROBE=") for f in c.flags)]
    return cases, ["%s: %s" % (os.path.basename(path), w) for w in wrong]


def command(argv, folder):
    def bounds():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          timeout=LIMIT, preexec_fn=bounds, text=True, errors="replace")
    return done.returncode, done.stdout


def judge(case, text):
    """What is wrong with the words of a search, or None."""
    errors = re.search(r"errors: (\d+)$", text, re.M)
    states = re.search(r"^ *(\d+) states, stored", text, re.M)
    if not errors or not states or int(states[1]) == 0:
        return "the search said nothing"
    broken = re.findall(r"^pan:\d+: (.*)$", text, re.M)
    if case.expected == "holds":
        if int(errors[1]) or broken:
            return "must hold, but: " + "; ".join(broken)
        for word in ("Search not completed", "max search depth too small", "out of memory"):
            if word in text:
                return "not searched to the end: " + word
        return None
    if not int(errors[1]) or len(broken) != 1 or not broken[0].startswith("assertion violated"):
        return "no assertion is violated: " + ("; ".join(broken) or "it holds")
    is_probe = re.search(r"assertion violated \(*\d+!=\d+\)*\|\|", broken[0].replace(" ", "").replace(
        "assertionviolated", "assertion violated ")) is not None
    if is_probe != (case.expected == "reached"):
        return "another assertion is violated: " + broken[0]
    return None


def made_of(path, commands):
    """The name of a program that these commands make: it changes with them, with the texts and with the tools."""
    texts = [repr(commands).encode()]
    for name in (path, os.path.join(HERE, "model.pmh"), shutil.which("spin"), os.path.realpath(shutil.which("gcc"))):
        with open(name, "rb") as f:
            texts.append(f.read())
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:32]


def check(case):
    """(case, complaint or None, states, seconds, text)"""
    began = time.monotonic()
    # a search that runs to its end is worth an optimised program; one that stops at the first fault is not
    level = "-O2" if case.expected == "holds" else "-O0"
    with tempfile.TemporaryDirectory(prefix="pst-model-") as folder:
        make = [["spin", "-a", *case.flags, case.path],
                ["gcc", level, "-w", "-DSAFETY", *case.options, "pan.c", "-o", "pan"]]
        program = os.path.join(PROGRAMS, made_of(case.path, make))
        # moved to its place whole: a run that is ended leaves no half of a program
        steps = [] if os.path.exists(program) else [*make, ["cp", "pan", program + ".new"],
                                                    ["mv", program + ".new", program]]
        for argv in [*steps, [program, "-n", "-m%d" % DEPTH, "-w20"]]:
            try:
                code, text = command(argv, folder)
            except subprocess.TimeoutExpired:
                return case, "no end after %d s: %s" % (LIMIT, argv[0]), 0, time.monotonic() - began, ""
            if code != 0 or (argv[0] == "spin" and "error" in text.lower()):
                return case, "%s: exit status %d" % (argv[0], code), 0, time.monotonic() - began, text
    states = re.search(r"^ *(\d+) states, stored", text, re.M)
    return case, judge(case, text), int(states[1]) if states else 0, time.monotonic() - began, text


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="", help="models whose name has this in it")
    p.add_argument("--verbose", action="store_true", help="a line for each variant")
    a = p.parse_args()
    began = time.monotonic()
    os.makedirs(PROGRAMS, exist_ok=True)
    cases, wrong = [], []
    for path in sorted(glob.glob(os.path.join(HERE, "*%s*.pml" % a.only))):
        found, complaints = read_model(path)
        cases += found
        wrong += complaints
    failed = len(wrong)
    for line in wrong:
        print(line)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # the long ones first, so that both processors end together
        for case, complaint, states, seconds, text in pool.map(check, sorted(cases, key=lambda c: c.expected != "holds")):
            if complaint:
                failed += 1
                print("%s: %s\n%s" % (case.name, complaint, text.strip()[-3000:]), flush=True)
            elif a.verbose:
                print("%-40s %-8s %9d states %5.1f s" % (case.name, case.expected, states, seconds), flush=True)
    print("models: %d variants, %.0f s" % (len(cases), time.monotonic() - began))
    print("%d passed, %d failed" % (len(cases) + len(wrong) - failed, failed))
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
