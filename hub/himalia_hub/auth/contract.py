"""The published suite: what every way to sign in must do, as pytest test methods.

A plug-in's tests inherit the class that fits and give its fixture:

    class TestMyWay(PasswordWayContract):
        @pytest.fixture
        async def rig(self) -> AsyncIterator[PasswordRig]: ...

The methods are coroutines: run them with pytest-asyncio (`asyncio_mode = "auto"`) or a like plug-in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from himalia_hub.auth.base import Departure, PasswordWay, RedirectWay
from himalia_hub.auth.registry import way_faults

ODD_NAMES = (
    "*", "ann*", "(uid=*)", "*)(uid=*", "ann)(|(uid=*", "\\2a", "ann,dc=example", "cn=ann", "../ann", "ann;id", "$(id)",
    "-h", "'or'1'='1", "%s%n", "ann\u200b", "аnn", "x" * 255, "名前", "root\N{NO-BREAK SPACE}",
)  # fmt: skip
"""Names that have got through, or broken, sign-ins elsewhere; nobody has them."""


@dataclass(frozen=True, slots=True)
class PasswordRig:
    """A way under test, and who can sign in by it. `any_name`: its one password is right for every name."""

    way: PasswordWay
    name: str
    password: str
    other_name: str
    other_password: str
    spellings: tuple[str, ...] = field(default=())
    """Further spellings of `name` that are the same person."""
    any_name: bool = False


class PasswordWayContract:
    """What must hold for everything that checks a name and a password."""

    async def test_it_fits_the_protocol(self, rig: PasswordRig) -> None:
        assert way_faults(type(rig.way)) == []
        assert isinstance(rig.way, PasswordWay)
        assert rig.way.realm

    async def test_the_right_password_tells_who(self, rig: PasswordRig) -> None:
        person = await rig.way.check(rig.name, rig.password)

        assert person is not None
        assert person.name
        assert person.subject

    async def test_a_person_is_the_same_one_each_time_and_however_spelled(self, rig: PasswordRig) -> None:
        first = await rig.way.check(rig.name, rig.password)

        for spelling in (rig.name, *rig.spellings):
            again = await rig.way.check(spelling, rig.password)
            assert again is not None, spelling
            assert first is not None
            assert (again.subject, again.name) == (first.subject, first.name), spelling

    async def test_two_people_are_two(self, rig: PasswordRig) -> None:
        one = await rig.way.check(rig.name, rig.password)
        other = await rig.way.check(rig.other_name, rig.other_password)

        assert one is not None
        assert other is not None
        assert one.subject != other.subject

    async def test_a_wrong_password_tells_nothing(self, rig: PasswordRig) -> None:
        for wrong in (
            rig.password + "x",
            rig.password[:-1],
            rig.password.swapcase(),
            " " + rig.password,
            "\0",
        ):
            assert await rig.way.check(rig.name, wrong) is None, wrong

    async def test_no_password_is_no_password(self, rig: PasswordRig) -> None:
        """A directory takes a name without a password for an anonymous visitor and says yes (RFC 4513 §5.1.2)."""
        assert await rig.way.check(rig.name, "") is None

    async def test_odd_names_are_nobody(self, rig: PasswordRig) -> None:
        for name in ODD_NAMES:
            person = await rig.way.check(name, rig.password)
            assert rig.any_name or person is None, name

    async def test_a_password_of_the_greatest_length_is_only_wrong(self, rig: PasswordRig) -> None:
        assert await rig.way.check(rig.name, "ä" * 1024) is None

    async def test_many_at_once_get_each_their_own_answer(self, rig: PasswordRig) -> None:
        asked = [rig.way.check(rig.name, rig.password if number % 2 else "wrong " * 3) for number in range(8)]
        answers = await asyncio.gather(*asked)

        assert [person is not None for person in answers] == [bool(number % 2) for number in range(8)]


class RedirectWayContract:
    """What must hold for everything that signs in at another site; give the fixture `way`."""

    CALLBACK = "https://hub.example.org/hub/login/elsewhere/callback"

    async def test_it_fits_the_protocol(self, way: RedirectWay) -> None:
        assert way_faults(type(way)) == []
        assert isinstance(way, RedirectWay)
        assert way.realm

    async def test_no_two_departures_can_be_exchanged(self, way: RedirectWay) -> None:
        one, other = await way.begin(self.CALLBACK), await way.begin(self.CALLBACK)

        assert one.url != other.url
        assert one.kept != other.kept

    async def test_the_way_back_needs_what_was_given_along(self, way: RedirectWay) -> None:
        departure: Departure = await way.begin(self.CALLBACK)

        for query in ({}, {"code": "x"}, {"code": "x", "state": "y"}, {"error": "access_denied"}):
            assert await way.finish(self.CALLBACK, query, departure.kept) is None
            assert await way.finish(self.CALLBACK, query, {}) is None
