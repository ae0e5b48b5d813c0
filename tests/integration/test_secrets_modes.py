"""What Postern keeps on disk is for its user alone, whatever the umask says."""
import os
import stat
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib.base import WorldCase  # noqa: E402


class Modes(WorldCase):
    @classmethod
    def setUpClass(cls):
        old = os.umask(0)
        try:
            super().setUpClass()
        finally:
            os.umask(old)

    def test_state_directory_and_files(self):
        self.get()
        state = self.node.config["state_dir"]
        self.assertEqual(stat.S_IMODE(os.stat(state).st_mode), 0o700)
        files = 0
        for base, folders, names in os.walk(state):
            for name in folders:
                mode = stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode)
                self.assertEqual(mode, 0o700, name)
            for name in names:
                mode = stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode)
                self.assertEqual(mode & 0o177, 0, "%s has mode %o" % (name, mode))
                files += 1
        self.assertGreater(files, 0)

    def test_no_token_is_on_the_command_line_or_in_the_environment(self):
        for name in ("cmdline", "environ"):
            with open("/proc/%d/%s" % (self.node.child.pid, name), "rb") as f:
                self.assertNotIn(self.tokens["alice"].encode(), f.read())

    def test_a_crash_leaves_no_memory_behind(self):
        with open("/proc/%d/limits" % self.node.child.pid, encoding="ascii") as f:
            core = [line for line in f if line.startswith("Max core file size")][0]
        self.assertEqual(core.split()[4], "0", core)


if __name__ == "__main__":
    unittest.main()
