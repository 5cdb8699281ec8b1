"""From what a provider raised to a category and to words that are safe to show."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_generator.completion import CallFailedError, storable
from millstream_generator.endpoints import Endpoint
from millstream_generator.failures import in_answer, safe_message
from millstream_generator.litellm_failures import classify, unsendable
from millstream_generator.waits_asked import RETRY_AFTER_MOST_S
from millstream_schemas.errors import ErrorCategory, ErrorInfo


class ProviderError(Exception):
    """What litellm raises, as far as it is read."""

    def __init__(self, message: str = "no", **attributes: Any) -> None:
        super().__init__(message)
        self.__dict__.update(attributes)


class APIError(ProviderError):
    """The class that most odd statuses come as."""


class RateLimitError(ProviderError):
    pass


class AuthenticationError(ProviderError):
    pass


class PermissionDeniedError(ProviderError):
    pass


class Timeout(ProviderError):  # noqa: N818  # litellm's name
    pass


class BadRequestError(ProviderError):
    pass


class ContextWindowExceededError(BadRequestError):
    pass


class ContentPolicyViolationError(BadRequestError):
    pass


class UnsupportedParamsError(BadRequestError):
    pass


class NotFoundError(ProviderError):
    pass


class InternalServerError(ProviderError):
    pass


class ServiceUnavailableError(ProviderError):
    pass


TABLE: list[tuple[Exception, ErrorCategory]] = [
    (BadRequestError(status_code=400), "invalid_request"),
    (ContextWindowExceededError(status_code=400), "invalid_request"),
    (ContentPolicyViolationError(status_code=400), "content_filter"),
    (BadRequestError(status_code=400, body={"code": "content_policy_violation"}), "content_filter"),
    (AuthenticationError(status_code=401), "auth"),
    (APIError(status_code=402), "auth"),
    (APIError(status_code=403), "auth"),
    (NotFoundError(status_code=404), "invalid_request"),
    (Timeout(status_code=408), "timeout"),
    (APIError(status_code=413), "invalid_request"),
    (APIError("Too many Tokens Per Minute", status_code=413), "rate_limit"),
    (BadRequestError(status_code=422), "invalid_request"),
    (RateLimitError(status_code=429), "rate_limit"),
    (RateLimitError(status_code="429"), "rate_limit"),
    (RateLimitError(status_code=429, body={"code": "insufficient_quota"}), "auth"),
    (InternalServerError(status_code=500), "server"),
    (AuthenticationError(status_code=500), "server"),
    (APIError(status_code=502), "server"),
    (ServiceUnavailableError(status_code=503), "server"),
    (Timeout(status_code=504), "timeout"),
    (APIError(status_code=529), "server"),
    (RateLimitError(), "rate_limit"),
    (AuthenticationError(), "auth"),
    (PermissionDeniedError(), "auth"),
    (Timeout(), "timeout"),
    (TimeoutError(), "timeout"),
    (UnsupportedParamsError(), "invalid_request"),
    (NotFoundError(status_code=0), "invalid_request"),
    (APIError(status_code=None), "server"),
    (ConnectionResetError("peer"), "server"),
    (KeyError("choices"), "server"),
]


@pytest.mark.parametrize(
    ("error", "category"),
    TABLE,
    ids=[f"{type(e).__name__}-{getattr(e, 'status_code', '')}-{c}" for e, c in TABLE],
)
def test_status_first_class_second(error: Exception, category: ErrorCategory) -> None:
    failure = classify(error)
    assert failure.category == category
    assert failure.message
    status = getattr(error, "status_code", None)
    assert failure.status_code == (None if status is None else int(status))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after": "86400"}, RETRY_AFTER_MOST_S),
        ({"retry-after": "inf"}, RETRY_AFTER_MOST_S),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:20 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            20.0,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2026"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "3, 60"}, 3.0),
        ({"retry-after-ms": "2500", "retry-after": "60"}, 2.5),
        ({"retry-after-ms": "soon", "retry-after": "60"}, 60.0),
        ({}, None),
        (None, None),
    ],
)
def test_the_time_to_come_back_is_read_from_either_place(
    headers: dict[str, str] | None, seconds: float | None
) -> None:
    hidden = RateLimitError(status_code=429, litellm_response_headers=headers)
    plain = RateLimitError(status_code=429, response=ProviderError(headers=headers))
    assert classify(hidden).retry_after_s == seconds
    assert classify(plain).retry_after_s == seconds


def test_the_first_place_that_tells_a_time_counts() -> None:
    error = RateLimitError(
        status_code=429,
        litellm_response_headers={"date": "today"},
        response=ProviderError(headers={"retry-after": "4"}),
    )
    assert classify(error).retry_after_s == 4.0


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefghijklmnop",
        "gsk_abcdefghijklmnop1234",
        "csk-abcdefghijklmnop1234",
        "AIzaSyA-abcdefghijklmnop",
        "hf_abcdefghijklmnopqrst",
        "Bearer abc.def.ghi",
    ],
)
def test_what_looks_like_a_key_is_removed(key: str) -> None:
    message = safe_message(f"Incorrect API key provided: {key}, see the docs")
    assert message == "Incorrect API key provided: [removed], see the docs".replace(
        "[removed],", "[removed]" if key.startswith("Bearer") else "[removed],"
    )


def test_the_key_that_was_sent_is_removed_whatever_it_looks_like() -> None:
    failure = classify(AuthenticationError("bad key 0123abcd4567 here"), "0123abcd4567")
    assert failure.message == "bad key [removed] here"
    assert safe_message("none of the models", "none") == "none of the models"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("got eyJhbGciOi.eyJzdWIi.c2ln-_0 back", "got [removed] back"),
        ("got eyJhbGciOiJIUzI1N", "got [removed]"),
        ('{"access_token":"a1","expires_in":5}', '{"access_token":"[removed]","expires_in":5}'),
        (r"{\"refresh_token\": \"a.1\"}", r"{\"refresh_token\": \"[removed]\"}"),
        ("access_token=a1&scope=x", "access_token=[removed]&scope=x"),
        ("{'accessToken': 'a1'}", "{'accessToken': '[removed]'}"),
    ],
)
def test_what_an_identity_service_gives_is_removed(text: str, shown: str) -> None:
    assert safe_message(text) == shown


def test_each_header_that_holds_a_key_is_known() -> None:
    headers = {
        "Authorization": "Bearer b-key",
        "api-key": "c",
        "Accept": "x",
        "X-Goog-Api-Key": "d",
    }
    assert Endpoint("http://a/v1", headers, "m", {}).keys == ("b-key", "c", "d")
    assert safe_message("0123abcd, 4567efgh", ("0123abcd", "4567efgh")) == "[removed], [removed]"


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (ValueError("Port could not be cast to integer value as 'x'"), True),
        (ValueError("Invalid port: '99999'"), True),
        (UnicodeError("label empty or too long"), True),
        (ValueError("unsupported parameter"), False),
        (ValueError("can't import transport"), False),
    ],
)
def test_only_an_address_that_cant_be_one_is_told_as_such(
    *, error: Exception, is_one: bool
) -> None:
    assert (unsendable(error, "host:x") is not None) == is_one


@pytest.mark.parametrize(
    "text",
    [
        "task-oriented-assessment of risk_assessment_plans failed",
        "the access_token has expired; pad_token: 0, monkeyJungleAdventures",
    ],
)
def test_plain_words_stay(text: str) -> None:
    assert safe_message(text) == text


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=3000))
def test_any_message_can_be_stored(text: str) -> None:
    failure = classify(ProviderError(text))
    assert len(failure.message) <= 2000
    for message in (failure.message, CallFailedError("server", text).message):
        info = ErrorInfo(category="server", message=message)
        assert ErrorInfo.model_validate_json(info.model_dump_json()) == info
        assert "\x00" not in message


def test_an_error_without_words_is_told_by_its_class() -> None:
    assert classify(Timeout("")).message == "Timeout"
    assert safe_message("two\nlines\t and  more") == "two lines and more"


def test_nul_and_half_pairs_are_made_visible() -> None:
    assert storable("a\x00b\ud83dc😀") == "a\\0b?c😀"


def test_every_category_but_validation_comes_from_a_provider() -> None:
    assert {category for _, category in TABLE} == set(get_args(ErrorCategory)) - {"validation"}


@pytest.mark.parametrize(
    ("error", "category", "status"),
    [
        ({"message": "slow down", "code": 429}, "rate_limit", 429),
        ({"message": "slow down", "type": "rate_limit_error"}, "rate_limit", 429),
        ({"message": "no", "code": "401"}, "auth", 401),
        ({"message": "no credit", "code": "insufficient_quota"}, "auth", 429),
        ({"message": "boom", "code": 7}, "server", 500),
        ("boom", "server", 500),
    ],
)
def test_an_error_inside_an_answer_has_the_category_that_it_tells(
    error: object, category: str, status: int
) -> None:
    told = in_answer(json.dumps({"error": error}), {"retry-after": "7"}, has_begun=False)
    assert told is not None
    assert (told.category, told.status_code, told.retry_after_s) == (category, status, 7.0)
    assert told.is_unpaid == (status < 500)
    begun = in_answer(json.dumps({"error": error}), {}, has_begun=True)
    assert begun is not None
    assert not begun.is_unpaid
    assert in_answer('{"choices": []}', {}, has_begun=False) is None
    assert in_answer("no document", {}, has_begun=False) is None


def test_what_openais_client_was_told_in_a_stream_is_found_beneath_litellms_error() -> None:
    error = ProviderError(status_code=500)
    error.__cause__ = APIError(body={"message": "slow down", "code": 429})
    found = classify(error)
    assert (found.category, found.message) == ("rate_limit", "HTTP 429: slow down")
