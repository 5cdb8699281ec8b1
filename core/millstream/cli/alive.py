"""Is this node at work? ``python -m millstream.cli.alive API_URL`` ends with 0 if an API says so.

For health checks of containers: the standard library only, so that each check stays cheap.
"""

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

TOKEN_FILE = Path("/run/secrets/token")
TIMEOUT_S = 5.0


def is_listed(url: str, node: str, token: str) -> bool:
    """Tell whether the API at ``url`` lists ``node`` among the nodes that work.

    Raises:
        OSError: the API did not answer, or refused.
        ValueError: ``url`` is no address, or the answer no JSON.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{url}/v1/nodes", headers=headers)  # noqa: S310  # an operator's
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return any(beat["node"] == node for beat in json.load(answer)["nodes"])


def main() -> int:
    """Return 0 when this node is listed, else 1 after one line that says why."""
    node = os.environ.get("MILLSTREAM_NODE") or socket.gethostname().split(".")[0]
    token_file = Path(os.environ.get("MILLSTREAM_TOKEN_FILE", TOKEN_FILE))
    try:
        token = token_file.read_text(encoding="utf-8").strip() if token_file.exists() else ""
        if is_listed(sys.argv[1], node, token):
            return 0
        sys.stderr.write(f"{sys.argv[1]} does not list node {node}\n")
    except (OSError, ValueError, LookupError) as error:
        sys.stderr.write(f"{sys.argv[1:]}: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
