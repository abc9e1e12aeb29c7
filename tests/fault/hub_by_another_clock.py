"""`himalia`, whose wall clock is ahead of this machine's by the seconds that stand in the file of CLOCK_AHEAD."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from himalia_hub import clock
from himalia_hub.cli import main

AHEAD = Path(os.environ["CLOCK_AHEAD"])


def now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=float(AHEAD.read_text()))


clock.now = now
raise SystemExit(main())
