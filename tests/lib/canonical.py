"""What a request that Postern sends upstream must look like (rules H1, H4, H9), asked of every single one."""
import re

IDENTITY = {b"x-postern-user", b"x-postern-roles", b"x-postern-workspace", b"x-postern-decision-id",
            b"x-postern-revision"}
FORWARDING = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port",
              b"forwarded"}
WORKSPACE = {b"x-workspace", b"x-mlflow-workspace"}
HOP_BY_HOP = {b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"proxy-authorization",
              b"proxy-authenticate", b"http2-settings"}
PROTECTED = re.compile(
    rb"authorization|forwarded|x-real-ip|x-host|base-url|destination|remote-.*|x-remote-.*|x-postern-.*|"
    rb"x-forwarded-.*|x-auth-request-.*|x-authenticated-.*|x-user-id|x-original-.*|x-rewrite-url|x-envoy-.*|"
    rb"x-accel-.*|x-sendfile|x-script-name|x-ssl-client-.*|x-webauth-.*|x-goog-authenticated-.*|"
    rb"x-http-method.*|x-method-override|x-workspace|x-mlflow-workspace")
SEGMENT_DOTS = re.compile(rb"(?:\.|%2e){1,2}", re.I)


def fold(name):
    """H9: runs of - _ . are one, those at the ends are cut, case and a leading HTTP_ do not count."""
    name = re.sub(rb"[-_.]+", b"-", name.lower()).strip(b"-")
    return name[5:].strip(b"-") if name.startswith(b"http-") else name


def _target_faults(target):
    path = target.partition(b"?")[0]
    if not path.startswith(b"/") or path.startswith(b"//"):
        yield "target %r does not start with one slash" % target[:60]
    if b"//" in path or b"\\" in target or b"#" in target:
        yield "target %r" % target[:60]
    if re.search(rb"%(?![0-9A-Fa-f]{2})", target):
        yield "malformed escape in %r" % target[:60]
    if any(SEGMENT_DOTS.fullmatch(s) for s in path.split(b"/")):
        yield "dot segment in %r" % target[:60]


def _field_faults(msg):
    workspace = (msg.values(b"x-postern-workspace") or [None])[0]
    for name, value in msg.fields:
        low, folded = name.lower(), fold(name)
        if b"_" in name:
            yield "name with underscore %r" % name
        if low in HOP_BY_HOP:
            yield "hop-by-hop field %r" % name
        if low == b"connection" and value.lower() not in (b"close", b"keep-alive"):
            yield "Connection: %r" % value
        if low == b"cookie" and b"postern_token" in value:
            yield "credential cookie"
        if PROTECTED.fullmatch(folded):
            if low in WORKSPACE:
                if value != workspace:
                    yield "workspace header %r differs from the decision's workspace %r" % (value, workspace)
            elif low not in IDENTITY | FORWARDING:
                yield "protected field %r" % name
            elif len(msg.values(low)) != 1:
                yield "more than one %r" % name


def faults(msg):
    """Why this request is not canonical; empty when it is."""
    out = list(msg.faults)
    out += _target_faults(msg.target)
    out += _field_faults(msg)
    if msg.minor != 1:
        out.append("HTTP/1.0")
    if len(msg.values(b"host")) != 1:
        out.append("%d Host fields" % len(msg.values(b"host")))
    if any(v != b"chunked" for v in msg.values(b"transfer-encoding")):
        out.append("Transfer-Encoding %r" % msg.values(b"transfer-encoding"))
    for name in IDENTITY - {b"x-postern-roles"}:
        if len(msg.values(name)) != 1:
            out.append("%d fields %s" % (len(msg.values(name)), name.decode()))
    return out
