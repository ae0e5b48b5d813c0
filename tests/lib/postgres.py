"""A PostgreSQL of the tests' own, in a folder of its own, and pgbouncer in transaction mode in front of it.

    python3 tests/lib/postgres.py PROGRAM [ARGUMENT ...]

runs a program with both at hand (POSTERN_TEST_PG and POSTERN_TEST_PGBOUNCER: urls without a database)."""
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import proc  # noqa: E402

ROLES = ("postgres", "postern_migrate", "postern_manage", "postern_data")


class Failed(Exception):
    """It did not start; the text holds its own words."""


def programs():
    """The folder of initdb and postgres, which Debian keeps out of the PATH."""
    for base in ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"):
        if os.path.exists(os.path.join(base, "postgres")):
            return base
    found = shutil.which("postgres")
    if not found:
        raise Failed("there is no PostgreSQL (tests/setup/packages.sh test installs it)")
    return os.path.dirname(found)


def drop_root():
    """A function for the child, which ends its being root: both servers refuse to run as root."""
    if os.geteuid() != 0:
        return None, None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            break
        except KeyError:
            continue

    def become():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    return become, (user.pw_uid, user.pw_gid)


class Postgres:
    """`settings` are the server's (name=value). Without `bouncer` there is no pgbouncer. `certificate`: the path,
    without .crt and .key, of what TLS shows."""

    def __init__(self, settings=(), bouncer=True, certificate=None):
        self.folder = tempfile.mkdtemp(prefix="postern-pg-")
        self.become, owner = drop_root()
        if owner:
            os.chown(self.folder, *owner)
        self.bin = programs()
        self.data = os.path.join(self.folder, "data")
        self.port, self.bouncer_port = proc.free_port(), proc.free_port()
        self.settings = ["fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=64MB",
                         "listen_addresses=127.0.0.1", "unix_socket_directories=" + self.folder,
                         "port=%d" % self.port, *settings]
        self.server = self.bouncer = None
        try:
            self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
                     "--locale=C.UTF-8", "--no-sync")
            if certificate:
                self.encrypt(certificate, owner)
            self.start()
            if bouncer:
                self.start_bouncer()
        except BaseException:
            self.stop()
            raise

    def encrypt(self, certificate, owner):
        for end in (".crt", ".key"):
            path = os.path.join(self.folder, "server" + end)
            shutil.copyfile(certificate + end, path)
            os.chmod(path, 0o600)
            if owner:
                os.chown(path, *owner)
        self.settings += ["ssl=on", "ssl_cert_file=%s/server.crt" % self.folder,
                          "ssl_key_file=%s/server.key" % self.folder]

    def run(self, program, *args):
        done = subprocess.run([os.path.join(self.bin, program), *args], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, preexec_fn=self.become, cwd=self.folder)
        if done.returncode != 0:
            raise Failed("%s: %s" % (program, done.stdout))
        return done.stdout

    def child(self, argv, name):
        return proc.Child(argv, cwd=self.folder, out_dir=self.folder, name=name, preexec=self.become)

    def start(self):
        """Starts the server (again, after `kill`)."""
        argv = [os.path.join(self.bin, "postgres"), "-D", self.data]
        self.server = self.child(argv + [part for s in self.settings for part in ("-c", s)], "postgres")
        if not proc.wait_until(self.answers, 30):
            raise Failed("PostgreSQL does not answer: " + self.server.err()[-3000:])

    def answers(self):
        if not self.server.alive():
            raise Failed("PostgreSQL ended: " + self.server.err()[-3000:])
        return subprocess.run([os.path.join(self.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p",
                               str(self.port)]).returncode == 0

    def start_bouncer(self):
        users, path = os.path.join(self.folder, "users.txt"), os.path.join(self.folder, "pgbouncer.ini")
        with open(users, "w", encoding="ascii") as f:
            f.writelines('"%s" ""\n' % name for name in ROLES)
        with open(path, "w", encoding="ascii") as f:
            f.write("[databases]\n* = host=%s port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"
                    "unix_socket_dir =\nauth_type = trust\nauth_file = %s\npool_mode = transaction\n"
                    "max_client_conn = 500\ndefault_pool_size = 4\nserver_idle_timeout = 5\n"
                    "server_login_retry = 0.2\n"        # 15 s, else, after a server that was down
                    % (self.folder, self.port, self.bouncer_port, users))
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self.bouncer = self.child([program, path], "pgbouncer")
        if not proc.wait_until(lambda: proc.connects("127.0.0.1", self.bouncer_port), 10):
            raise Failed("pgbouncer does not answer: " + self.bouncer.err()[-3000:])

    def base(self, role="postgres"):
        return "postgresql://%s@127.0.0.1:%d" % (role, self.port)

    def bouncer_base(self, role="postgres"):
        return "postgresql://%s@127.0.0.1:%d" % (role, self.bouncer_port)

    def url(self, database, role="postgres"):
        return "%s/%s" % (self.base(role), database)

    def bouncer_url(self, database, role="postgres"):
        return "%s/%s?pgbouncer=true" % (self.bouncer_base(role), database)

    def sql(self, database, *statements, role="postgres", check=True):
        """The output of psql, unaligned; with check=False the CompletedProcess."""
        argv = [os.path.join(self.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.folder,
                "-p", str(self.port), "-U", role, "-d", database]
        done = subprocess.run(argv + [part for s in statements for part in ("-c", s)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and done.returncode != 0:
            raise Failed(done.stderr)
        return done.stdout.strip() if check else done

    def file(self, database, path, role="postgres"):
        subprocess.run([os.path.join(self.bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p",
                        str(self.port), "-U", role, "-d", database, "-f", path], check=True)

    def family(self):
        """The ids of the server's processes, the first one first."""
        with open("/proc/%d/task/%d/children" % (self.server.pid, self.server.pid), encoding="ascii") as f:
            return [self.server.pid, *map(int, f.read().split())]

    def signal_all(self, sig):
        for pid in self.family():
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass

    def stop(self):
        if self.bouncer:
            self.bouncer.stop(3)
        if self.server:
            self.server.signal(signal.SIGCONT)
            self.server.signal(signal.SIGQUIT)  # nobody wants the data any more
            self.server.stop(10)
        shutil.rmtree(self.folder, True)

    def environment(self):
        return {"POSTERN_TEST_PG": self.base(), "POSTERN_TEST_PGBOUNCER": self.bouncer_base()}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


if __name__ == "__main__":
    with Postgres() as given:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, **given.environment()}).returncode)
