"""Leaves out what libraries load without a use for it here; imported before any of them.

structlog and httpx take some of these modules where they are installed: for tracebacks in colour,
a command line of httpx's own, the name of a green thread. litellm takes fastapi, which the API
brings, for its proxy, and opentelemetry for its traces; it does without either. A generator has
none of these; 13 MB with litellm.
"""

import sys

UNUSED = ("click", "fastapi", "greenlet", "opentelemetry", "pygments", "rich")

for _name in UNUSED:
    # None makes an import of it fail as if it were not installed.
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
