"""Servers of a few lines of Python, for containers: what the contract of spawners wants of one."""

from __future__ import annotations

from himalia_spawner.contract import WORDS, Kind

SERVE = """
import os, socket, sys, http.server, urllib.parse as u
class A(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers(); self.wfile.write(b'ok')
    def address_string(self): return 'x'
    def log_message(self, *a): pass
url = u.urlsplit(os.environ['JUPYTERHUB_SERVICE_URL'])
class S(http.server.ThreadingHTTPServer):
    def server_bind(self): self.server_name, self.server_port = 'x', 0
s = S(('', 0), A, bind_and_activate=False); s.socket.close()
if url.scheme == 'http+unix':
    path = u.unquote(url.netloc); s.socket = socket.socket(socket.AF_UNIX); s.socket.bind(path); os.chmod(path, 0o666)
else:
    s.socket = socket.socket(); s.socket.bind(('0.0.0.0', url.port))
s.socket.listen(16)
"""
STUBBORN = "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"


def python(code: str) -> tuple[str, ...]:
    return ("/usr/local/bin/python3", "-I", "-u", "-c", code)


COMMANDS = {
    Kind.SERVES: python(
        SERVE + "import signal, sys\nsignal.signal(15, lambda *a: sys.exit(0))\ns.serve_forever()"
    ),
    Kind.CRASHES: python(f"print({WORDS!r}); raise SystemExit(3)"),
    Kind.STUBBORN: python(STUBBORN + SERVE + "s.serve_forever()"),
    Kind.REFUSED: ("/no/such/command/anywhere",),
}
