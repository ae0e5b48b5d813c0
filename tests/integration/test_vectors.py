"""The runner of the vectors on folders that are not the project's: what it counts, and what it must not pass over."""
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import paths  # noqa: E402


def load(name):
    with open(os.path.join(paths.VECTORS, name), encoding="utf-8") as f:
        return json.load(f)


def variants(case, *changes):
    """Copies of a case with other ids; a change is a function of the copy."""
    out = []
    for i, change in enumerate((None, *changes)):
        one = copy.deepcopy(case)
        if "id" in one:
            one["id"] = "other-%d" % i
        if change:
            change(one)
        out.append(one)
    return out


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="postern vectors ")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def write(self, name, tree):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as f:
            f.write(tree if isinstance(tree, str) else json.dumps(tree))

    def run_vectors(self):
        done = subprocess.run([sys.executable, os.path.join(paths.ROOT, "tests", "run_vectors.py"), "--build",
                               paths.build_dir(), "--dir", self.folder], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=200)
        return done.returncode, done.stdout

    def totals(self, text, name):
        found = re.findall(r"(?m)^%s: (\d+) passed, (\d+) failed, (\d+) not applicable \((.*)\)$" % re.escape(name), text)
        self.assertEqual(len(found), 1, text)
        return tuple(map(int, found[0][:3])), found[0][3]

    def expect(self, name, counts, *reasons):
        """Of one file: its counts, its reasons, and a line for each failure; the whole fails when one does."""
        code, text = self.run_vectors()
        got, why = self.totals(text, name)
        self.assertEqual(got, counts, text)
        for reason in reasons:
            self.assertIn(reason, why)
        self.assertEqual(len(re.findall(r"(?m)^%s: FAIL " % re.escape(name), text)), counts[1], text)
        self.assertEqual(code, 1 if counts[1] else 0, text)


class Files(Folder):
    def test_a_file_that_cannot_be_read_is_not_an_absent_one(self):
        for name in ("http_cases.json", "jwt_cases.json", "mage_cases.json", "mlflow_cases.json", "mlflow_routes.json"):
            with self.subTest(name):
                self.write(name, '{"meta": {}, "cases": [')
                code, text = self.run_vectors()
                self.assertEqual(code, 1, text)
                self.assertRegex(text, r"(?m)^%s: FAIL " % re.escape(name))
                os.remove(os.path.join(self.folder, name))

    def test_a_folder_without_a_case_fails(self):
        code, text = self.run_vectors()
        self.assertEqual(code, 1)
        self.assertIn("jwt_cases.json: absent from", text)


