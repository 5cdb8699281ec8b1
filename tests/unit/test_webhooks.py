"""What webhooks tell, whom they may tell, how they sign, and when they try again."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as ForeignReceiver
from standardwebhooks.webhooks import WebhookVerificationError

from millstream.domain.budget import BUDGETS_ACTOR
from millstream.errors import UsageError
from millstream_api.webhooks.addresses import check_url, is_public
from millstream_api.webhooks.messages import Due, told_by
from millstream_api.webhooks.retries import ATTEMPTS_LEAST, settled
from millstream_api.webhooks.sending import Attempt
from millstream_api.webhooks.signing import new_secret, signed
from millstream_api.webhooks.store import Progress
from millstream_schemas.events import parse
from millstream_schemas.webhooks import WEBHOOK_EVENTS, Delivery, WebhookMessage

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "events").glob("*.json"))
EXAMPLES = [parse(path.read_bytes()) for path in GOLDEN]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
TAKEN = Attempt(204, "", 3.0)


def due(sequence: int = 7, *, at: datetime = NOW) -> Due:
    return Due(sequence, WebhookMessage(type="batch.failed", timestamp=at))


def after(attempts: list[Attempt], *, at: datetime = NOW) -> Delivery:
    delivery: Delivery | None = None
    for attempt in attempts:
        delivery = settled(delivery, due(at=at), "evt_1", attempt, now=NOW, chance=lambda: 1.0)
    assert delivery is not None
    return delivery


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1",  # noqa: S104
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "2002:7f00:1::", "fe80::1%eth0", "no address",
    ],
)  # fmt: skip
def test_an_address_within_a_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "::ffff:8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/", "no http"),
        ("example.org/hook", "no http"),
        ("https://", "no http"),
        ("https://ada:secret@example.org/", "name or a password"),
        ("https://example.org/#there", "fragment"),
        ("https://example.org:0/", "port 0"),
        ("https://example.org:99999/", "no address"),
        ("https://[::1/", "no address"),
        ("https://exämple.org/", "characters"),
        ("https://example.org/a b", "characters"),
        ("http://localhost:5001/", "private network"),
        ("http://a.localhost/", "private network"),
        ("http://127.0.0.1/", "private network"),
        ("http://169.254.169.254/latest/meta-data", "private network"),
        ("http://[::ffff:10.0.0.1]/", "private network"),
    ],
)
def test_a_url_that_can_not_be_told_is_refused_with_a_remedy(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refusal:
        check_url(url, may_be_private=False)
    assert refusal.value.field == "url"
    assert "secret" not in str(refusal.value)


def test_a_private_url_is_fine_where_it_is_allowed() -> None:
    assert check_url("http://127.0.0.1:9/x", may_be_private=True) == "http://127.0.0.1:9/x"
    assert check_url("https://example.org/x?y=z", may_be_private=False)


@given(st.binary(max_size=200))
def test_a_receiver_that_nobody_here_wrote_accepts_each_secret(body: bytes) -> None:
    body = json.dumps({"said": body.hex()}).encode()
    old, new, other = new_secret(), new_secret(), new_secret()
    sent_at = int(datetime.now(UTC).timestamp())  # noqa: TID251  # the receiver's own clock
    headers = signed("evt_1", sent_at, body, (new, old))
    for secret in (old, new):
        assert ForeignReceiver(secret).verify(body, headers)
    for wrong in (
        (other, headers, body),
        (new, headers, body + b" "),
        (new, {**headers, "webhook-id": "evt_2"}, body),
        (new, {**headers, "webhook-timestamp": str(sent_at - 3600)}, body),
    ):
        with pytest.raises(WebhookVerificationError):
            ForeignReceiver(wrong[0]).verify(wrong[2], wrong[1])


def test_every_kind_of_message_is_told_by_an_event_and_no_sample_is() -> None:
    told = {kind for event in EXAMPLES if (kind := told_by(event)) is not None}
    assert told | {"batch.budget_reached"} == set(WEBHOOK_EVENTS)
    silent = {type(event).__name__ for event in EXAMPLES if told_by(event) is None}
    assert {"BatchStarted", "SampleGenerated", "SliceClaimed", "BatchStopRequested"} <= silent


def test_a_stop_is_told_as_a_budget_only_when_the_budget_asked_for_it() -> None:
    stop = next(one for one in EXAMPLES if type(one).__name__ == "BatchStopRequested")
    assert told_by(stop) is None
    assert told_by(stop.model_copy(update={"actor": BUDGETS_ACTOR})) == "batch.budget_reached"


def test_pauses_double_up_to_ten_minutes_and_a_receiver_may_ask_for_longer_ones() -> None:
    away = Attempt(None, "no answer within 10 s", 10_000.0)
    pauses = []
    for number in range(1, 13):
        delivery = after([away] * number)
        assert delivery.next_at is not None
        pauses.append((delivery.next_at - NOW).total_seconds())
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    asked = after([Attempt(503, "answered 503", 1.0, retry_after_s=900.0)])
    assert asked.next_at == NOW + timedelta(seconds=900)
    half = settled(None, due(), "evt_1", away, now=NOW, chance=lambda: 0.0)
    assert half.next_at == NOW + timedelta(seconds=0.5)


@pytest.mark.parametrize(
    ("attempt", "age_h", "state"),
    [
        (Attempt(400, "answered 400", 1.0), 0, "given_up"),
        (Attempt(410, "answered 410", 1.0), 0, "given_up"),
        (Attempt(429, "answered 429", 1.0), 0, "retrying"),
        (Attempt(408, "answered 408", 1.0), 0, "retrying"),
        (Attempt(301, "answered 301", 1.0), 0, "retrying"),
        (Attempt(500, "answered 500", 1.0), 0, "retrying"),
        (Attempt(None, "refused", 1.0), 23, "retrying"),
        (Attempt(None, "refused", 1.0), 24, "given_up"),
        (Attempt(500, "answered 500", 1.0), 25, "given_up"),
        (TAKEN, 25, "delivered"),
    ],
)
def test_a_message_is_given_up_when_it_is_refused_or_a_day_old(
    attempt: Attempt, age_h: int, state: str
) -> None:
    failed = Attempt(500, "answered 500", 1.0)
    at = NOW - timedelta(hours=age_h)
    assert after([failed] * (ATTEMPTS_LEAST - 2) + [attempt], at=at).state in {
        "retrying",
        "delivered",
    }
    last = after([failed] * (ATTEMPTS_LEAST - 1) + [attempt], at=at)
    assert (last.state, last.attempts) == (state, ATTEMPTS_LEAST)
    assert (last.next_at is None) == (state != "retrying")


STEPS = st.lists(st.sampled_from(["taken", "fails", "passes", "rewinds"]), max_size=200)


@given(STEPS)
def test_progress_never_passes_what_is_still_tried(steps: list[str]) -> None:
    progress = Progress(epoch="0a1b2c3d", sequence=3)
    for step in steps:
        before = progress
        at = before.sequence + 1
        known = before.retrying
        match step:
            case "taken":
                delivery = settled(known, due(at), "evt", TAKEN, now=NOW, chance=lambda: 1.0)
                progress = before.noted(delivery)
                assert progress.sequence == at
                assert progress.retrying is None
            case "fails":
                away = Attempt(500, "answered 500", 1.0)
                delivery = settled(known, due(at), "evt", away, now=NOW, chance=lambda: 1.0)
                progress = before.noted(delivery)
                assert progress.sequence == before.sequence
                assert progress.retrying == delivery
            case "passes" if known is None:
                progress = before.passed(at)
            case "rewinds":
                progress = before.rewound(1)
                assert progress.retrying is None
        ids: list[Any] = [one.state for one in progress.deliveries]
        assert "retrying" not in ids[:-1]
        assert len(ids) <= 50
