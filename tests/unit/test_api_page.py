"""The page's files and who may ask for them."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from millstream.errors import SettingsError
from millstream.runtime.access import is_loopback
from millstream.runtime.settings import Settings
from millstream_api.auth import Guard
from millstream_api.page import Page
from millstream_api.problems import ProblemError, shown

pytestmark = pytest.mark.anyio

TOKEN = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "dashboard"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html>")
    for name in ("index-1a2b.js", "index-1a2b.css", "icon-1a2b.svg", "font-1a2b.woff2"):
        (built / "assets" / name).write_text("x")
    (tmp_path / "secret.txt").write_text("secret")
    return built


async def test_files_have_their_type_and_hashed_ones_never_change(folder: Path) -> None:
    page = Page(folder)
    index = await page.respond("/", None)
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert index.headers["cache-control"] == "no-cache"
    for name, kind in (
        ("index-1a2b.js", "text/javascript; charset=utf-8"),
        ("index-1a2b.css", "text/css; charset=utf-8"),
        ("icon-1a2b.svg", "image/svg+xml"),
        ("font-1a2b.woff2", "font/woff2"),
    ):
        answer = await page.respond(f"/assets/{name}", None)
        assert answer.headers["content-type"] == kind
        assert "immutable" in answer.headers["cache-control"]
    again = await page.respond("/", index.headers["etag"])
    assert (again.status_code, bytes(again.body)) == (304, b"")


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0, br", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
async def test_a_file_is_compressed_for_who_takes_that(
    folder: Path, accepted: str, *, is_compressed: bool
) -> None:
    text = "const answer = 42;\n" * 100
    (folder / "assets" / "long-1a2b.js").write_text(text)
    answer = await Page(folder).respond("/assets/long-1a2b.js", None, accepted)
    assert answer.headers["vary"] == "Accept-Encoding"
    assert ("content-encoding" in answer.headers) == is_compressed
    body = bytes(answer.body)
    assert int(answer.headers["content-length"]) == len(body)
    assert (gzip.decompress(body) if is_compressed else body) == text.encode()
    again = await Page(folder).respond("/assets/long-1a2b.js", answer.headers["etag"], accepted)
    assert (again.status_code, "content-encoding" in again.headers) == (304, False)
    other = await Page(folder).respond("/assets/long-1a2b.js", answer.headers["etag"], "identity")
    assert other.status_code == (200 if is_compressed else 304)


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/assets/../../secret.txt", "/assets", "/no.js", "/\x00", "/" + "a" * 9999],
)
async def test_nothing_outside_the_folder_is_served(folder: Path, path: str) -> None:
    with pytest.raises(ProblemError) as caught:
        await Page(folder).respond(path, None)
    assert caught.value.status == 404


async def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    answer = await Page(tmp_path / "none").respond("/", None)
    assert answer.status_code == 200
    assert b"uv run just page" in bytes(answer.body)


def request(method: str = "GET", path: str = "/v1/models", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"method": method, "path": path, "headers": pairs, "query_string": b"", "scheme": "http"}


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"host": "127.0.0.1:5001"}, True),
        ({"host": "localhost:5001", "origin": "http://localhost:5001"}, True),
        ({"host": "[::1]:5001", "origin": "http://[::1]:5001"}, True),
        ({}, True),
        ({"host": "127.0.0.1:5001", "origin": "http://127.0.0.1:5002"}, False),
        ({"host": "127.0.0.1:5001", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:5001", "origin": "null"}, False),
        ({"host": "rebound.example", "origin": "http://rebound.example"}, False),
        ({"host": "127.0.0.1:5001", "sec_fetch_site": "cross-site"}, False),
    ],
)
def test_only_the_own_page_and_tools_may_write(
    headers: dict[str, str], *, is_allowed: bool
) -> None:
    guard = Guard("127.0.0.1")
    if is_allowed:
        assert guard.check(request("POST", **headers)).id == "local"
        return
    with pytest.raises(ProblemError) as caught:
        guard.check(request("POST", **headers))
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, True),
        ({"authorization": f"bearer  {TOKEN} "}, True),
        ({"authorization": f"Bearer {TOKEN}x"}, False),
        ({"authorization": f"Basic {TOKEN}"}, False),
        ({"authorization": "Bearer"}, False),
        ({"authorization": "Bearer \u00fc"}, False),
        ({"cookie": f"millstream_session={TOKEN}"}, False),
        ({"cookie": "a=;=b;\u00fc"}, False),
        ({}, False),
    ],
)
def test_a_token_is_compared_whole(headers: dict[str, str], *, is_known: bool) -> None:
    guard = Guard("0.0.0.0", TOKEN)  # noqa: S104
    if is_known:
        assert guard.check(request(**headers)).kind == "key"
        return
    with pytest.raises(ProblemError) as caught:
        guard.check(request(**headers))
    assert caught.value.status == 401


def test_the_page_logs_in_once_by_its_address() -> None:
    guard = Guard("127.0.0.1", TOKEN)
    opened = {**request(path="/"), "query_string": b"token=correct%20horse%20battery"}
    cookie = guard.login_cookie(opened)
    assert cookie is not None
    assert TOKEN not in cookie
    session = cookie.partition(";")[0]
    assert guard.check(request(cookie=f"other=1; {session}")).kind == "key"
    assert guard.login_cookie({**opened, "query_string": b"token=wrong"}) is None
    assert guard.login_cookie({**opened, "path": "/v1/models"}) is None
    assert "; Secure" in (guard.login_cookie({**opened, "scheme": "https"}) or "")


def test_beyond_loopback_a_token_is_needed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MILLSTREAM_TOKEN_FILE"):
        Guard.load(Settings(host="10.1.2.3"))
    file = tmp_path / "token"
    file.write_text(TOKEN)
    assert Guard.load(Settings(host="10.1.2.3", token_file=file)).token == TOKEN
    assert [is_loopback(host) for host in ("127.8.8.8", "::1", "LOCALHOST", "0.0.0.0", "x")] == [  # noqa: S104
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("value", ["x" * 9999, ["y"] * 9999, {"a": "b" * 999}, "\ud800", 10**99])
def test_a_value_in_an_answer_is_short_and_encodable(value: object) -> None:
    text = str(shown(value))
    assert len(text) <= 200
    text.encode()
