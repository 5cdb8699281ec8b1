"""API keys of the environment, as they may stand in a request's header."""

from collections.abc import Mapping


class BrokenKeyError(ValueError):
    """A variable holds what can't be sent as a key; the message names it, never its value."""


def key_of(environment: Mapping[str, str], variable: str) -> str:
    """Return the key that ``variable`` holds, empty when it holds none.

    Blanks around it are left out: a line break at the end comes with a file.

    Raises:
        BrokenKeyError: no header can carry it.
    """
    key = environment.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise BrokenKeyError(
            f"{variable} holds a line break, a control character or one beyond ASCII within the "
            "key; set it to the key alone"
        )
    return key
