"""The dashboard's built files."""

import asyncio
import gzip
import hashlib
import mimetypes
import re
from functools import lru_cache
from pathlib import Path

from starlette.responses import Response

from millstream_api.problems import ProblemError, shown

BUILT = Path(__file__).parent / "dashboard"
STAMP = "sources.sha256"
"""Written by the build: the hash of the sources, which the page itself carries too."""
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".svg", ".webmanifest"})
COMPRESSED_LEAST = 500
"""Bytes; a smaller file would not become smaller by more than its headers."""
COMPRESSED_KEPT = 128
NAME_LENGTH_MAX = 200
# Addresses within the page: the page itself, which reads its address, answers each of them.
WITHIN = re.compile(r"/(?:batches(?:/[^/]+)?|samples|statistics|nodes|replay|settings)/?")
IMMUTABLE = "public, max-age=31536000, immutable"
NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Millstream</title></head>
<body>
<h1>The page is not built yet</h1>
<p>The API runs. Build the page in a checkout with</p>
<pre>uv run just page</pre>
<p>and load this address again. Until then the numbers are at
<a href="/v1/batches">/v1/batches</a>.</p>
</body>
</html>
"""


class Page:
    """Serves one folder; files below ``assets/`` carry a hash in their name and never change."""

    def __init__(self, folder: Path = BUILT) -> None:
        self._folder = folder.resolve()

    async def respond(
        self,
        path: str,
        if_none_match: str | None,
        accept_encoding: str = "",
        *,
        shows_html: bool = False,
    ) -> Response:
        """Return the file at ``path``, compressed if the client takes that.

        Where there is nothing, whoever ``shows_html`` to a person gets the page, which says so and
        leads to the hub, as a 404.

        Raises:
            ProblemError: there is no such file.
        """
        is_within = len(path) <= NAME_LENGTH_MAX and WITHIN.fullmatch(path)
        name = "index.html" if is_within else path.lstrip("/") or "index.html"
        content = await asyncio.to_thread(self._read, name)
        status = 200
        if content is None and shows_html and name != "index.html":
            name, status = "index.html", 404
            content = await asyncio.to_thread(self._read, name)
        if content is None:
            if name == "index.html":
                headers = {"Cache-Control": "no-cache"}
                return Response(NOT_BUILT, 200, headers, CONTENT_TYPES[".html"])
            raise ProblemError(404, "no_such_route", f"there is nothing at {shown(path)}")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        cache = IMMUTABLE if name.startswith("assets/") else "no-cache"
        headers = {"ETag": tag, "Cache-Control": cache}
        if Path(name).suffix in COMPRESSED and len(content) >= COMPRESSED_LEAST:
            headers["Vary"] = "Accept-Encoding"
            if _takes_gzip(accept_encoding):
                headers |= {"ETag": f'{tag[:-1]}-gz"', "Content-Encoding": "gzip"}
        if if_none_match == headers["ETag"] and status == 200:
            headers.pop("Content-Encoding", None)
            return Response(status_code=304, headers=headers)
        if "Content-Encoding" in headers:
            content = await asyncio.to_thread(_compressed, content)
        return Response(content, status, headers, _content_type(name))

    def _read(self, name: str) -> bytes | None:
        if "\x00" in name or len(name) > NAME_LENGTH_MAX:
            return None
        file = (self._folder / name).resolve()
        if not file.is_relative_to(self._folder) or not file.is_file():
            return None
        return file.read_bytes()


def page_build(folder: Path = BUILT) -> str | None:
    """Return the name of the page's build as it stands in the folder now; None: not known."""
    try:
        return (folder / STAMP).read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


@lru_cache(COMPRESSED_KEPT)
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)


def _takes_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (word.strip() for word in part.split(";"))
        if coding in {"gzip", "*"}:
            return not any(re.fullmatch(r"q=0(\.0*)?", word) for word in parameters)
    return False


def _content_type(name: str) -> str:
    known = CONTENT_TYPES.get(Path(name).suffix)
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"
