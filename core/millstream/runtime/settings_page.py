"""The settings as a Markdown table: ``python -m millstream.runtime.settings_page FILE`` writes it.

The table stands in docs/operations.md between two marks; a test holds that it is current.
"""

import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from millstream.runtime.settings import Settings

BEGIN = "<!-- settings: made by `just docs` -->"
END = "<!-- settings end -->"
MACHINE_DEFAULTS = {"data_dir": "the user's data folder", "node": "the host's name"}


def settings_table() -> str:
    """Return a row for each setting: its variable, its default and what it is."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if field.default is PydanticUndefined:
            default = MACHINE_DEFAULTS[name]
        elif field.default is None or field.default == "":
            default = "not set"
        else:
            default = f"`{field.default}`"
        words = (field.description or "").replace("|", "\\|")
        rows.append(f"| `MILLSTREAM_{name.upper()}` | {default} | {words} |")
    return "\n".join(rows)


def with_table(page: str) -> str:
    """Return ``page`` with the present table between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no marks {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{settings_table()}\n\n{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
