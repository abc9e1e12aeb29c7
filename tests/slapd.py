"""A private directory for the tests: Debian's slapd on a loopback port, in a temporary folder, gone with it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from component.proxy.certs import Authority, Pair

BASE = "dc=example,dc=org"
PEOPLE = f"ou=people,{BASE}"
READER, READER_PASSWORD = f"cn=reader,{BASE}", "the reader's own"
START_WITHIN_S = 60

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {pair.cert}
TLSCertificateKeyFile {pair.key}
database mdb
maxsize 10485760
suffix "{base}"
rootdn "cn=root,{base}"
directory {folder}/db
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by anonymous auth by self read by * none
"""


@dataclass(frozen=True, slots=True)
class Directory:
    """Where it listens, and what to trust. `plain` and `tls` are URLs."""

    plain: str
    tls: str
    ca: str


@contextmanager
def directory(people: dict[str, str]) -> Iterator[Directory]:
    """A running slapd with these people (uid → password) and a reader; anonymous visitors see nothing."""
    program = shutil.which("slapd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program, (
        "no slapd is installed; as root: apt-get install -y --no-install-recommends slapd ldap-utils"
    )
    folder = Path(tempfile.mkdtemp(prefix="himalia-ldap-", dir="/tmp"))
    try:
        authority = Authority(folder / "certs")
        config = folder / "slapd.conf"
        (folder / "db").mkdir()
        config.write_text(_config(folder, authority.sign("directory")))
        _run(program, "-T", "add", "-f", str(config), stdin=_entries(people))
        plain, tls = (
            f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(("ldap", "ldaps"), _ports(), strict=True)
        )
        with subprocess.Popen(
            [program, "-d", "0", "-f", config, "-h", f"{plain} {tls}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                _until_it_listens(server, int(tls.rpartition(":")[2]))
                yield Directory(plain, tls, authority.ca)
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder)


def _config(folder: Path, pair: Pair) -> str:
    return CONFIG.format(folder=folder, pair=pair, base=BASE, reader=READER)


def _entries(people: dict[str, str]) -> str:
    top = f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n"
    reader = f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n"
    blocks = [top, f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n"]
    blocks.append(f"{reader}userPassword: {READER_PASSWORD}\n")
    for uid, password in people.items():
        entry = f"dn: uid={uid},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\n"
        entry += "departmentNumber: maths\ndepartmentNumber: staff\n"
        blocks.append(f"{entry}userPassword: {password}\n" if password else entry)
    return "\n".join(blocks)


def _run(*command: str, stdin: str) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def _ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        assert server.poll() is None, f"slapd ended with {server.returncode}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.05)  # noqa: TID251 -- this is the wait for the condition
    raise AssertionError(f"slapd does not listen within {START_WITHIN_S} s")
