"""Where things are, relative to the project and nothing else."""
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VECTORS = os.path.join(ROOT, "tests", "vectors")
PROFILES = os.path.join(ROOT, "policies", "profiles")
ROLES = os.path.join(ROOT, "policies", "roles")


def build_dir():
    """The build under test: POSTERN_BUILD (set by the runners), else the release build."""
    given = os.environ.get("POSTERN_BUILD", os.path.join("build", "release"))
    return given if os.path.isabs(given) else os.path.join(ROOT, given)


def binary():
    return os.path.join(build_dir(), "postern")


def sanitized():
    """True when the build under test carries a sanitizer, which changes timing and memory."""
    name = os.path.basename(build_dir())
    return "asan" in name or "tsan" in name


def slack():
    """Factor on time limits: sanitizers slow the node down, the promise stays the same."""
    return 5.0 if sanitized() else 1.0
