"""Debian's nginx with the configuration that ships in deploy/nginx, on ports of the test's own."""
import os
import shutil

from . import paths, proc

SHIPPED = os.path.join(paths.ROOT, "deploy", "nginx", "postern.conf")
MAIN = """daemon off;
worker_processes 1;
pid %(dir)s/pid;
error_log %(dir)s/error.log info;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy; fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
    include %(dir)s/postern.conf;
}
"""


class Nginx:
    def __init__(self, folder, auth_port, app_port):
        self.folder, self.port = folder, proc.free_port()
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        with open(SHIPPED, encoding="utf-8") as f:
            text = f.read()
        for old, new in (("server 127.0.0.1:8081;", "server 127.0.0.1:%d;" % auth_port),
                         ("server 127.0.0.1:9000;", "server 127.0.0.1:%d;" % app_port),
                         ("listen 8000;", "listen 127.0.0.1:%d;" % self.port)):
            if text.count(old) != 1:
                raise ValueError("deploy/nginx/postern.conf: expected one line with %r" % old)
            text = text.replace(old, new)
        with open(os.path.join(folder, "postern.conf"), "w", encoding="utf-8") as f:
            f.write(text)
        self.conf = os.path.join(folder, "nginx.conf")
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(MAIN % {"dir": folder})

    def start(self):
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.child = proc.Child([program, "-c", self.conf, "-p", self.folder], out_dir=self.folder, name="nginx")
        if not proc.wait_until(lambda: proc.connects("127.0.0.1", self.port), 10):
            raise RuntimeError("nginx did not start: " + self.errors())
        return self

    def errors(self):
        path = os.path.join(self.folder, "error.log")
        text = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as f:
                text = f.read()
        return self.child.err() + text

    def stop(self):
        self.child.stop(5)
