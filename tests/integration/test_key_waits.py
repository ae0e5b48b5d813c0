"""A token whose key is not there yet waits for its own issuer's key set: not for another's, and over a reload."""
import json
import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import http1, keys, paths, proc  # noqa: E402
from lib.base import WorldCase  # noqa: E402
from lib.jwks_server import JwksServer  # noqa: E402

OTHER = "https://other.test/"


class KeyWaits(WorldCase):
    @classmethod
    def adjust(cls, config):
        def url(server):
            return {"jwks_url": server.url(), "ca_file": server.ca_file, "allow_addresses": ["127.0.0.1/32"]}
        issuer = config["identity"]["issuers"][0]
        with open(issuer["keys"]["jwks_file"], "rb") as f:
            cls.known = f.read()
        cls.servers = []
        for name in ("one", "two"):
            os.mkdir(os.path.join(cls.folder, name))
            cls.servers.append(JwksServer(os.path.join(cls.folder, name), cls.known))
            cls.addClassCleanup(cls.servers[-1].close)
        config["identity"]["issuers"] = [{**issuer, "keys": url(cls.servers[0])},
                                         {**issuer, "issuer": OTHER, "keys": url(cls.servers[1])}]

    def waiting(self, token):
        """A function that gives the status; the request is on its way."""
        out = []

        def run():
            out.append(http1.ask(self.proxy, "GET", "/w/blue/x", [("Authorization", "Bearer " + token)], timeout=20).status)
        thread = threading.Thread(target=run)
        thread.start()

        def status():
            thread.join(20)
            return out[0]
        return status

    def test_who_waits_is_told_by_his_own_issuer_and_over_a_reload(self):
        new, alien = (keys.Signer(self.folder, kid=kid) for kid in ("new", "alien"))
        with open(new.jwks, "rb") as f:
            both = json.dumps({"keys": json.loads(self.known)["keys"] + json.load(f)["keys"]}).encode()
        first, second = self.servers
        first.document, first.delay = both, 2
        before = [s.fetches for s in self.servers]
        asked = self.waiting(new.token("alice"))
        self.assertTrue(proc.wait_until(lambda: first.fetches > before[0], 5 * paths.slack()))
        # another issuer's keys come meanwhile, and are none of its business
        other = self.waiting(keys.Signer(self.folder, issuer=OTHER, kid="lost").token("alice"))
        self.assertEqual(other(), 401)
        self.assertGreater(second.fetches, before[1])
        refused = self.waiting(alien.token("alice"))
        time.sleep(0.2)
        self.node.reload()
        self.assertTrue(proc.wait_until(lambda: "config.reloaded" in self.node.child.err(), 5 * paths.slack()))
        self.assertEqual((asked(), refused()), (200, 401))


if __name__ == "__main__":
    unittest.main()
