"""The servers of these tests, as commands: `serve`, `crash`, `stubborn`, `silent`, `parent`, `kernels`,
`chatter`, `hog`, `forks`, `headless`."""

from __future__ import annotations

import http.server
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import unquote, urlsplit


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        about = {
            "env": dict(os.environ),
            "uid": os.getuid(),
            "gid": os.getgid(),
            "groups": os.getgroups(),
            "cwd": os.getcwd(),
            "sid": os.getsid(0),
            "pid": os.getpid(),
            "umask": _umask(),
            "rlimits": {
                "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
                "core": resource.getrlimit(resource.RLIMIT_CORE),
            },
            "hash": hash("a word"),
        }
        body = json.dumps(about).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "test"

    def log_message(self, *args: object) -> None:
        pass


def _umask() -> str:
    mask = os.umask(0)
    os.umask(mask)
    return f"{mask:03o}"


class Server(http.server.ThreadingHTTPServer):
    def server_bind(self) -> None:  # the parent's looks its own host name up
        self.server_name, self.server_port = "localhost", 0


def serve() -> None:
    if lock := os.environ.get("HIMALIA_LOCK_FD"):
        os.set_inheritable(int(lock), False)
    server = Server(("", 0), Answers, bind_and_activate=False)
    server.socket.close()
    if listen := os.environ.get("HIMALIA_LISTEN_FD"):
        server.socket = socket.socket(fileno=int(listen))
    else:
        url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
        assert url.port, unquote(str(url))
        server.socket = socket.create_server(("127.0.0.1", url.port))
    server.serve_forever()


def main() -> None:
    what, *rest = sys.argv[1:] or ["serve"]
    forever = threading.Event()
    match what:
        case "crash":
            print(rest[0], flush=True)
            sys.exit(3)
        case "stubborn":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            serve()
        case "silent":
            forever.wait()
        case (
            "parent"
        ):  # leaves a child that ignores TERM in a session of its own, keeping or hiding its origin
            lock = int(os.environ["HIMALIA_LOCK_FD"])
            env = {} if "hidden" in rest else None
            hold = "import signal, time; signal.signal(15, signal.SIG_IGN); print('child up', flush=True); time.sleep(99)"
            keep = [lock] if "hidden" in rest else []
            subprocess.Popen(
                [sys.executable, "-I", "-c", hold], env=env, start_new_session=True, pass_fds=keep
            )
            serve()
        case (
            "kernels"
        ):  # has one child that may outlive a crash, and one that may not; ends in order when asked
            signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
            for mark in ({"HIMALIA_KEPT": "1"}, {}):
                subprocess.Popen(["/bin/sleep", "99"], env={**os.environ, **mark}, start_new_session=True)
            serve()
        case "chatter":  # says something more whenever it is asked to by a signal
            signal.signal(signal.SIGUSR1, lambda *_: print("once more", flush=True))
            for number in range(int(rest[0])):
                print(f"line {number}", flush=True)
            serve()
        case "hog":  # takes memory without end, once it was asked to by a signal
            signal.signal(signal.SIGUSR1, lambda *_: hold.extend(bytearray(2**24) for _ in range(64)))
            hold = []
            serve()
        case "forks":  # makes processes until it is refused one, and says so
            try:
                for _ in range(100):
                    subprocess.Popen(["/bin/sleep", "60"])
            except OSError as error:
                print("refused:", error.strerror, flush=True)
                sys.exit(4)
        case (
            "headless"
        ):  # its child's first thread has ended, so that the system shows a zombie, and another lives
            rest_of_it = (
                "import ctypes, threading; threading.Thread(target=threading.Event().wait).start();"
                "print('child up', flush=True); ctypes.CDLL(None).pthread_exit(None)"
            )
            subprocess.Popen([sys.executable, "-I", "-c", rest_of_it])
            serve()
        case _:
            serve()


def forked(_args: list[str]) -> None:
    """As the nest calls it; `sys.argv` is that of the command it stands for."""
    sys.argv = sys.argv[2:]
    main()


if __name__ == "__main__":
    main()
