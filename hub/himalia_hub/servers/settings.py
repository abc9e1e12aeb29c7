"""The settings of servers: limits and manners of their lives, and when the hub ends one by itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from himalia_hub.section import Section


class ServersSection(Section):
    """[servers] — limits and manners of starting and stopping."""

    allow_named: bool = Field(
        True, description="let people have further, named servers beside the default one"
    )
    named_limit_per_user: int = Field(0, ge=0, description="named servers one person may have; 0: no limit")
    active_limit: int = Field(0, ge=0, description="servers that may run at once; 0: no limit")
    concurrent_start_limit: int = Field(
        100, ge=0, description="starts that may be under way at once; 0: no limit"
    )
    when_full: Literal["wait", "refuse"] = Field(
        "wait",
        description="what a start beyond these limits does: wait for its turn, or be refused (429), as at JupyterHub",
    )
    slow_start_s: float = Field(10, ge=0, description="how long a start request waits before it answers 202")
    slow_stop_s: float = Field(10, ge=0, description="how long a stop request waits before it answers 202")
    resync_s: float = Field(10, gt=0, description="the longest a wish waits when its wake-up call was lost")
    lease_s: float = Field(10, gt=0, description="after this long a dead replica's work is taken over")
    orphan_grace_s: float = Field(
        60, gt=0, description="after this long a server of this hub that no row knows is ended"
    )
    measure_s: float = Field(
        15, ge=0, description="how often memory and CPU of running servers are measured; 0: never"
    )
    stop_on_exit: bool = Field(
        True, description="stop everyone's servers when `himalia up` ends by Ctrl-C or SIGTERM"
    )


class CullLimits(Section):
    """When the hub stops a server by itself, wherever it is said: for all, for a profile, a group or one person."""

    idle_s: float | None = Field(
        None,
        ge=0,
        description="stop a server that nobody has used for this long; 0: never; empty: never, or as said before",
    )
    max_age_s: float | None = Field(
        None,
        ge=0,
        description="stop a server that has run for this long, used or not; 0: never; empty: the same",
    )


class CullSection(CullLimits):
    """[cull] — stopping servers that nobody uses."""

    every_s: float = Field(
        120, gt=0, description="how often the hub looks; the first time this long after its start"
    )
    keep_alive_s: float = Field(
        3600,
        gt=0,
        description="how long, at least, an idle server stays once somebody asked to keep it alive; age has its limit",
    )
    busy_kernels_count: bool = Field(
        True, description="a running cell counts as use, however quiet it is; our own server only"
    )
    profiles: dict[str, CullLimits] = Field(
        default_factory=dict, description="by profile name: limits of its servers instead"
    )
    groups: dict[str, CullLimits] = Field(
        default_factory=dict, description="by group name: limits of its members' servers instead"
    )
    users: dict[str, CullLimits] = Field(
        default_factory=dict, description="by user name: limits of this person's servers instead"
    )

    @property
    def limits(self) -> list[CullLimits]:
        """Every place that sets a limit; empty when the hub never stops a server by itself."""
        places = [self, *self.profiles.values(), *self.groups.values(), *self.users.values()]
        return [place for place in places if place.idle_s or place.max_age_s]

    @property
    def report_every_s(self) -> float:
        """How often servers must say that they are used, so that the shortest idle limit is fair; at most 300."""
        return min([300.0, *(place.idle_s / 3 for place in self.limits if place.idle_s)])
