"""Sentences that are finished before it is known who reads them: errors, steps of a start, causes in rows.

Each stands here as the code says it, with `%(name)s` for what changes; a test looks each up in the code. One that says
how many is a pair, for one and for more, whose hole `num` is the number (`languages.counted`). English ones are kept
and logged; a page shows them in its reader's language (`languages.sentence`).
"""

from __future__ import annotations

from typing import Final

from himalia_hub.languages.sentences import admin, links, people, servers

Sentence = str | tuple[str, str]

SENTENCES: Final[tuple[Sentence, ...]] = (
    *servers.STEPS,
    *servers.CAUSES,
    *servers.REFUSALS,
    *servers.STARTS,
    *admin.QUERY,
    *admin.SIGN_UPS,
    *admin.ROLES,
    *admin.ADMINISTRATION,
    *admin.FINDINGS,
    *people.ACCOUNTS,
    *people.SHARES,
    *links.LINKS,
    *links.LINK_FAILURES,
)
