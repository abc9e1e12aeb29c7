"""`python -m himalia_hub` is `himalia`."""

from himalia_hub.cli import main

raise SystemExit(main())
