"""What Swarm is asked for, and what its lists are taken for: no swarm needed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from himalia_spawner.base import Cause, Limits, ServerRef, ServerSpec
from himalia_spawner.containers.asked import Image
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.names import backend_name
from himalia_spawner.swarm import service, tasks
from himalia_spawner.swarm.manager import unframed
from himalia_spawner.swarm.settings import SwarmSettings
from himalia_spawner.swarm.tasks import Life, Node, Task

SHARED = {"/srv/homes/{user}": "{home}"}
LOST_S = 30


def settings(**given_: Any) -> SwarmSettings:
    return SwarmSettings.model_validate({"volumes": SHARED, "hub_url": "http://10.0.0.1:8081"} | given_)


def spec(incarnation: str = "1", **given_: Any) -> ServerSpec:
    env = {"JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api", "JUPYTERHUB_API_TOKEN": "t{{o}}ken"}
    ref = ServerRef(backend_name("ada"), incarnation)
    return ServerSpec(ref, "ada", "", "/user/ada/", env, **given_)


def task(state: str, *, wanted: str = "running", down_for_s: float | None = None, **status: Any) -> Task:
    found = {
        "ID": "t1", "ServiceID": "s1", "CreatedAt": "1", "DesiredState": wanted, "NodeID": "id2",
        "Status": {"State": state, "Message": "started"} | status, "Spec": {"ContainerSpec": {"Labels": {}}},
    }  # fmt: skip
    return Task(found, Node("id2", "n2", "10.0.0.2", down_for_s))


# -- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"volumes": {}}, "name storage that every machine has"),
        ({"volumes": {"/data": "/data"}}, "no home"),
        ({"volumes": {"himalia-{user}": "{home}"}}, "would find its home empty"),
        ({"volumes": {"homes": "{home}"}, "volume_options": {"type": "nfs"}}, "would find its home empty"),
        ({"volumes": {"homes": "{home}"}, "constraints": ["node.labels.rack == 7"]}, "find its home empty"),
        ({"volumes": {"homes": "{home}"}, "constraints": ["node.hostname != n2"]}, "find its home empty"),
        ({"constraints": ["gpu"]}, "'gpu' is no constraint"),
        ({"transport": "network"}, "needs spawner.swarm.network"),
        ({"reserved_memory": "lots"}, "no amount of memory"),
        ({"reserved_cpus": "many"}, "no number of CPUs"),
        ({"user": "0:0"}, "is root"),
        ({"volume_options": {"device": ":/homes/{name}"}}, "only {user}, {server}"),
    ],
)
def test_what_could_not_work_is_refused_with_its_remedy(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        settings(**given_)


@pytest.mark.parametrize(
    "given_",
    [
        {"volumes": {"himalia-{user}": "{home}"}, "constraints": ["node.hostname == n2"]},
        {"volumes": {"himalia-{user}": "{home}"}, "constraints": ["node.id==abc", "node.role == worker"]},
        {"volumes": {"homes-{user}": "{home}"}, "volume_driver": "ceph"},
        {
            "volumes": {"homes-{user}": "{home}"},
            "volume_options": {"type": "nfs", "o": "addr=10.0.0.9", "device": ":/homes/{user}"},
        },
    ],
)
def test_a_volume_that_is_the_same_wherever_its_server_starts_is_allowed(given_: dict[str, Any]) -> None:
    settings(**given_)


# -- what is asked for ------------------------------------------------------------------------------------


def go_template(text: str) -> str:
    """What Go's text/template makes of the one action that `literal` writes; anything else would be a mistake."""
    parts = re.split(r'\{\{"\{\{"\}\}', text)
    assert not any("{{" in part for part in parts), text
    return "{{".join(parts)


@given(st.text(alphabet='{}"-. a\n', max_size=30))
def test_no_text_is_taken_for_a_template(text: str) -> None:
    assert go_template(service.literal(text)) == text


def test_each_incarnation_has_a_service_name_of_its_own_that_is_a_dns_label() -> None:
    names = {
        service.service_name("f" * 16, ServerRef(backend_name(user, "gpu"), incarnation))
        for user in ("ada", "x" * 255, "名前", "-")
        for incarnation in ("1.1", "1.2")
    }
    assert len(names) == 8
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names), names


def body(chosen: SwarmSettings, asked_: ServerSpec, image: Image | None = None) -> dict[str, Any]:
    image = image or Image("sha256:1", ("server",))
    return service.body(asked_, chosen, image, service.environment(asked_, chosen), hub="h" * 16)


def test_a_service_is_one_task_that_swarm_never_starts_again_published_on_its_own_machine() -> None:
    found = body(settings(), spec())
    assert found["Mode"] == {"Replicated": {"Replicas": 1}}
    assert found["TaskTemplate"]["RestartPolicy"] == {"Condition": "none"}
    assert found["EndpointSpec"]["Mode"] == "dnsrr"
    assert [one["PublishMode"] for one in found["EndpointSpec"]["Ports"]] == ["host"]


def test_machines_are_told_an_image_by_what_only_it_has() -> None:
    pushed = Image("sha256:1", ("server",), digest="registry/x@sha256:2")
    assert body(settings(), spec(), pushed)["TaskTemplate"]["ContainerSpec"]["Image"] == pushed.digest
    assert body(settings(), spec())["TaskTemplate"]["ContainerSpec"]["Image"] == "sha256:1"


