"""The command line: help, JSON, exit codes; apply, diff and export; check, token, policy test, config check."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import keys, node, paths  # noqa: E402
from lib.base import WorldCase  # noqa: E402

YES, NO, USAGE, FAILED = 0, 1, 2, 3
COMMANDS = ("serve", "check", "apply", "export", "diff", "config", "token", "policy", "version")
TREE = {
    "workspaces": [{"name": "blue", "kind": "project"}, {"name": "red", "kind": "project"}],
    "roles": [{"name": "reader", "workspace": "blue", "permissions": [
                  {"entity": "*", "allow": ["list", "detail"]},
                  {"entity": "pipelines", "id": "p9", "deny": ["detail"]}]},
              {"name": "everywhere", "permissions": [{"entity": "runs", "access": ["LIST", "READ"],
                                                      "read_attributes": ["name"]}]}],
    "users": [{"name": "alice", "identities": [{"issuer": "https://idp.test/", "subject": "alice"}]},
              {"name": "bob", "disabled": True}],
    "bindings": [{"user": "alice", "role": "reader", "workspace": "blue"}, {"user": "alice", "role": "everywhere"}],
}


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="postern-cli-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.store = "sqlite:///%s" % os.path.join(self.folder, "p.db")

    def file(self, name, tree):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(tree if isinstance(tree, str) else json.dumps(tree))
        return path

    def run_cli(self, *args, **more):
        return node.cli(*args, **more)

    def json(self, *args, code=YES, **more):
        done = self.run_cli(*args, "--json", **more)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return json.loads(done.stdout)


class Help(Folder):
    def test_every_command_has_help(self):
        overview = self.run_cli("--help")
        self.assertEqual(overview.returncode, YES)
        for name in COMMANDS:
            self.assertRegex(overview.stdout, r"(?m)^\s+%s\b" % name)
            done = self.run_cli(name, "--help")
            self.assertEqual(done.returncode, YES, name)
            self.assertIn("usage: postern " + name, done.stdout)
            self.assertEqual(done.stderr, "")

    def test_a_wrong_line_is_told_from_a_failure(self):
        for line in ((), ("nonsense",), ("apply",), ("apply", "--bogus"), ("check",), ("config", "x"), ("token",),
                     ("token", "mint", "--ttl"), ("serve", "extra"), ("policy",),
                     ("check", "-u", "ann", "-t", "x.y.z", "/a"), ("check", "--node", "127.0.0.1:1", "-u", "ann", "/a"),
                     ("check", "--node", "127.0.0.1:1", "-d", "body.json", "/a"), ("check", "--node", "nowhere", "/a"),
                     ("check", "--listener", "absent", "/a"), ("export", "--store", "p.db"), ("db", "check", "--store", ""),
                     *(("token", "mint", *line) for line in (
                         (), ("-s", ""), ("-s", "a", "--ttl", "0"), ("-s", "a", "--ttl", "1h"), ("-s", "a", "--alg", "none"),
                         ("-s", "a", "--alg", "RS256"), ("-s", "a", "--alg", "HS256"), ("-s", "a", "--claims", "["),
                         ("-s", "a", "--claims", '{"exp":1}'), ("-s", "a", "--key", "k.pem"), ("-s", "a", "--secret", "s"),
                         ("-s", "a", "--issuer", "i", "--key", "k.pem", "--secret", "s"),
                         ("-s", "a", "--issuer", "i", "--secret", "s", "--alg", "ES256")))):
            done = self.run_cli(*line)
            self.assertEqual(done.returncode, USAGE, (line, done.stdout, done.stderr))
            self.assertTrue(done.stderr, line)
        self.assertFalse(os.path.exists("postern-state"))

    def test_a_wrong_value_is_told_in_json(self):
        told = self.json("token", "mint", "-s", "a", "--ttl", "0", code=USAGE)["error"]
        self.assertEqual(told["where"], "--ttl")

    def test_output_that_cannot_be_written_is_a_failure(self):
        self.file("d.yaml", TREE)
        store = ("--store", self.store)
        self.assertEqual(self.run_cli("apply", *store, "-f", self.file("d.yaml", TREE)).returncode, YES)
        for line in (("version",), ("--help",), ("check", "--help"), ("export", *store), ("export", *store, "--json"),
                     ("db", "status", *store), ("db", "check", *store, "--json"), ("nodes", *store, "--json"),
                     ("diff", *store, "-f", os.path.join(self.folder, "d.yaml")), ("token", "inspect", "e30.e30.e30")):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([paths.binary(), *line], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertEqual(done.returncode, FAILED, (line, done.stderr))
            self.assertIn("could not be written", done.stderr, line)

    def test_version(self):
        self.assertRegex(self.run_cli("version").stdout, r"^postern \d+\.\d+\.\d+\n$")
        self.assertEqual(self.json("version")["name"], "postern")

    def test_serve_that_cannot_start_says_why(self):
        absent = os.path.join(self.folder, "absent.yaml")
        told = self.json("serve", "-c", absent, code=FAILED)["error"]
        self.assertEqual((told["status"], told["where"]), ("absent", absent))
        done = self.run_cli("serve", "-c", absent)
        self.assertEqual((done.returncode, done.stdout), (FAILED, ""))
        self.assertIn(absent, done.stderr)


class Declarations(Folder):
    def apply(self, tree, *options):
        return self.json("apply", "--store", self.store, "-f", self.file("d.yaml", tree), *options)

    def export(self):
        done = self.run_cli("export", "--store", self.store)
        self.assertEqual(done.returncode, YES, done.stderr)
        return done.stdout

    def test_apply_twice_changes_nothing_the_second_time(self):
        first = self.apply(TREE)
        self.assertGreater(first["added"], 7)
        before = self.export()
        second = self.apply(TREE)
        self.assertEqual((second["added"], second["changed"], second["removed"], second["edits"]), (0, 0, 0, []))
        self.assertEqual(second["revision"], first["revision"])
        self.assertEqual(self.export(), before)

    def test_dry_run_says_what_would_change_and_changes_nothing(self):
        self.apply(TREE)
        before = self.export()
        more = {"workspaces": [{"name": "green", "kind": "project"}]}
        told = self.apply(more, "--dry-run")
        self.assertEqual((told["dry_run"], told["added"]), (True, 1))
        self.assertEqual(self.export(), before)
        self.assertEqual(self.apply(more)["added"], 1)
        self.assertIn("green", self.export())

    def test_what_only_looks_leaves_nothing_behind(self):
        path = self.file("d.yaml", TREE)
        state = os.path.join(self.folder, "state")
        config = self.file("c.yaml", {"state_dir": state})
        env = {"TMPDIR": self.folder}
        for where in (("--store", self.store), ("-c", config)):
            told = self.json("apply", *where, "-f", path, "--dry-run", env=env)
            self.assertEqual((told["dry_run"], told["added"]), (True, 9))
            done = self.run_cli("apply", *where, "-f", path, "--dry-run", env=env)
            self.assertEqual(done.returncode, YES)
            self.assertIn("no database yet", done.stderr)
            for line in (("diff", "-f", path), ("export",), ("db", "status"), ("db", "check"), ("nodes",)):
                done = self.run_cli(*line, *where, env=env)
                self.assertEqual(done.returncode, FAILED, (line, done.stdout))
                self.assertIn("there is no database", done.stderr)
        done = self.run_cli("check", "-c", config, "-u", "alice", "/w/blue/x", env=env)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("no own key pair yet", done.stderr)
        self.assertEqual(self.run_cli("config", "check", config, env=env).returncode, YES)
        self.assertEqual(sorted(os.listdir(self.folder)), ["c.yaml", "d.yaml"])

    def test_export_goes_round(self):
        self.apply(TREE)
        text = self.export()
        other = "sqlite:///%s" % os.path.join(self.folder, "other.db")
        path = self.file("exported.yaml", text)
        done = self.run_cli("apply", "--store", other, "-f", path)
        self.assertEqual(done.returncode, YES, done.stdout + done.stderr)
        again = self.run_cli("export", "--store", other).stdout
        self.assertEqual(again, text)
        self.assertEqual(self.run_cli("diff", "--store", self.store, "-f", path).returncode, YES)
        tree = self.json("export", "--store", self.store)
        self.assertEqual({r["name"] for r in tree["roles"]}, {"reader", "everywhere"})

    def test_an_export_in_json_goes_round(self):
        tree = json.loads(json.dumps(TREE))
        tree["users"].append({"name": "zoë \U0001f600", "email": "z@example.org"})
        path = self.file("d.yaml", json.dumps(tree))  # ASCII: two escapes for one character
        self.assertIn("\\ud83d\\ude00", json.dumps(tree))
        self.assertEqual(self.run_cli("apply", "--store", self.store, "-f", path).returncode, YES)
        told = self.json("export", "--store", self.store)
        self.assertIn("zoë \U0001f600", [u["name"] for u in told["users"]])
        for ascii_only in (True, False):
            again = self.file("again.json", json.dumps(told, ensure_ascii=ascii_only))
            self.assertEqual(self.json("diff", "--store", self.store, "-f", again)["edits"], [])

    def test_standard_input_is_a_file_like_others(self):
        self.apply(TREE)
        text = self.export()
        other = "sqlite:///%s" % os.path.join(self.folder, "other.db")
        self.assertEqual(self.run_cli("apply", "--store", other, "-f", "-", data=text).returncode, YES)
        self.assertEqual(self.run_cli("diff", "--store", other, "-f", "-", data=text).returncode, YES)
        done = self.run_cli("diff", "--store", other, "-f", "-", data="\nrolls: []\n")
        self.assertEqual((done.returncode, done.stderr.split()[1]), (FAILED, "-:2:rolls:"))

    def test_diff_exits_with_one_where_something_differs(self):
        self.apply(TREE)
        changed = json.loads(json.dumps(TREE))
        changed["roles"][0]["permissions"].pop()
        path = self.file("changed.yaml", changed)
        before = self.export()
        told = self.json("diff", "--store", self.store, "-f", path, code=NO)
        self.assertTrue(told["edits"])
        self.assertEqual(self.export(), before)

    def test_one_fault_leaves_everything_as_it_was(self):
        self.apply(TREE)
        before = self.export()
        for bad, word in (
                ({"workspaces": [{"name": "new", "kind": "project"}], "bindings": [{"user": "nobody", "role": "x"}]},
                 "nobody"),
                ({"roles": [{"name": "r", "permissions": [{"entity": "x", "access": ["FLY"]}]}]}, "FLY"),
                ({"roles": [{"name": "r", "permissions": [{"entity": "x", "allow": ["list"],
                                                           "conditions": ["FULL_MOON"]}]}]}, "FULL_MOON"),
                ({"rolez": []}, "rolez"), ({"workspaces": [{"name": "Not A Name", "kind": "project"}]}, "workspaces[0].name")):
            done = self.run_cli("apply", "--store", self.store, "-f", self.file("bad.yaml", bad))
            self.assertEqual(done.returncode, FAILED, (bad, done.stdout))
            self.assertIn("bad.yaml", done.stderr)
            self.assertIn(word, done.stderr)
            self.assertEqual(self.export(), before)

    def test_a_syntax_error_names_file_and_line(self):
        done = self.run_cli("apply", "--store", self.store, "-f", self.file("broken.yaml", "roles:\n  - {name: [\n"))
        self.assertEqual(done.returncode, FAILED)
        self.assertRegex(done.stderr, r"broken\.yaml:\d+")

    def test_prune_takes_away_what_is_not_declared(self):
        self.apply(TREE)
        less = {"bindings": TREE["bindings"][:1]}
        self.assertEqual(self.apply(less)["removed"], 0)
        self.assertEqual(self.apply(less, "--prune")["removed"], 1)

    def test_shipped_roles_apply(self):
        for name in ("mage", "mlflow", "workspace"):
            path = os.path.join(paths.ROLES, name + ".yaml")
            done = self.run_cli("apply", "--store", "sqlite:///%s/%s.db" % (self.folder, name), "-f", path)
            self.assertEqual(done.returncode, YES, done.stdout + done.stderr)


class Check(WorldCase):
    def cli(self, *args, code):
        done = node.cli("check", "--config", self.node.path, "--host", "app.example", *args)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def test_offline(self):
        self.assertIn("allow", self.cli("--user", "alice", "/w/blue/x", code=YES))
        told = self.cli("--user", "alice", "/w/red/x", code=NO)
        self.assertIn("not-granted", told)
        self.assertIn("red", told)
        self.assertIn("rest-all", self.cli("--user", "alice", "/w/blue/x", code=YES))
        denied = self.cli("--user", "alice", "/w/blue/runs/22222222-2222-4222-8222-222222222222", "--method", "DELETE",
                          code=NO)
        self.assertIn("DISABLE_DELETE", denied)
        self.assertIn("denied", denied)

    def test_offline_with_a_token(self):
        self.cli("--token", self.tokens["alice"], "/w/blue/x", code=YES)
        self.cli("--token", self.tokens["mallory"], "/w/blue/x", code=NO)
        self.assertIn("401", self.cli("--token", self.tokens["alice"][:-8] + "AAAAAAAA", "/w/blue/x", code=NO))
        self.assertIn("401", self.cli("/w/blue/x", code=NO))

    def test_json(self):
        tree = json.loads(self.cli("--user", "alice", "/w/red/x", "--json", code=NO))
        self.assertEqual((tree["verdict"], tree["status"], tree["reason"]), ("deny", 403, "not-granted"))
        self.assertIn("explanation", tree)

    def test_what_would_allow_it_allows_it(self):
        tree = json.loads(self.cli("--user", "mallory", "/w/blue/x", "--json", code=NO))
        self.assertRegex(json.dumps(tree["explanation"]), r"LIST|list")
        self.node.apply({"roles": [{"name": "smallest", "workspace": "blue",
                                    "permissions": [{"entity": "x", "allow": ["list"]}]}],
                         "bindings": [{"user": "mallory", "role": "smallest", "workspace": "blue"}]})
        self.cli("--user", "mallory", "/w/blue/x", code=YES)
        self.cli("--user", "mallory", "/w/blue/y", code=NO)
        self.cli("--user", "mallory", "/w/blue/x", "--method", "POST", code=NO)

    def test_against_the_running_node(self):
        where = "%s:%d" % self.auth
        self.assertIn("allow", self.cli("--node", where, "--token", self.tokens["alice"], "/w/blue/x", code=YES))
        told = self.cli("--node", where, "--token", self.tokens["alice"], "/w/red/x", code=NO)
        self.assertIn("not-granted", told)
        tree = json.loads(self.cli("--node", where, "--token", self.tokens["alice"], "/w/red/x", "--json", code=NO))
        self.assertEqual(tree["verdict"], "deny")
        done = node.cli("check", "--node", "127.0.0.1:1", "--token", self.tokens["alice"], "/w/blue/x")
        self.assertEqual(done.returncode, FAILED)

    def test_both_ways_agree(self):
        where = "%s:%d" % self.auth
        for target in ("/w/blue/x", "/w/red/x", "/w/blue/a/../b", "/nowhere", "/w/blue/runs/"
                       "22222222-2222-4222-8222-222222222222"):
            for method in ("GET", "DELETE", "POST"):
                codes = {node.cli("check", "--config", self.node.path, "--host", "app.example", *more, "--token",
                                  self.tokens["alice"], "--method", method, target).returncode == YES
                         for more in ((), ("--node", where))}
                self.assertEqual(len(codes), 1, (target, method, codes))


class Tokens(Folder):
    def test_mint_and_inspect(self):
        signer = keys.Signer(self.folder)
        tree = self.json("token", "mint", "-s", "alice", "--issuer", signer.issuer, "--key", signer.pem, "--kid",
                         signer.kid, "--ttl", "120", "--group", "a", "--group", "b", "--email", "a@example.org")
        token = tree["token"]
        self.assertEqual(token.count("."), 2)
        for args, data in ((("token", "inspect", token), None), (("token", "inspect", "-"), token)):
            told = self.json(*args, data=data)
            self.assertEqual(told["header"]["alg"], "ES256")
            self.assertEqual(told["payload"]["sub"], "alice")
            self.assertEqual(told["payload"]["groups"], ["a", "b"])
            self.assertEqual(told["payload"]["exp"] - told["payload"]["iat"], 120)
            self.assertFalse(told["verified"])
        for broken in ("x", "a.b", "a.b.c.d", "....."):
            self.assertEqual(self.run_cli("token", "inspect", broken).returncode, FAILED, broken)
        self.assertEqual(self.run_cli("token", "mint", "-s", "a", "--issuer", "i", "--key", "/nonexistent").returncode,
                         FAILED)
        secret = self.file("secret", "0123456789abcdef0123456789abcdef\n")
        token = self.json("token", "mint", "-s", "a", "--issuer", "i", "--secret", secret)["token"]
        self.assertEqual(self.json("token", "inspect", token)["header"]["alg"], "HS256")


class FirstStarts(Folder):
    def test_many_at_once_make_one_key_and_one_database(self):
        path = self.file("postern.yaml", {"state_dir": os.path.join(self.folder, "state"), "listeners": [
            {"name": "auth", "kind": "auth_request", "address": "127.0.0.1:1",
             "mounts": [{"host": "*", "prefix": "/", "profile": "rest"}]}]})
        declared = self.file("d.yaml", TREE)
        commands = [("token", "mint", "-s", "alice", "-c", path)] * 5 + [("apply", "-f", declared, "-c", path)] * 2
        begun = [subprocess.Popen([paths.binary(), *c], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for c in commands]
        told = [p.communicate(timeout=60) for p in begun]
        for p, (out, err) in zip(begun, told):
            self.assertEqual(p.returncode, YES, out + err)
        for out, _ in told[:5]:
            done = self.run_cli("check", "-t", out.strip(), "-c", path, "/w/blue/x")
            self.assertNotIn("bad-credential", done.stdout, "a token of another key")


class Minted(WorldCase):
    def test_a_minted_token_is_taken(self):
        signer = self.world.signer
        done = node.cli("token", "mint", "-s", "alice", "--issuer", signer.issuer, "--key", signer.pem, "--kid", signer.kid)
        self.assertEqual(done.returncode, YES, done.stderr)
        self.tokens["minted"] = done.stdout.strip()
        self.assertEqual(self.get(who="minted").status, 200)
        other = node.cli("token", "mint", "-s", "alice", "--issuer", "https://other.test/", "--key", signer.pem, "--kid",
                         signer.kid)
        self.tokens["other"] = other.stdout.strip()
        self.assertEqual(self.get(who="other").status, 401)


class Golden(Folder):
    def suite(self, cases):
        self.file("team.yaml", TREE)
        return self.file("golden.yaml", {"profile": "rest", "declare": ["team.yaml"], "cases": cases})

    def case(self, name, user, method, target, expect, **more):
        return {"name": name, "user": user, "request": {"method": method, "target": target}, "expect": expect, **more}

    def test_golden_cases(self):
        good = [self.case("a reader reads", "alice", "GET", "/w/blue/pipelines/p1", "allow"),
                self.case("a reader does not write", "alice", "POST", "/w/blue/pipelines", "deny", reason="not-granted"),
                self.case("the deny holds", "alice", "GET", "/w/blue/pipelines/p9", "deny", reason="denied"),
                self.case("bob is disabled", "bob", "GET", "/w/blue/pipelines/p1", "deny", reason="user-disabled"),
                self.case("red is closed", "alice", "GET", "/w/red/pipelines/p1", "deny")]
        tree = self.json("policy", "test", self.suite(good))
        self.assertEqual((tree["passed"], tree["failed"]), (5, 0))

    def test_a_long_name_is_whole_in_json(self):
        name = '"' * 3000
        tree = self.json("policy", "test", self.suite([self.case(name, "alice", "GET", "/w/blue/pipelines/p1", "allow")]))
        self.assertEqual(tree["cases"][0]["name"], name)

    def test_a_file_that_cannot_be_run_is_told_in_json(self):
        done = self.run_cli("policy", "test", os.path.join(self.folder, "absent.yaml"), "--json")
        self.assertEqual(done.returncode, FAILED)
        tree = json.loads(done.stdout)
        self.assertEqual((tree["passed"], tree["failed"], tree["error"]["status"]), (0, 0, "absent"))

    def test_a_failing_case_fails_the_command(self):
        bad = [self.case("right", "alice", "GET", "/w/blue/pipelines/p1", "allow"),
               self.case("wrong verdict", "alice", "GET", "/w/red/pipelines/p1", "allow"),
               self.case("wrong reason", "alice", "POST", "/w/blue/pipelines", "deny", reason="denied")]
        path = self.suite(bad)
        tree = self.json("policy", "test", path, code=NO)
        self.assertEqual((tree["passed"], tree["failed"]), (1, 2))
        done = self.run_cli("policy", "test", path)
        self.assertEqual(done.returncode, NO)
        self.assertRegex(done.stdout, r"(?m)^FAIL \S*golden.yaml:1: wrong verdict: expected allow, got deny \(not-granted\)$")
        self.assertIn("    Grant DETAIL or OPERATION_ALL or ALL on pipelines/p1 in workspace red", done.stdout)
        self.assertIn("wrong reason: expected deny (denied), got deny (not-granted)", done.stdout)
        told = {c["name"]: c for c in tree["cases"]}["wrong verdict"]
        self.assertEqual((told["expected"], told["got"], told["line"]), ("allow", "deny", 1))
        self.assertIn("Grant DETAIL", told["why"])

    def test_what_is_refused_before_any_decision_has_its_reason(self):
        path = self.suite([self.case("dots", "alice", "GET", "/w/blue/../x", "deny", reason="bad-target"),
                           self.case("no method", "alice", "G T", "/w/blue/x", "deny", reason="bad-request")])
        self.assertEqual(self.json("policy", "test", path)["passed"], 2)
        told = self.json("check", "--store", self.store, "-u", "alice", "/w/blue/../x", code=NO, env={"POSTERN_STATE_DIR": self.folder})
        self.assertEqual((told["verdict"], told["status"], told["reason"]), ("deny", 400, "bad-target"))
        self.assertIn("dot", told["explanation"]["detail"])

    def test_a_configuration_is_tried_out_and_left_alone(self):
        state = os.path.join(self.folder, "state")
        self.file("postern.yaml", {"state_dir": state, "upstreams": {"app": {"address": "127.0.0.1:9"}},
                                   "listeners": [{"name": "in", "kind": "proxy", "address": "127.0.0.1:1",
                                                  "mounts": [{"profile": "rest", "upstream": "app"}]}]})
        self.file("team.yaml", TREE)
        path = self.file("golden.yaml", {"config": "postern.yaml", "declare": ["team.yaml"], "cases": [
            self.case("reads", "alice", "GET", "/w/blue/pipelines/p1", "allow")]})
        self.assertEqual(self.json("policy", "test", path)["passed"], 1)
        self.assertFalse(os.path.exists(state))

    def test_the_worked_example_as_it_is_written(self):
        """policies/README.md, followed by somebody with an app of his own."""
        with open(os.path.join(paths.ROOT, "policies", "README.md"), encoding="utf-8") as f:
            text = f.read()
        profile = re.search(r"```yaml profile\n(.*?)```", text, re.S).group(1)
        config = re.search(r"```yaml\n(profiles: .*?)```", text, re.S).group(1)
        cases = re.search(r"```yaml cases\n(.*?)```", text, re.S).group(1)
        self.file("shelf.yaml", profile)
        self.file("postern.yaml", config)
        self.file("team.yaml", {
            "workspaces": [{"name": "team-a"}], "users": [{"name": "ann"}, {"name": "bob"}],
            "roles": [{"name": "writer", "permissions": [{"entity": "document", "level": "READ"},
                                                         {"entity": "comment", "id": "8", "level": "DENY"}]}],
            "bindings": [{"user": "ann", "role": "writer", "workspace": "team-a"}]})
        for n, expect in ((7, "allow"), (8, "deny")):      # a fallback decides, and a deny before it
            cases += ("  - {name: comment %d, user: ann, expect: %s, request: {host: team-a.shelf.example, "
                      "target: /api/v1/documents/plan/comments/%d}}\n" % (n, expect, n))
        done = self.run_cli("policy", "test", self.file("cases.yaml", cases))
        self.assertEqual((done.returncode, done.stdout), (YES, "4 passed, 0 failed\n"), done.stderr)

    def test_a_suite_that_says_less_than_it_looks_is_an_error(self):
        good = self.case("x", "alice", "GET", "/w/blue/pipelines/p1", "allow")
        self.suite([good])
        for tree, where, word in (
                ({"declare": "team.yaml", "cases": [good]}, ":declare", "list"),
                ({"declare": ["team.yaml"], "cases": [{**good, "reason": "not_granted"}]}, ":cases[0].reason", "not_granted"),
                ({"declare": ["team.yaml"], "cases": [{"name": "x", "expect": "deny"}]}, ":cases[0]", "needs a request"),
                ({"declare": ["team.yaml"], "cases": [{**good, "request": {"target": "/w/blue/x", "headers": ["a"]}}]},
                 ".headers", "map"),
                ({"profile": "rest", "config": "p.yaml", "cases": [good]}, ":profile", "one of the two"),
                ({"cases": []}, ":cases", "no cases")):
            path = self.file("bad.yaml", tree)
            done = self.run_cli("policy", "test", path)
            self.assertEqual(done.returncode, FAILED, done.stdout)
            self.assertIn("bad.yaml:1" + where if where[0] == ":" else where, done.stderr)
            self.assertIn(word, done.stderr)
            told = self.json("policy", "test", path, code=FAILED)
            self.assertIn(word, told["error"]["message"])


class Configuration(Folder):
    def test_config_check(self):
        path = self.file("good.yaml", {"state_dir": self.folder + "/state"})
        self.assertEqual(self.run_cli("config", "check", path).returncode, YES)
        self.assertEqual(self.json("config", "check", path)["ok"], True)
        for text, where in (("state_dir: x\nlimts: {}\n", r":2:limts"), ("workers: many\n", r":1:workers"),
                            ("listeners:\n  - {name: a, kind: proxies, address: '127.0.0.1:1'}\n", r":2:.*kind"),
                            ("limits: {request_head_bytes: 1}\n", r":1:.*request_head_bytes")):
            done = self.run_cli("config", "check", self.file("bad.yaml", text))
            self.assertEqual(done.returncode, NO, text)
            self.assertRegex(done.stderr, r"bad\.yaml" + where)
        self.assertEqual(self.run_cli("config", "check", "/nonexistent.yaml").returncode, NO)

    def test_a_named_role_that_is_not_there_is_told(self):
        config = self.file("c.yaml", {"state_dir": self.folder + "/state", "identity": {"issuers": [{
            "issuer": "https://idp.test/", "audiences": ["a"], "group_roles": {"g": "everywhere", "h": "reader"},
            "unknown_users": "create", "default_role": "none-such"}]}})
        self.assertEqual(self.json("config", "check", config), {"ok": True, "warnings": []})  # there is no store yet
        self.assertEqual(self.run_cli("apply", "-c", config, "-f", self.file("d.yaml", TREE)).returncode, YES)
        told = self.json("config", "check", config)
        self.assertEqual(told, {"ok": True, "warnings": [
            config + ':1:identity.issuers[0].group_roles.h: there is no global role "reader" yet',
            config + ':1:identity.issuers[0].default_role: there is no global role "none-such" yet']})
        done = self.run_cli("config", "check", config)
        self.assertEqual((done.returncode, done.stdout), (YES, "ok\n"))
        self.assertEqual(done.stderr.splitlines(), told["warnings"])

    def test_what_does_nothing_is_told(self):
        config = self.file("c.yaml", {
            "state_dir": self.folder + "/state",
            "identity": {"issuers": [{"issuer": "i", "audiences": ["a"], "default_role": "x"}]},
            "listeners": [{"name": "auth", "kind": "auth_request", "address": "127.0.0.1:1",
                           "mounts": [{"profile": "rest"}]}]})
        self.assertEqual(self.json("config", "check", config)["warnings"], [
            config + ":1:listeners[0]: without trusted_peers it answers nobody",
            config + ":1:identity.issuers[0].default_role: nobody gets it without unknown_users: create"])

    def test_what_a_start_would_miss_is_told_with_its_place(self):
        issuer = {"issuer": "i", "audiences": ["a"]}
        for tree, where, word in (
                ({"log": {"access": self.folder + "/absent/a.log"}}, "log.access", "No such file"),
                ({"log": {"events": self.folder}}, "log.events", "directory"),
                ({"store": {"url": "sqlite:///%s/absent/p.db" % self.folder}}, "store.url", "No such file"),
                ({"store": {"url": "mysql://h/d"}}, "store.url", "postgresql://"),
                ({"state_dir": self.folder + "/absent/state"}, "state_dir", "No such file"),
                ({"state_dir": self.file("file", "")}, "state_dir", "Not a directory"),
                ({"profiles": {"rest": {"file": "absent.yaml"}}}, "profiles.rest.file", "absent.yaml"),
                ({"policies_dir": "/absent"}, "policies_dir", "/absent/"),
                ({"identity": {"issuers": [{**issuer, "keys": {"jwks_file": "absent.json"}}]}},
                 r"identity.issuers\[0\].keys", "absent.json"),
                ({"identity": {"issuers": [{**issuer, "keys": {"secrets": [{"alg": "HS256", "file": "env:ABSENT"}]}}]}},
                 r"identity.issuers\[0\].keys", "not set")):
            done = self.run_cli("config", "check", self.file("bad.yaml", {"state_dir": self.folder + "/state", **tree}))
            self.assertEqual(done.returncode, NO, tree)
            self.assertRegex(done.stderr, r"bad\.yaml:1:%s: .*%s" % (where, word))
            self.assertEqual(os.listdir(self.folder).count("absent"), 0)

    def examples(self):
        """(name, text) of every whole configuration that the project shows."""
        with open(os.path.join(paths.ROOT, "README.md"), encoding="utf-8") as f:
            blocks = re.findall(r"(?ms)^```yaml\n(state_dir: .*?)^```$", f.read())
        self.assertEqual(len(blocks), 2)
        yield from (("README.md", block) for block in blocks)
        with open(os.path.join(paths.ROOT, "deploy", "postern.yaml"), encoding="utf-8") as f:
            yield "deploy/postern.yaml", f.read()

    def test_every_reason_is_explained(self):
        with open(os.path.join(paths.ROOT, "src", "policy", "reason.c"), encoding="utf-8") as f:
            reasons = re.findall(r'\{([45]\d\d),\s*"([a-z-]+)"', f.read())
        self.assertGreater(len(reasons), 30)
        with open(os.path.join(paths.ROOT, "README.md"), encoding="utf-8") as f:
            table = re.search(r"(?ms)^\| reason \|.*?^$", f.read())[0]
        for status, name in reasons:
            row = [line for line in table.splitlines() if "`%s`" % name in line]
            self.assertEqual(len(row), 1, name)
            self.assertIn(status, row[0], name)

    def test_the_examples_are_accepted(self):
        for name, text in self.examples():
            path = self.file("example.yaml", text.replace("/var/lib/postern", self.folder + "/state"))
            done = self.run_cli("config", "check", path)
            self.assertEqual(done.returncode, YES, (name, done.stderr))

    def test_every_limit_can_be_set_by_the_environment(self):
        with open(os.path.join(paths.ROOT, "deploy", "postern.yaml"), encoding="utf-8") as f:
            text = re.search(r"(?ms)^limits:\n(.*?)^$", f.read())[1]
        limits = re.findall(r"(?m)^  (\w+): \d", text) + ["connect_s", "first_byte_s", "response_head_s", "idle_body_s"]
        self.assertGreater(len(limits), 20)
        path = self.file("good.yaml", {"state_dir": self.folder + "/state", "upstreams": {"app": {"address": "127.0.0.1:1"}}})
        for limit in limits:
            done = self.run_cli("config", "check", path, env={"POSTERN_LIMITS_" + limit.upper(): "many"})
            self.assertEqual(done.returncode, NO, limit)
            self.assertIn("environment:limits.%s:" % limit, done.stderr)

    def test_unknown_keys_are_refused_at_every_depth(self):
        for tree in ({"identity": {"issuer": 1}}, {"log": {"acces": "stdout"}}, {"identity": {"issuers": [{"isuer": "x"}]}},
                     {"upstreams": {"a": {"adress": "x"}}}, {"profiles": {"rest": {"shadows": True}}}):
            done = self.run_cli("config", "check", self.file("bad.yaml", tree))
            self.assertEqual(done.returncode, NO, tree)
            self.assertTrue(re.search("isuer|issuer|acces|adress|shadows", done.stderr), done.stderr)


if __name__ == "__main__":
    unittest.main()
