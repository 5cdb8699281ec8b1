"""Addresses of routes: which are this machine's alone, and what anybody may see of them."""

from socket import gethostname

import pytest

from millstream.addresses import machine_of, shown


@pytest.mark.parametrize(
    ("base", "seen"),
    [
        ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1"),
        ("https://ada:hush@models.example/v1?key=hush#hush", "https://models.example/v1"),
        ("https://hush@models.example", "https://models.example"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ("http://[hush", None),
        ("hush", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_is_shown_without_what_might_be_a_secret(
    base: str | None, seen: str | None
) -> None:
    assert shown(base) == seen


@pytest.mark.parametrize("base", ["http://127.0.0.1:9/v1", "http://[::1]:9", "http://localhost"])
def test_an_address_of_the_machine_itself_is_told_with_its_name(base: str) -> None:
    assert machine_of(base) == gethostname()


@pytest.mark.parametrize("base", ["http://10.0.0.5/v1", "https://models.example", "http://[", None])
def test_any_other_address_means_the_same_on_every_machine(base: str | None) -> None:
    assert machine_of(base) == ""
