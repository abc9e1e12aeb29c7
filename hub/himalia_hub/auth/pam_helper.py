"""One question to PAM, in a process of its own: its modules are foreign code that may block, fork or crash.

Reads JSON `{"service", "name", "password"}` from standard input, and ends with 0 (right), 1 (wrong) or 2 (PAM cannot
say; why stands on standard output). Imports nothing of the hub, so that it starts quickly.
"""

from __future__ import annotations

import json
import sys

WRONG = frozenset({6, 7, 8, 10, 11, 12, 13, 14, 17})
"""PAM_PERM_DENIED, _AUTH_ERR, _CRED_INSUFFICIENT, _USER_UNKNOWN, _MAXTRIES, _NEW_AUTHTOK_REQD, _ACCT_EXPIRED,
_SESSION_ERR, _CRED_ERR."""


def main() -> int:
    """Ask and tell."""
    import pam

    asked = json.load(sys.stdin)
    authenticator = pam.PamAuthenticator()
    right = authenticator.authenticate(
        asked["name"], asked["password"], service=asked["service"], resetcreds=False
    )
    if right:
        return 0
    if authenticator.code in WRONG:
        return 1
    sys.stdout.write(f"{authenticator.reason} ({authenticator.code})")
    return 2


if __name__ == "__main__":
    sys.exit(main())
