"""The world of http_cases.json: listeners, routes, users, grants, tokens, as its `meta.world` describes them."""
import os

from . import keys, paths, proc
from .node import Node

ALL = ["list", "detail", "create", "update", "delete"]
DENIED_ID = "22222222-2222-4222-8222-222222222222"
MLFLOW_TYPES = ["experiment", "registered_model", "prompt", "gateway_secret", "gateway_endpoint",
                "gateway_model_definition", "mcp_server"]


def declarations(issuer="https://idp.test/"):
    roles = [
        {"name": "rest-all", "workspace": "blue", "permissions":
            [{"entity": "*", "allow": ALL}] +
            [{"entity": e, "id": DENIED_ID, "deny": ALL} for e in ("pipelines", "runs", "api")]},
        {"name": "mlflow-editor", "workspace": "blue", "permissions":
            [{"entity": "workspace", "level": "USE"}] +
            [{"entity": e, "level": "EDIT"} for e in MLFLOW_TYPES]},
    ]
    return {
        "workspaces": [{"name": "blue", "kind": "project"}, {"name": "red", "kind": "project"}],
        "roles": roles,
        "users": [{"name": n, "identities": [{"issuer": issuer, "subject": n}]} for n in ("alice", "mallory")],
        "bindings": [{"user": "alice", "role": r["name"], "workspace": "blue"} for r in roles],
    }


def mounts(upstream="app"):
    return [{"host": "app.example", "prefix": "/w/", "profile": "rest", "upstream": upstream},
            {"host": "app.example", "prefix": "/api/2.0/mlflow/", "profile": "mlflow", "upstream": upstream}]


def issuer(signer):
    return {"issuer": signer.issuer, "audiences": [signer.audience], "algorithms": ["ES256"],
            "keys": {"jwks_file": signer.jwks}, "claims": {"user": "sub"}, "unknown_users": "refuse"}


def config(signer, upstream, limits=None):
    """The configuration of one node of this world; `upstream` is an address."""
    def local():
        return "127.0.0.1:%d" % proc.free_port()
    return {
        "identity": {"credentials": {"header": "Authorization", "cookie": "postern_token"},
                     "issuers": [issuer(signer)]},
        "listeners": [
            {"name": "proxy", "kind": "proxy", "address": local(), "trusted_peers": [], "mounts": mounts()},
            {"name": "auth_request", "kind": "auth_request", "address": local(), "path": "/_postern/auth",
             "target_from": "X-Original-URI", "method_from": "X-Original-Method",
             "trusted_peers": ["127.0.0.1/32"], "mounts": mounts()},
            {"name": "ops", "kind": "ops", "address": local()},
        ],
        "upstreams": {"app": {"address": upstream, "host": "client", "authorization": "drop"}},
        "workspace_headers": ["X-Workspace", "X-Mlflow-Workspace"],
        "profiles": {
            "rest": {"file": os.path.join(paths.PROFILES, "rest.yaml"), "default_workspace": None},
            "mlflow": {"file": os.path.join(paths.PROFILES, "mlflow.yaml"), "default_workspace": None},
        },
        "limits": dict(limits or {}),
    }


class World:
    """Keys, tokens and one running node in front of the upstream at `port`."""

    def __init__(self, folder, port, limits=None, token_size=400, adjust=None, tree=None):
        os.makedirs(folder, exist_ok=True)
        self.signer = keys.Signer(folder)
        self.tokens = {n: self.signer.token(n, size=token_size) for n in ("alice", "mallory")}
        settings = config(self.signer, "127.0.0.1:%d" % port, limits)
        if adjust:
            adjust(settings)
        self.node = Node(settings, folder)
        self.node.apply(tree or declarations())
        self.node.start()

    def variant(self, folder, port, limits):
        """A second node with other limits and the same keys."""
        os.makedirs(folder, exist_ok=True)
        node = Node(config(self.signer, "127.0.0.1:%d" % port, limits), folder)
        node.apply(declarations())
        return node.start()
