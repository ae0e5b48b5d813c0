"""Debian's nginx asks Postern by auth_request, with the configuration that ships, in front of the demo app."""
import json
import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import apps, http1, nginx  # noqa: E402
from lib.world import World, declarations  # noqa: E402


class Nginx(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="postern-nginx-")
        cls.app = apps.Demo("demo", os.path.join(cls.folder, "app")).start()
        tree = declarations()
        for row in tree["roles"][0]["permissions"]:    # a deny of `list` on one id closes the list, too
            row.pop("deny", None) and row.update(deny=["detail", "update", "delete"])
        cls.world = World(os.path.join(cls.folder, "node"), cls.app.port, tree=tree)
        cls.node = cls.world.node
        cls.nginx = nginx.Nginx(os.path.join(cls.folder, "nginx"), cls.node.address("auth_request")[1],
                                cls.app.port).start()

    @classmethod
    def tearDownClass(cls):
        cls.nginx.stop()
        code = cls.node.stop()
        cls.app.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)
        assert code == 0, "serve ended with %s" % code

    def ask(self, method, target, who="alice", fields=(), body=None):
        credential = [("Authorization", "Bearer " + self.world.tokens[who])] if who else []
        return http1.ask(("127.0.0.1", self.nginx.port), method, target, credential + list(fields), body)

    def seen(self, answer):
        return {k.lower(): v for k, v in json.loads(answer.body)["seen"].items()}

    def test_an_allowed_request_reaches_the_app_with_its_identity(self):
        answer = self.ask("GET", "/w/blue/pipelines")
        self.assertEqual(answer.status, 200, answer.body)
        seen = self.seen(answer)
        self.assertEqual(seen["x-postern-user"], "alice")
        self.assertEqual(seen["x-postern-workspace"], "blue")
        self.assertIn("rest-all", seen["x-postern-roles"])
        self.assertRegex(seen["x-postern-decision-id"], r"^[0-9a-f]{32}$")
        self.assertTrue(seen["x-postern-revision"])

    def test_writes_pass_with_their_body(self):
        body = json.dumps({"name": "from nginx"}).encode()
        answer = self.ask("POST", "/w/blue/pipelines", body=body)
        self.assertEqual(answer.status, 201, answer.body)
        self.assertEqual(self.ask("GET", "/w/blue/pipelines/from%20nginx").status in (200, 404), True)
        self.assertIn("from nginx", json.loads(self.ask("GET", "/w/blue/pipelines").body)["pipelines"])

    def test_no_token_is_401_with_a_challenge(self):
        answer = self.ask("GET", "/w/blue/pipelines", who=None)
        self.assertEqual(answer.status, 401)
        self.assertIn(b"Bearer", answer.value(b"www-authenticate") or b"")
        self.assertIn(b"realm", answer.value(b"www-authenticate") or b"")

    def test_a_bad_token_is_401_with_its_error(self):
        answer = self.ask("GET", "/w/blue/pipelines", who=None, fields=[("Authorization", "Bearer x.y.z")])
        self.assertEqual(answer.status, 401)
        self.assertIn(b"invalid_token", answer.value(b"www-authenticate") or b"")

    def test_a_refusal_is_403_and_shows_its_reason(self):
        answer = self.ask("GET", "/w/red/pipelines")
        self.assertEqual(answer.status, 403)
        self.assertIn(b"not-granted", answer.body)
        self.assertRegex(answer.value(b"x-postern-decision-id") or b"", rb"^[0-9a-f]{32}$")
        self.assertNotIn(b"secret", answer.body)

    def test_mallory_is_refused_everywhere(self):
        for target in ("/w/blue/pipelines", "/w/red/pipelines", "/w/blue/pipelines/daily"):
            self.assertEqual(self.ask("GET", target, who="mallory").status, 403, target)

    def test_a_denied_id_holds_for_every_method(self):
        target = "/w/blue/pipelines/22222222-2222-4222-8222-222222222222"
        for method in ("GET", "PUT", "DELETE"):
            self.assertEqual(self.ask(method, target, body=b"{}").status, 403, method)

    def test_identity_headers_of_the_client_are_gone(self):
        for name in ("X-Postern-User", "X-Postern-Roles", "X-Postern-Workspace", "X-Postern-Decision-Id",
                     "X-Postern-Revision", "x-postern-user", "X_Postern_User"):
            answer = self.ask("GET", "/w/blue/pipelines", fields=[(name, "admin")])
            self.assertIn(answer.status, (200, 403), name)
            if answer.status == 200:
                self.assertNotIn("admin", self.seen(answer).values(), name)
                self.assertEqual(self.seen(answer)["x-postern-user"], "alice", name)

    def test_the_client_cannot_choose_what_is_asked(self):
        for name, value in (("X-Original-URI", "/w/blue/pipelines"), ("X-Original-Method", "GET"),
                            ("X-Forwarded-Uri", "/w/blue/pipelines"), ("X-Original-URL", "/w/blue/pipelines")):
            self.assertEqual(self.ask("GET", "/w/red/pipelines", fields=[(name, value)]).status, 403, name)
        self.assertEqual(self.ask("DELETE", "/w/red/pipelines/secret",
                                  fields=[("X-Original-Method", "GET")]).status, 403)

    def test_paths_that_readers_could_disagree_on_never_reach_the_app(self):
        for target in ("/w/blue/%2e%2e/red/pipelines", "/w/blue/..%2fred/pipelines", "/w/blue//pipelines",
                       "/w/blue/pipelines;x=1", "/w/%72ed/pipelines"):
            answer = self.ask("GET", target)
            self.assertGreaterEqual(answer.status, 400, target)
            self.assertNotIn(b"secret", answer.body, target)

    def test_the_endpoint_itself_is_closed_to_clients(self):
        self.assertEqual(self.ask("GET", "/_postern/auth").status, 404)

    def test_the_app_sees_no_credential(self):
        cookie = [("Cookie", "a=1; postern_token=%s; b=2" % self.world.tokens["alice"])]
        answer = self.ask("GET", "/w/blue/pipelines", who=None, fields=cookie)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertNotIn(self.world.tokens["alice"].encode(), answer.body)

    def test_a_check_costs_no_new_connection(self):
        with http1.Client(("127.0.0.1", self.nginx.port)) as c:
            for _ in range(50):
                answer = c.ask("GET", "/w/blue/pipelines",
                               [("Authorization", "Bearer " + self.world.tokens["alice"])])
                self.assertEqual(answer.status, 200)


if __name__ == "__main__":
    unittest.main()
