"""Private virtual environments under build/ for programs from PyPI, made with Debian's or the calling Python."""
import os
import subprocess
import sys

from . import paths

MLFLOW = ("venv-mlflow", ["mlflow==3.17.2"])
MAGE = ("venv-mage", ["mage-ai==0.9.80"])


class NotInstalled(Exception):
    """The package could not be installed on this machine; the text says what pip said."""


def pip(programs, limit, *arguments):
    subprocess.run([os.path.join(programs, "pip"), "install", "-q", "--disable-pip-version-check", *arguments],
                   check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)


def last_line(said):
    return (said.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]


def ensure(spec, say=print, limit=900):
    """The folder of programs of the environment `spec`, made and filled on first use."""
    name, packages = spec
    folder = os.path.join(paths.ROOT, "build", name)
    programs = os.path.join(folder, "bin")
    # what was tried together: without it the pip of Debian 12 wanders through years of releases for minutes
    pins = os.path.join(paths.ROOT, "tests", "setup", "pins", packages[0].split("==")[0] + ".txt")
    stamp = os.path.join(folder, ".installed")
    wanted = " ".join(packages)
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as f:
            if f.read() == wanted:
                return programs
    say("installing %s into build/%s (once; some minutes) ..." % (wanted, name))
    try:
        if not os.path.exists(os.path.join(programs, "pip")):
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=120)
        try:
            pip(programs, limit, "-c", pins, *packages)
        except subprocess.CalledProcessError as e:
            say("the pinned set cannot be had here, pip is free to choose: %s" % last_line(e.stdout))
            pip(programs, limit, *packages)
    except subprocess.CalledProcessError as e:
        raise NotInstalled("%s: %s" % (wanted, e.stdout.decode("utf-8", "replace")[-1500:])) from None
    except subprocess.TimeoutExpired:
        raise NotInstalled("%s: pip was not done after %d s" % (wanted, limit)) from None
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(wanted)
    return programs
