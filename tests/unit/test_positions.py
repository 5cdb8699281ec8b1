"""Ids of the live streams: strictly read, and plain enough for any browser to send back."""

import pytest

from millstream_api.relay.positions import Position, format_position, parse_position


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("5-0a1b2c3d", Position(5, "0a1b2c3d")),
        ("5", Position(5)),
        (" 7 ", Position(7)),
        ("", None),
        ("-5", None),
        ("5-xyz", None),
        ("5-0A1B2C3D", None),
        ("9" * 40, None),
        ("5;drop", None),
    ],
)
def test_an_id_is_read_strictly(text: str, position: Position | None) -> None:
    assert parse_position(text) == position


def test_an_id_needs_no_preflight_across_origins() -> None:
    assert format_position(2**63, "0a1b2c3d").replace("-", "").isalnum()
    assert len(format_position(2**63, "0a1b2c3d")) < 128