def test_a_reservation_is_never_above_its_limit() -> None:
    chosen = settings(reserved_memory="1G", reserved_cpus="2")
    found = body(chosen, spec(limits=Limits(memory=2**20, cpus=0.5)))["TaskTemplate"]["Resources"]
    assert found["Reservations"] == {"MemoryBytes": 2**20, "NanoCPUs": 500_000_000} == found["Limits"]


def test_the_hubs_address_must_be_one_that_other_machines_reach() -> None:
    env = service.environment(spec(), settings())
    assert env["JUPYTERHUB_API_URL"] == "http://10.0.0.1:8081/hub/api"
    with pytest.raises(SpawnRefused, match=r"127\.0\.0\.1.*hub_url"):
        service.environment(spec(), settings(hub_url=""))


def test_a_volumes_options_are_each_persons_own() -> None:
    options = {"type": "nfs", "o": "addr=10.0.0.9", "device": ":/homes/{user}"}
    chosen = settings(volumes={"homes-{user}": "{home}"}, volume_options=options)
    (mount,) = (
        one
        for one in body(chosen, spec())["TaskTemplate"]["ContainerSpec"]["Mounts"]
        if one["Type"] == "volume"
    )
    assert mount["Source"] == "homes-ada"
    assert mount["VolumeOptions"]["DriverConfig"] == {
        "Name": "local",
        "Options": options | {"device": ":/homes/ada"},
    }


# -- what is seen -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["new", "pending", "assigned", "accepted", "preparing", "ready", "starting"]
)
def test_a_task_on_its_way_is_coming(state: str) -> None:
    assert task(state).life(LOST_S) is Life.COMING


@pytest.mark.parametrize("state", ["complete", "failed", "shutdown", "rejected", "remove", "orphaned"])
@pytest.mark.parametrize("down_for_s", [None, 1.0, 99.0])
def test_a_task_that_ended_has_ended_whatever_its_machine_does(state: str, down_for_s: float | None) -> None:
    assert task(state, down_for_s=down_for_s).life(LOST_S) is Life.ENDED


@pytest.mark.parametrize("wanted", ["running", "shutdown", "remove"])
def test_a_machine_that_is_down_makes_cut_and_only_after_the_stated_time_lost(wanted: str) -> None:
    assert task("running", wanted=wanted, down_for_s=0).life(LOST_S) is Life.CUT
    assert task("running", wanted=wanted, down_for_s=LOST_S - 0.1).life(LOST_S) is Life.CUT
    assert task("running", wanted=wanted, down_for_s=LOST_S).life(LOST_S) is Life.LOST


def test_a_running_task_that_swarm_wants_gone_is_leaving() -> None:
    assert task("running", wanted="remove").life(LOST_S) is Life.LEAVING
    assert task("running").life(LOST_S) is Life.LIVE


@pytest.mark.parametrize(
    ("found", "cause", "words"),
    [
        (task("rejected", Err="No such image: x"), Cause.REFUSED, "No such image: x"),
        (task("failed", Message="starting", Err="exec: not found"), Cause.REFUSED, "exec: not found"),
        (task("failed", ContainerStatus={"ExitCode": 127}), Cause.REFUSED, "cannot be run"),
        (task("failed", ContainerStatus={"ExitCode": 3}), Cause.CRASHED, "status 3"),
        (task("failed", ContainerStatus={"ExitCode": 139}), Cause.CRASHED, "signal 11"),
        (task("complete"), Cause.CRASHED, "status 0"),
        (task("shutdown"), Cause.NODE_LOST, "n2"),
        (task("orphaned"), Cause.NODE_LOST, "n2"),
    ],
)
def test_each_end_has_its_cause_and_words(found: Task, cause: Cause, words: str) -> None:
    how = tasks.exit_of(found)
    assert how.cause is cause
    assert words in how.reason


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ({"Status": {"Addr": "10.0.0.2"}}, "10.0.0.2"),
        ({"Status": {"Addr": "0.0.0.0"}, "ManagerStatus": {"Addr": "10.0.0.1:2377"}}, "10.0.0.1"),
        ({"Status": {"Addr": "127.0.0.1"}, "ManagerStatus": {"Addr": "[fd00::1]:2377"}}, "[fd00::1]"),
        ({"Status": {"Addr": "fd00::2"}}, "[fd00::2]"),
        ({"Status": {"Addr": "10.0.0.2"}, "Spec": {"Labels": {"himalia.address": "n2.lan"}}}, "n2.lan"),
        ({}, ""),
    ],
)
def test_a_machine_is_reached_as_its_label_says_else_as_the_swarm_knows_it(
    node: dict[str, Any], address: str
) -> None:
    assert tasks.address_of(node, "himalia.address") == address


def test_a_log_is_read_without_its_frames() -> None:
    def framed(text: bytes) -> bytes:
        return b"\1\0\0\0" + len(text).to_bytes(4, "big") + text

    assert unframed(framed(b"one\n") + framed("große Not\n".encode())) == "one\ngroße Not\n".encode()
    assert unframed(b"") == b""