class Cases(Folder):
    def test_http(self):
        tree = load("http_cases.json")
        case = next(c for c in tree["cases"] if c["needs"] == ["proxy"] and c["expect"]["status"] == [200])
        tree["cases"] = variants(
            case,
            lambda c: c["expect"].update(status=[418]),
            lambda c: c.update(needs=["proxy", "websocket"]),
            lambda c: c.update(needs=["quic"]),
            lambda c: c["expect"].update(status=[None]),
            lambda c: c["expect"].update(log_has="x"),
            lambda c: c.pop("expect"),
            lambda c: c.update(client=[["dance"]]))
        self.write("http_cases.json", tree)
        self.expect("http_cases.json", (1, 1, 6), "needs websocket: 1", "unknown form: needs quic: 1",
                    "unknown form: status None: 1", "unknown form: expect.log_has: 1", "unknown form: client step dance: 1")

    def test_jwt(self):
        tree = load("jwt_cases.json")
        token = next(c for c in tree["cases"] if c["kind"] == "token" and c["expect"] == "accept")
        scenario = next(c for c in tree["cases"] if c["kind"] == "scenario" and not c["needs"])
        tree["cases"] = variants(
            token,
            lambda c: c.update(expect="reject"),
            lambda c: c.update(needs=["discovery"]),
            lambda c: c.update(needs=["telepathy"]),
            lambda c: c.update(kind="dance"),
            lambda c: c.update(expect="perhaps"),
            lambda c: c.update(config={"moon": True})) + \
            variants(scenario, lambda c: c["steps"].append({"do": "dance"}))
        self.write("jwt_cases.json", tree)
        self.expect("jwt_cases.json", (2, 1, 6), "needs discovery: 1", "unknown form: needs telepathy: 1",
                    "unknown form: kind dance: 1", "unknown form: expect perhaps: 1", "unknown form: config moon: 1",
                    "unknown form: step dance: 1")

    def test_mage(self):
        tree = load("mage_cases.json")
        vector = next(v for v in tree["vectors"] if not v["needs"] and v["expect"] == "allow" and
                      v["roles"] and v["roles"][0].get("permissions"))
        tree["vectors"] = variants(
            vector,
            lambda v: v.update(expect="deny"),
            lambda v: v.update(needs=["lifecycle"]),
            lambda v: v.update(expect="perhaps"),
            lambda v: v["request"].update(operation="fly"),
            lambda v: v["roles"][0]["permissions"][0].update(scope="galaxy"))
        tree["http_vectors"] = variants(next(v for v in tree["http_vectors"] if v["auth"] == "owner"),
                                        lambda v: v.update(auth="ghost"))
        tree["routing_vectors"] = tree["routing_vectors"][:1]
        tree["socket_vectors"] = tree["socket_vectors"][:2]
        tree["termination_vectors"] = []
        self.write("mage_cases.json", tree)
        self.expect("mage_cases.json", (3, 1, 7), "needs lifecycle: 1", "needs socket: 2", "unknown form: expect perhaps: 1",
                    "unknown form: operation fly: 1", "unknown form: scope galaxy: 1", "unknown form: auth ghost: 1")

    def test_mlflow(self):
        tree = load("mlflow_cases.json")
        case = next(c for c in tree["cases"] if c["release"] == "3.17" and not c["needs"] and c["grants"])
        tree["cases"] = variants(
            case,
            lambda c: c.update(outcome="answer", expect={"status": 418}),
            lambda c: c.update(needs=["lookup"]),
            lambda c: c.update(release="3.18"),
            lambda c: c.update(mlflow="3.10-3.12, >=3.18"),
            lambda c: c.update(mlflow="yesterday"),
            lambda c: c["grants"][0].update(permission="FLY"))
        self.write("mlflow_cases.json", tree)
        self.expect("mlflow_cases.json", (1, 1, 5), "needs lookup: 1", "release: 2", "unknown form: mlflow yesterday: 1",
                    "unknown form: permission FLY: 1")

    def test_a_part_of_the_mlflow_routes_is_no_fault_of_the_profile(self):
        tree = load("mlflow_routes.json")
        route = next(r for r in tree["routes"] if r["since"] == "3.10" and not r["until"])
        tree["routes"] = variants(route, lambda r: r.update(since="3.18", paths=["/api/2.0/mlflow/later"]))
        self.write("mlflow_routes.json", tree)
        self.expect("mlflow_routes.json", (1, 0, 1), "since 3.18: 1")

    def test_nothing_applicable_is_no_failure(self):
        tree = load("mlflow_cases.json")
        tree["cases"] = [c for c in tree["cases"] if c["needs"]][:3]
        self.write("mlflow_cases.json", tree)
        self.expect("mlflow_cases.json", (0, 0, 3))

    def test_a_strange_form_fails_among_the_projects_own(self):
        own = os.path.join(self.folder, "tests", "vectors")
        os.makedirs(own)
        tree = load("jwt_cases.json")
        tree["cases"] = variants(next(c for c in tree["cases"] if c["kind"] == "token"), lambda c: c.update(kind="dance"))
        with open(os.path.join(own, "jwt_cases.json"), "w", encoding="utf-8") as f:
            json.dump(tree, f)
        done = subprocess.run([os.path.join(paths.build_dir(), "suites", "identity", "suite_jwt")], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("unknown form: kind dance", done.stdout)
        self.assertEqual(self.totals(done.stdout, "jwt_cases.json")[0], (1, 1, 0))


if __name__ == "__main__":
    unittest.main()
