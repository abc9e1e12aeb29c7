"""limits, environ, ports, procfs and ending: what needs no process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from himalia_spawner import environ, limits
from himalia_spawner.ending import how_ended
from himalia_spawner.ports import Listener, parse_listeners
from himalia_spawner.procfs import parse_stat
from himalia_spawner.searching import Cookie, parse_cookie
from himalia_spawner.settings import ProcessSettings


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2G", 2 * 1024**3),
        ("512 MiB", 512 * 1024**2),
        ("0.5g", 512 * 1024**2),
        ("1K", 1024),
        (4096, 4096),
        ("7b", 7),
    ],
)
def test_memory_is_read_as_people_write_it(text: str | int, number: int) -> None:
    assert limits.memory_bytes(text) == number


@pytest.mark.parametrize("text", ["", "G", "-1G", "1e9", "2 GG", "0", "1,5G", "nan", "2X"])
def test_what_is_no_amount_of_memory_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"no amount|less than"):
        limits.memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "number"), [("0.5", 0.5), ("2 cpus", 2), ("500m", 0.5), (1, 1), ("1 CPU", 1)]
)
def test_cpus_are_read_as_people_write_them(text: str | int, number: float) -> None:
    assert limits.cpu_count(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "inf", "two", "5 mm"])
def test_what_is_no_number_of_cpus_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number|none at all"):
        limits.cpu_count(text)


def test_only_the_kept_names_come_from_the_hub() -> None:
    hub = {"PATH": "/bin", "LANG": "C", "HIMALIA_DB_PASSWORD": "secret", "JUPYTERHUB_CRYPT_KEY": "secret"}

    env = environ.child_environment(hub, {"A": "1"}, {"HOME": "/h"}, {})

    assert env == {"PATH": "/bin", "LANG": "C", "A": "1", "HOME": "/h"}


def test_later_sources_of_the_environment_win() -> None:
    sources = [
        {"PATH": "hub"},
        {"PATH": "given", "A": "given"},
        {"A": "backend", "B": "backend"},
        {"B": "configured"},
    ]

    assert environ.child_environment(*sources) == {"PATH": "given", "A": "backend", "B": "configured"}


def test_there_is_always_a_path() -> None:
    assert environ.child_environment({}, {}, {}, {})["PATH"]


@given(st.dictionaries(st.text(), st.text()))
def test_an_environment_without_faults_is_one_the_system_takes(env: dict[str, str]) -> None:
    bad = any(not name or "=" in name or "\0" in name + value for name, value in env.items())
    assert bool(environ.environment_faults(env)) == bad


def test_a_fault_of_the_environment_never_quotes_the_value() -> None:
    assert "hunter2" not in " ".join(environ.environment_faults({"TOKEN": "hunter2\0"}))


@pytest.mark.parametrize("name", ["HIMALIA_LOCK_FD", "JUPYTERHUB_SERVICE_URL", "JUPYTERHUB_API_TOKEN"])
def test_configuration_can_not_set_what_the_spawner_rests_on(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        ProcessSettings(environment={name: "x"})


def test_every_setting_is_described_for_the_reference() -> None:
    assert all(field.description for field in ProcessSettings.model_fields.values())


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 22441 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 18117 1 0 100 0 0 10 0
   2: 0A00020F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 22442 1 0 100 0 0 10 0
   3: 0100007F:1F92 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1002        0 22443 1 0 100 0 0 10 0
"""


def test_only_listeners_reachable_on_loopback_count() -> None:
    assert parse_listeners(TCP) == [Listener(8080, 1000, True), Listener(22, 0, False)]


def test_a_command_full_of_brackets_does_not_confuse_the_stat_line() -> None:
    line = "42 (a) R (b) 1) S 1 42 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 9876 100 200"

    stat = parse_stat(line)

    assert (stat.pid, stat.state, stat.session, stat.ticks) == (42, "S", 40, 9876)


@pytest.mark.parametrize(
    ("state", "threads", "running"),
    [("S", 1, True), ("T", 1, True), ("Z", 1, False), ("X", 0, False), ("Z", 2, True)],
)
def test_a_zombie_does_not_run_unless_other_threads_of_it_live(
    state: str, threads: int, running: bool
) -> None:
    stat = parse_stat(f"42 (x) {state} 1 42 40 {'0 ' * 13} {threads} 0 9876")
    assert (stat.running, stat.ticks) == (running, 9876)


@given(st.from_regex(r"[a-z0-9]+", fullmatch=True), st.from_regex(r"[a-z0-9-]+", fullmatch=True), st.text())
def test_a_cookie_survives_being_written_and_read(hub: str, name: str, incarnation: str) -> None:
    cookie = Cookie(hub, name, incarnation)
    assert parse_cookie(str(cookie)) == cookie


@pytest.mark.parametrize("text", ["", "hub", "hub/name", "//x", "/n/1"])
def test_what_is_no_cookie_is_nobodys(text: str) -> None:
    assert parse_cookie(text) is None


def test_the_end_of_a_process_is_told_in_words() -> None:
    assert how_ended(0, by_signal=False).reason == "the server ended by itself"
    assert how_ended(3, by_signal=False).reason == "the server ended with status 3"
    assert "SIGSEGV" in how_ended(11, by_signal=True).reason
    assert "memory" in how_ended(9, by_signal=True).reason
    assert how_ended(63, by_signal=True).signal == 63
