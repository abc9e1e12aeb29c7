"""Calls of the REST API that both hubs are asked, in this order, and where ours answers better on purpose.

A step is method, path and body (None: none; text: as it is). `better` holds the status that is ours where the official hub
answers 500 or takes what it cannot understand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PAGES = "application/jupyterhub-pagination+json"


@dataclass(frozen=True, slots=True)
class Step:
    """One call. `accept`: the media type asked for; `by`: whose token, by the path that made it, or a service's name;
    empty: an administrator's.

    In a path MADE stands for ann's token, and OWN for the administrator's.
    """

    method: str
    path: str
    body: Any = None
    better: int = 0
    accept: str = "application/json"
    by: str = ""


def steps(method: str, path: str, *bodies: Any, better: int = 0, by: str = "") -> list[Step]:
    """The same call with one body after the other."""
    return [Step(method, path, body, better=better, by=by) for body in bodies or (None,)]


def reads(*paths: str, by: str = "") -> list[Step]:
    return [Step("GET", path, by=by) for path in paths]


def narrow(owner: str, scope: str) -> list[Step]:
    """What an administrator's token with this one right is shown."""
    return [
        *steps("POST", owner, {"admin": True}),
        *steps("POST", f"{owner}/tokens", {"scopes": [scope]}),
        *reads(
            "/user",
            ANN,
            "/users/bob",
            "/users/zed",
            "/groups/g1",
            "/groups",
            "/services/web",
            "/services",
            by=owner,
        ),
    ]


