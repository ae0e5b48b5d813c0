"""A key set behind TLS, for nodes that fetch their keys from a URL."""
import http.server
import os
import ssl
import subprocess
import threading
import time


class JwksServer:
    """Answers every request with `document` and `status`, as they are `delay` seconds later; `fetches` counts the
    requests, `answers` what was answered."""

    def __init__(self, folder, document):
        self.document, self.status, self.delay, self.fetches, self.answers = document, 200, 0, 0, 0
        self.ca_file = os.path.join(folder, "jwks-ca.pem")
        key = os.path.join(folder, "jwks-ca.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", self.ca_file, "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # the name is the base class's
                outer.fetches += 1
                time.sleep(outer.delay)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.document)))
                self.end_headers()
                self.wfile.write(outer.document)
                outer.answers += 1

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self):
        return "https://127.0.0.1:%d/jwks.json" % self.server.server_address[1]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
