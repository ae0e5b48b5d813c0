"""System calls per request at saturation: at most 4.1 for a proxied request, 2.1 for an auth_request answer."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import paths  # noqa: E402


class SystemCalls(unittest.TestCase):
    def test_both_doors_stay_within_their_goal(self):
        program = os.path.join(paths.ROOT, "bench", "syscalls.py")
        for attempt in range(2):    # a busy machine may keep the connections from being saturated
            done = subprocess.run([sys.executable, program, "--build", paths.build_dir()], cwd=paths.ROOT,
                                  timeout=200, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            print(done.stdout.strip())
            if done.returncode == 0 or (paths.sanitized() and done.returncode == 1):
                return   # a sanitizer's runtime makes calls of its own; there the count is only shown
        self.fail(done.stdout)


if __name__ == "__main__":
    unittest.main()
