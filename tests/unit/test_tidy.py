"""The sources keep their shape: sizes, words, links, and documents that are current."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from millstream.runtime.settings import Settings
from millstream.runtime.settings_page import with_table

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "core", "services", "recipes", "tests", "bench", "docs", ".ci")
SKIPPED = {"node_modules", "__pycache__", "results", "dashboard_built"}
BUILT_PAGE = ROOT / "services/api/millstream_api/dashboard"
BINARY = {".png", ".jpg", ".ico", ".woff2", ".gguf", ".parquet", ".mp3", ".wav"}
FILE_LINES_MOST = 300
FUNCTION_LINES_MOST = 70
GENERATED = {ROOT / f"core/millstream/client/{kind}_client.py" for kind in ("sync", "async")}
# Put together here, so that this file does not hold what it forbids.
MARKERS = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b"
)
HOSTS = re.compile(
    "|".join(("py" + "pi.org", "python" + "hosted.org", "npm" + "js")), re.IGNORECASE
)
PLACES = re.compile(r"(?<![\w.])/(" + "|".join(("ro" + "ot", "ho" + "me", "wo" + "rk")) + r")/\w")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FROM_OTHERS = {"aiohappyeyeballs", "httptools", "pydantic_core", "starlette", "uvloop"}
"""Modules that come with a declared dependency and are not named themselves."""
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def files(*suffixes: str) -> Iterator[Path]:
    """Yield the project's own text files, with these suffixes or with any."""
    others = {"uv.lock", ".git"}  # the latter is a file in a second work tree
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name not in others]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    for path in sorted(found):
        parts = set(path.relative_to(ROOT).parts)
        is_own = path.is_file() and not parts & SKIPPED and BUILT_PAGE not in path.parents
        if is_own and path.suffix not in BINARY and (not suffixes or path.suffix in suffixes):
            yield path


def test_no_source_file_is_longer_than_300_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files(".py", ".ts", ".tsx", ".css")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES_MOST
        and path not in GENERATED
    }
    assert long == {}


def test_no_function_is_longer_than_70_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": length
        for path in files(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MOST
    }
    assert long == {}


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("a marker of unfinished work", MARKERS), ("a registry's host", HOSTS), ("a place", PLACES)],
    ids=["markers", "hosts", "places"],
)
def test_no_file_holds(what: str, pattern: re.Pattern[str]) -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {what}: {line.strip()[:80]}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert hits == []


def test_modules_are_named_after_what_they_hold() -> None:
    assert [path for path in files(".py") if path.stem in EMPTY_NAMES] == []


def test_every_setting_stands_in_the_operations_page() -> None:
    """Run ``just docs`` when it does not."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert page == with_table(page)
    missing = [name for name, field in Settings.model_fields.items() if not field.description]
    assert missing == []


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_of_the_documents_lead_somewhere() -> None:
    broken = []
    for page in files(".md"):
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            known = path.exists() and (not anchor or anchor in _anchors(path))
            if not known:
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_tests_that_the_documents_name_exist() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in files(".py")}
    missing = []
    for page in files(".md"):
        text = page.read_text(encoding="utf-8")
        for name, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
            source = sources.get(ROOT / name)
            if source is None or (function and f"def {function}(" not in source):
                missing.append(f"{page.name}: {name}::{function}")
    assert missing == []


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("pip install uv && uv run millstream up", "pip install uv && uv run just test"):
        assert command in readme


def _named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;~! ]", line)[0] for line in requirements}


def test_the_lock_file_of_the_image_names_every_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert _named(PROJECT["dependencies"]) - _named(lock.splitlines()) == set()


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_what_the_sources_import_is_declared() -> None:
    imported = set()
    for folder in ("schemas", "core", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            if "testing" not in path.parts:
                imported |= _imported(path)
    declared = _named([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["local"]])
    homes = packages_distributions()
    missing = {
        module
        for module in imported
        if module in homes
        and not declared & {home.lower().replace("_", "-") for home in homes[module]}
    }
    assert missing - FROM_OTHERS == set()
