"""Signing keys and tokens for tests, made with the openssl command (Python's own library has no ECDSA)."""
import base64
import json
import os
import subprocess
import time

KID = "runner-1"


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True).stdout


def _raw_signature(der):
    """DER SEQUENCE of two INTEGERs -> r || s, 32 bytes each."""
    at, out = 2, b""
    for _ in range(2):
        size = der[at + 1]
        number = der[at + 2:at + 2 + size].lstrip(b"\0")
        out += number.rjust(32, b"\0")
        at += 2 + size
    return out


class Signer:
    """An ES256 key pair in `folder`: the private key as PEM, the public one as JWKS."""

    def __init__(self, folder, issuer="https://idp.test/", audience="postern", kid=KID):
        self.issuer, self.audience, self.kid = issuer, audience, kid
        self.pem = os.path.join(folder, kid + ".pem")
        self.jwks = os.path.join(folder, kid + ".jwks.json")
        if not os.path.exists(self.pem):
            old = os.umask(0o077)
            try:
                _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                         "-out", self.pem)
            finally:
                os.umask(old)
        point = _openssl("pkey", "-in", self.pem, "-pubout", "-outform", "DER")[-64:]
        key = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
               "x": b64u(point[:32]), "y": b64u(point[32:])}
        with open(self.jwks, "w", encoding="ascii") as f:
            json.dump({"keys": [key]}, f)

    def sign(self, header, claims, separators=(",", ":")):
        text = (b64u(json.dumps(header, separators=separators).encode()) + "." +
                b64u(json.dumps(claims, separators=(",", ":")).encode()))
        der = _openssl("dgst", "-sha256", "-sign", self.pem, data=text.encode("ascii"))
        return text + "." + b64u(_raw_signature(der))

    def token(self, subject, lifetime=3600, size=None, **more):
        """A token for `subject`; with `size`, of exactly that many bytes (a padded claim)."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now,
                  "exp": now + lifetime, **more}
        header = {"alg": "ES256", "kid": self.kid, "typ": "JWT"}
        if size is None:
            return self.sign(header, claims)
        # base64url has no length of 1 modulo 4: a blank in the header shifts the sum where the claims alone cannot
        for separators in ((",", ":"), (", ", ":")):
            fixed = len(b64u(json.dumps(header, separators=separators).encode())) + 86 + 2
            for pad in range(size):
                padded = {**claims, "pad": "p" * pad}
                length = fixed + len(b64u(json.dumps(padded, separators=(",", ":")).encode()))
                if length == size:
                    return self.sign(header, padded, separators)
                if length > size:
                    break
        raise ValueError("no token of exactly %d bytes" % size)
