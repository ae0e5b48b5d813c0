"""Roles that the configuration names and the store does not have: said once, counted while it lasts, and no more."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402


class NamedRoles(WorldCase):
    @classmethod
    def adjust(cls, config):
        config["identity"]["issuers"][0].update(claims={"user": "sub", "groups": "groups"}, group_roles={
            "admins": "all-of-it", "data": "not-yet"}, unknown_users="create", default_role="guest")

    def told(self):
        """[(role, group or None)] of the lines so far."""
        lines = [json.loads(line) for line in self.node.child.err().splitlines() if '"role.missing"' in line]
        self.assertTrue(all(line["level"] == "warn" and line["issuer"] == "https://idp.test/" for line in lines), lines)
        return [(line["role"], line.get("group")) for line in lines]

    def missing(self):
        return self.node.metrics()["postern_roles_missing"]

    def test_a_role_that_is_not_there_is_said_and_counted(self):
        groups = self.world.signer.token("mallory", groups=["data"])
        ask = lambda: self.get("/w/red/x", None, [("Authorization", "Bearer " + groups)]).status  # noqa: E731
        first = [("all-of-it", "admins"), ("not-yet", "data"), ("guest", None)]
        self.assertTrue(proc.wait_until(lambda: self.told() == first, 5), self.told())
        self.assertEqual(self.missing(), 3)
        self.assertEqual(ask(), 403)
        role = {"name": "not-yet", "permissions": [{"entity": "*", "allow": ["list"]}]}
        self.node.apply({"roles": [role, {**role, "name": "guest"}]})
        self.assertTrue(proc.wait_until(lambda: ask() == 200, 5))
        self.assertEqual(self.missing(), 1)
        self.node.reload()
        self.assertTrue(proc.wait_until(lambda: self.told() == first + first[:1], 5), self.told())
        self.assertEqual(self.missing(), 1)


if __name__ == "__main__":
    unittest.main()
