"""What a request to the API can end with instead of its answer."""

from typing import Any

from pydantic import ValidationError

from millstream.errors import MillstreamError
from millstream_schemas.answers import Problem


class UnreachableError(MillstreamError):
    """No answer came: nobody listens there, or the connection broke again and again."""


class ApiError(MillstreamError):
    """The server refused; ``problem`` tells why when it said so (RFC 9457)."""

    def __init__(self, status: int, words: str, problem: Problem | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.problem = problem

    @property
    def code(self) -> str:
        """The last word of the problem's type, such as `already_continued`; empty without one."""
        return self.problem.type.rpartition(":")[2] if self.problem else ""


def refusal(status: int, url: str, body: Any) -> ApiError:
    """Return what an answer of ``status`` says; ``body`` is its JSON, None when it had none."""
    try:
        problem = Problem.model_validate(body)
    except ValidationError:
        return ApiError(status, f"{url} answered HTTP {status}")
    words = problem.detail or problem.title
    for wrong in problem.errors:
        if wrong.message not in words:
            words += f"; {wrong.field}={wrong.value!r}: {wrong.message}"
    return ApiError(status, " ".join(words.split()), problem)