NARROW = (
    "read:users!user=ann", "read:users:activity", "users:activity!user=ann", "read:roles", "read:groups",
    "groups!group=g1", "list:users!server=ann/lab", "read:services", "list:services!service=web", "admin:auth_state",
)  # fmt: skip
ANN, LAB = "/users/ann", "/users/ann/servers/lab"
PEOPLE = [
    *reads("", "/", "/nothing", "/users/zed"),
    *steps("PUT", "/users"),
    *steps("POST", "/users", {"usernames": ["Ann", "bob", "cat"]}, {"usernames": ["ann", "bob"]}),
    *steps("POST", "/users", {"usernames": ["ann", "dan"]}, {"usernames": []}, {}, [], "{", None),
    *steps("POST", "/users", {"usernames": ["a/b"]}, {"usernames": ["fine", ".."]}, {"usernames": [" eve"]}),
    *steps("POST", "/users", {"usernames": [5]}, better=400),
    *steps("POST", "/users", {"usernames": ["adm"], "admin": True}),
    *reads("/users", "/users?limit=2", "/users?limit=x", "/users?offset=-1&limit=1", "/users?limit=0"),
    *reads("/users?state=foo", "/users?state=active", "/users?state=ready", "/users?state=inactive&limit=2"),
    *reads("/users?sort=foo", "/users?sort=-name", "/users?sort=-id&limit=2", "/users?name_filter=A"),
    *[Step("GET", f"/users?limit=2{more}", accept=PAGES) for more in ("", "&offset=1", "&offset=99")],
    *steps("POST", "/users/fay", None, None),
    *steps("POST", "/users/gus", {"admin": True}),
    *steps("POST", "/users/a%2Fb"),
    *steps("POST", "/users/%20x"),
    *steps("PATCH", "/users/fay", {"name": "fay2"}),
    *steps("PATCH", "/users/fay2", {"name": "ann"}, {"name": "a/b"}, {"name": ""}, {"name": 5}, {"color": 1}),
    *steps("PATCH", "/users/fay2", {}, None, {"admin": "x"}, {"admin": True}, {"auth_state": "x"}, [1]),
    *steps("PATCH", "/users/zed", {"admin": True}),
    *steps("DELETE", "/users/zed"),
    *steps("DELETE", "/users/gus"),
    *reads(
        "/users/gus",
        ANN,
        "/users?state=",
        "/users?limit=-2",
        "/users/%ff",
        "/groups/%ff",
    ),
    *steps("POST", "/users/hal", {"name": "hal", "admin": False, "groups": []}),
]
GROUPS = [
    *reads("/groups", "/groups/none"),
    *steps(
        "POST", "/groups", {"groups": ["g1", "g2"], "users": ["ann"]}, {"groups": ["g1"]}, {"groups": []}, {}
    ),
    *steps("POST", "/groups/g3", {"name": "g3", "roles": []}, None),
    *steps("POST", "/groups/g4", {"users": ["ann", "nobody"]}, {"users": "ann"}),
    *reads("/groups/g1", ANN),
    Step("GET", "/groups?limit=1", accept=PAGES),
    *steps("POST", "/groups/g1/users", {"users": ["bob"]}, {"users": ["bob"]}, {"users": ["nobody"]}, {}),
    *steps("POST", "/groups/none/users", {"users": ["bob"]}),
    *steps("DELETE", "/groups/g1/users", {"users": ["bob"]}, {"users": ["bob"]}, {"users": ["nobody"]}, None),
    *steps("PUT", "/groups/g1/properties", {"x": 1}, [1], None),
    *steps("PUT", "/groups/none/properties", {}),
    *reads("/groups/g1", "/groups/g1/properties"),
    *steps("DELETE", "/groups/g3"),
    *steps("DELETE", "/groups/g3"),
]
TOKENS = [
    *steps("POST", f"{ANN}/tokens", {"note": "n", "expires_in": 100}),
    *reads(f"{ANN}/tokens", f"{ANN}/tokens/a99999", f"{ANN}/tokens/zzz"),
    *steps("POST", "/users/zed/tokens"),
    *steps(
        "POST",
        f"{ANN}/tokens",
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": "x"},
        {"expires_in": 1.5},
    ),
    *steps("POST", f"{ANN}/tokens", {"scopes": ["foo"]}, {"scopes": "self"}, {"scopes": ["admin:users"]}),
    *steps(
        "POST",
        f"{ANN}/tokens",
        {"roles": ["none"]},
        {"roles": ["user"], "scopes": ["self"]},
        {"roles": ["admin"]},
    ),
    *steps(
        "POST",
        f"{ANN}/tokens",
        {"roles": ["user"]},
        "x",
        {"scopes": []},
        {"roles": []},
        {"roles": ["user"], "scopes": []},
        "null",
    ),
    *steps("POST", f"{ANN}/tokens", None),
    *reads("/user", "/users", ANN, "/users/bob", "/groups", "/groups/g1", "/proxy", "/info", by=ANN),
    *reads("/authorizations/token/MADE", "/authorizations/token/none"),
    *reads("/authorizations/token/MADE", "/authorizations/token/OWN", "/authorizations/token/none", by=ANN),
    *steps("POST", "/authorizations/token", {}),
    *reads("/authorizations/none", "/authorizations/cookie/jupyterhub-hub-login/none", by=ANN),
    *reads("/authorizations/cookie/jupyterhub-hub-login"),
    *steps("POST", "/users", {"usernames": ["q"]}, by=ANN),
    *steps("PATCH", ANN, {"admin": True}, by=ANN),
    *steps("POST", "/users/bob/tokens", {}, by=ANN),
    *[step for which, name in enumerate(NARROW) for step in narrow(f"/users/n{which}", name)],
    *steps("POST", "/users/bob/server", by=ANN),
    *steps("POST", "/shutdown", {}, by=ANN),
    *reads("/shares/ann", "/shares/bob", by=ANN),
    *steps("DELETE", f"{ANN}/tokens/a99999"),
    *steps("POST", f"{ANN}/activity", {"last_activity": "2026-01-01T00:00:00Z"}, {}, {"last_activity": "x"}),
    *steps("POST", f"{ANN}/activity", {"last_activity": "2099-01-01T00:00:00Z"}, {"last_activity": None}, []),
    *steps("POST", f"{ANN}/activity", {"servers": {"none": {"last_activity": "2026-01-01T00:00:00Z"}}}),
    *steps(
        "POST",
        f"{ANN}/activity",
        {"servers": []},
        {"last_activity": 5},
        {"last_activity": "0001-01-02T00:00:00+14:00"},
    ),
    *steps("POST", f"{ANN}/activity", {"servers": {"\ud800": {"last_activity": "2026-01-01T00:00:00Z"}}}),
    *steps("POST", "/users/zed/activity", {"last_activity": "2026-01-01T00:00:00Z"}),
]
SERVERS = [
    *reads(LAB, f"{LAB}/progress"),
    *steps("DELETE", LAB),
    *steps("DELETE", f"{ANN}/server", None, {"remove": True}),
    *steps("POST", f"{ANN}/server", [1], 5, "{", {"user_options": 5}),
    *steps("PUT", LAB, {"display_name": "My lab", "user_options": {"a": 1}}, {}),
    *steps("PUT", f"{ANN}/servers/", {}),
    *[Step("PUT", f"{ANN}/servers/{name}", {}) for name in ("Bad_Name", "-x", "a--b", "a" * 31)],
    *steps("PUT", f"{ANN}/servers/x2", {"display_name": 5}, {"display_name": "x" * 256}, {"user_options": []}, [1]),
    *steps("PUT", f"{ANN}/servers/x6"),
    *reads(LAB, f"{ANN}?include_stopped_servers=0"),
    *steps("PATCH", LAB, {"name": "lab2"}),
    *reads(LAB),
    *steps("PATCH", f"{LAB}2", {}, {"name": "x6"}, {"name": "Bad Name"}, {"user_options": None}, {"user_options": {"z": 1}}),
    *steps("PATCH", f"{LAB}2", {"foo": 1}, better=400),
    *steps("PATCH", f"{LAB}2", {"user_options": {}, "display_name": "A"}, {"display_name": None}, {"display_name": ""}),
    *steps("PATCH", f"{LAB}2", {"name": None}),
    *steps("DELETE", f"{ANN}/servers/UP"),
    *steps("POST", "/users/gil"),
    *steps("PATCH", "/users/gil/server", {"user_options": {"a": 1}, "display_name": "G"}),
    *steps("PATCH", "/users/gil/server", {"name": "n"}),
    *reads("/users/gil/servers/n", "/users/gil?include_stopped_servers=0"),
    *steps("DELETE", "/users/gil"),
    *steps("PATCH", f"{ANN}/servers/none", {"name": "q"}),
    *steps("POST", f"{ANN}/servers/New_X"),
    *steps("POST", f"{LAB}2", {"k": "v"}),
    *reads(f"{LAB}2", ANN, "/users?state=ready"),
    *steps("PATCH", f"{LAB}2", {"name": "lab3"}),
    *steps("POST", f"{LAB}2"),
    *steps("DELETE", f"{LAB}2"),
    *reads(f"{LAB}2", ANN, "/users?state=ready"),
    *steps("DELETE", f"{LAB}2", {"remove": True}),
    *reads(f"{LAB}2"),
    *steps("POST", "/users/zed/server"),
    *steps("DELETE", "/users/zed/server"),
]  # fmt: skip
SERVICES = [
    *reads("/services/none", "/services/web"),
    *steps(
        "POST",
        "/services/rt",
        {"oauth_client_id": "service-rt", "oauth_redirect_uri": "http://x/cb", "info": {"a": 1}},
    ),
    *reads("/services/rt"),
    *steps("POST", "/services/rt", {"display": True}),
    *steps(
        "POST", "/services/rt2", {}, None, {"foo": 1}, {"command": ["x"]}, {"admin": "x"}, {"display": False}
    ),
    *steps("POST", "/services/rt3", {"oauth_client_id": "bad", "oauth_redirect_uri": "http://x/cb"}),
    *steps("DELETE", "/services/web"),
    *steps("DELETE", "/services/rt"),
    *steps("DELETE", "/services/rt"),
    *reads("/proxy"),
    Step("GET", "/proxy?limit=1", accept=PAGES),
    *steps("POST", "/proxy"),
    *steps("PATCH", "/proxy", None, [], "x", {}),
    *steps("POST", "/shutdown", {"proxy": "x"}),
]
SHARES = [
    *reads("/shares/ann", "/shares/ann/x6", "/shares/ann/none", "/shares/zed", "/share-codes/ann/none"),
    *steps("POST", "/shares/ann/x6", {"user": "bob"}, {"user": "bob", "scopes": ["read:servers"]}, {"group": "g1"}),
    *steps("POST", "/shares/ann/x6", {"user": "bob", "scopes": ["foo"]}, better=400),
    *steps("POST", "/shares/ann/x6", {"user": "bob", "group": "g1"}, {}, None, {"user": "nobody"}, {"group": "none"}),
    *steps("POST", "/shares/ann/x6", {"user": "bob", "foo": 1}, {"user": 5}, {"user": "bob", "scopes": "x"}),
    *steps("POST", "/shares/ann/x6", {"user": "bob", "scopes": ["read:servers!user=bob"]}),
    *steps("POST", "/shares/ann/none", {"user": "bob"}),
    *steps("POST", "/shares/ann", {"user": "bob"}),
    *reads("/shares/ann", "/shares/ann?limit=1", "/shares/ann/x6", "/users/bob/shared", "/users/zed/shared"),
    *steps("POST", "/shares/ann/x6", {"user": "dan"}),
    *steps("PATCH", "/shares/ann/x6", {"user": "dan", "scopes": []}),
    *reads("/users/bob/shared/ann/x6", "/users/bob/shared/ann/none", "/groups/g1/shared", "/groups/g1/shared/ann/x6"),
    *steps("PATCH", "/shares/ann/x6", {"user": "cat"}, {"user": "nobody"}, {"user": "bob"}, {}),
    *steps("DELETE", "/users/bob/shared/ann/x6"),
    *steps("DELETE", "/groups/g1/shared/ann/x6"),
    *steps("DELETE", "/shares/ann/x6"),
    *steps("DELETE", "/shares/ann/none"),
    *steps("POST", "/share-codes/ann/x6", None, {"expires_in": 10}, {"expires_in": 31536001}, {"expires_in": "x"}),
    *steps("POST", "/share-codes/ann/x6", {"scopes": ["none"]}, better=400),
    *steps("POST", "/share-codes/ann/x6", {"foo": 1}, "null"),
    *steps("POST", "/share-codes/ann/none"),
    *reads("/share-codes/ann", "/share-codes/ann/x6?limit=1"),
    *[Step("DELETE", f"/share-codes/ann/x6{which}") for which in ("?id=foo", "?code=foo", "", "")],
    *steps("DELETE", ANN),
    *reads(ANN),
]  # fmt: skip
HAL, WEB = "/users/hal", "w" * 32
NEVER_STARTED = [
    *reads(f"{HAL}?include_stopped_servers", "/users?include_stopped_servers&name_filter=ha", f"{HAL}/server", "/shares/hal/"),
    *steps("POST", "/shares/hal/", {"user": "bob"}),
    *reads("/users/bob/shared", "/share-codes/hal/"),
    *steps("PATCH", "/shares/hal/", {"user": "cat"}, {"user": "bob"}),
    *steps("DELETE", "/shares/hal/"),
    *steps("PATCH", f"{HAL}/server", {"display_name": "Mine"}, {}),
    *steps("POST", f"{HAL}/activity", {"servers": {"": {"last_activity": "2026-01-01T00:00:00Z"}}}),
    *reads(f"{HAL}?include_stopped_servers"),
]  # fmt: skip
OF_SERVICES = [
    *reads("/user", "/users", "/users/bob", "/services", "/services/web", "/groups", "/info", "/proxy", by="web"),
    *steps("POST", "/users/bob/tokens", {}, {"scopes": []}, by="web"),
    *steps("POST", "/users/bob/activity", {"last_activity": "2026-01-01T00:00:00Z"}, by="web"),
    *reads(f"/authorizations/token/{WEB}", by="web"),
]  # fmt: skip
CALLS = {
    "people": PEOPLE,
    "groups": GROUPS,
    "tokens": TOKENS,
    "servers": SERVERS,
    "services": SERVICES,
    "shares": SHARES,
    "never started": NEVER_STARTED,
    "services' tokens": OF_SERVICES,
}
