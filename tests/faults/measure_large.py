"""What a change and a start cost where there is much: a million permissions in a hundred roles, a hundred thousand users."""
import os
import re
import statistics
import time

from harness import Load, Prober, paths, proc
from lib.fleet import DETAIL, Fleet
from measure import keep, many_users

ROLES, CHANGES, STARTS = 100, 11, 3
SLICE_S = 0.05          # no turn uses more than its slice
NOTICED_S = 0.8         # nobody publishes these changes: until the log is read, and a while
WORKER = re.compile(r"worker-\d+$")

# A change as the management plane makes one; the role's rows and what is said of them may differ.
CHANGE = """BEGIN;
UPDATE log_head SET n = n + 1, open = 1;
INSERT INTO change_log (n, stamp, at, actor) SELECT n, replace(gen_random_uuid()::text, '-', ''), 0, 'test' FROM log_head;
%s;
UPDATE change_log SET keys = '%s' WHERE n = (SELECT n FROM log_head);
UPDATE log_head SET open = 0;
INSERT INTO audit (time, actor, action, detail) VALUES (0, 'test', 'large', '');
COMMIT"""


def change(fleet, keys, statement):
    fleet.pg.sql("postern", CHANGE % (statement, keys))


def many_permissions(fleet, count):
    """So many, a role's side by side as an import leaves them; nobody has the roles yet. One change."""
    change(fleet, "all", """INSERT INTO roles (name) SELECT 'large-' || i FROM generate_series(0, %d) i;
INSERT INTO permissions (role_id, entity, entity_id, access)
    SELECT r.id, 'things', 'large-' || i, %d FROM generate_series(0, %d) i
    JOIN roles r ON r.name = 'large-' || i / %d ORDER BY i""" % (ROLES - 1, DETAIL, count - 1, count // ROLES))
    fleet.pg.sql("postern", "VACUUM ANALYZE")


def worker_ns(node):
    """Processor time of each worker."""
    out = {}
    for task in os.listdir("/proc/%d/task" % node.child.pid):
        base = "/proc/%d/task/%s/" % (node.child.pid, task)
        with open(base + "comm", encoding="ascii") as f:
            name = f.read().strip()
        if WORKER.match(name):
            with open(base + "schedstat", encoding="ascii") as f:
                out[name] = int(f.read().split()[0])
    return out


def watched(fleet, keys, statement, seconds):
    """(ms from the log's row to effect, most ms of processor that a worker used in a SLICE_S of that time)."""
    node, slices = fleet.nodes[0], [worker_ns(fleet.nodes[0])]
    change(fleet, keys, statement)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(SLICE_S)
        slices.append(worker_ns(node))
    busiest = max(after[name] - before[name] for before, after in zip(slices, slices[1:]) for name in after)
    return node.metrics()["postern_change_seconds"] * 1000, busiest / 1e6


def changes(fleet, prober):
    """A user, a role of a hundredth of all permissions, everything; each felt by who is asked about it."""
    sql = fleet.pg.sql
    role, user = (int(sql("postern", q)) for q in ("SELECT id FROM roles WHERE name = 'large-5'",
                                                   "SELECT id FROM users WHERE name = 'u1'"))
    found = {"user": [], "role": [], "whole": []}
    found["user"].append(watched(fleet, '["user:%d"]' % user, "INSERT INTO bindings (user_id, role_id) VALUES (%d, %d)" %
                                 (user, role), NOTICED_S))
    for i in range(CHANGES):
        if prober.ask("u1", "r0").status != 403:
            raise RuntimeError("u1 may see r0 before he was given it")
        found["role"].append(watched(fleet, '["role:%d"]' % role, "INSERT INTO permissions (role_id, entity, entity_id, "
                                     "access) VALUES (%d, 'things', 'r0', %d)" % (role, DETAIL), NOTICED_S))
        if prober.ask("u1", "r0").status != 200:
            raise RuntimeError("u1 was given r0 and may not see it")
        found["role"].append(watched(fleet, '["role:%d"]' % role, "DELETE FROM permissions WHERE role_id = %d AND "
                                     "entity_id = 'r0'" % role, NOTICED_S))
        found["user"].append(watched(fleet, '["user:%d"]' % user, "UPDATE users SET email = '%d' WHERE id = %d" %
                                     (i, user), NOTICED_S))
    for i in range(3):
        found["whole"].append(watched(fleet, "all", "UPDATE users SET email = 'all-%d' WHERE id = %d" % (i, user), 4))
    return found


def start_seconds(node):
    """From the process to `ready`."""
    began = time.monotonic()
    child = proc.Child([paths.binary(), "serve", "--config", node.path], out_dir=node.folder, name=node.name,
                       cwd=paths.ROOT)
    node.child = child
    if not proc.wait_until(node.ready, 30, 0.002):
        raise RuntimeError("not ready: " + child.err()[-2000:])
    return time.monotonic() - began


def starts(node):
    """Seconds of a start that loads everything, and of those that find the file that it left."""
    node.stop()
    snapshot = os.path.join(node.config["state_dir"], "policy.snapshot")
    if os.path.exists(snapshot):
        os.unlink(snapshot)
    whole = start_seconds(node)
    if not proc.wait_until(lambda: os.path.exists(snapshot), 10, 0.05):
        raise RuntimeError("no " + snapshot)
    cold = []
    for _ in range(STARTS):
        node.stop()
        cold.append(start_seconds(node))
    return whole, cold


def large(permissions, users):
    def plain(config, index):
        config["log"]["decisions"] = "off"
    with Fleet(nodes=1, redis=True, bound=5, links=False, bouncer=False, adjust=plain) as fleet:
        many_users(fleet, users)
        many_permissions(fleet, permissions)
        node = fleet.nodes[0]
        load = Load(fleet, pace=20, doors=("auth",))
        load.quiet.set()
        prober = Prober(Load(fleet), 0, "auth", 9)
        whole, cold = starts(node)
        with load:
            time.sleep(3)
            found = changes(fleet, prober)
    effect = {kind: [ms for ms, _ in rows] for kind, rows in found.items()}
    turns = {kind: max(ms for _, ms in rows) for kind, rows in found.items()}
    keep("large", {"permissions": permissions, "users": users, "found": found, "whole_start_s": whole,
                   "cold_start_s": cold})
    out = {kind + "_change_ms": round(statistics.median(ms), 2) for kind, ms in effect.items()}
    out.update({kind + "_change_max_ms": round(max(ms), 2) for kind, ms in effect.items()})
    out.update(turn_cpu_ms=round(max(turns.values()), 2), whole_start_ms=round(whole * 1000),
               cold_start_ms=round(max(cold) * 1000))
    print("%d permissions, %d users: %s" % (permissions, users, out), flush=True)
    return out
