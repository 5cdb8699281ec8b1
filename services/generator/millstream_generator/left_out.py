"""Leaves out what libraries load without a use for it here; imported before any of them.

structlog and httpx take these modules where they are installed: for tracebacks in colour, a command
line of httpx's own, the name of a green thread. A generator has none of these; 7 MB with litellm.
"""

import sys

UNUSED = ("click", "greenlet", "pygments", "rich")

for _name in UNUSED:
    # None makes an import of it fail as if it were not installed.
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
