"""Query parameters that a route does not take: refused, for a mistyped filter filters nothing."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from millstream.wording import one_of
from millstream_api.problems import ProblemError, field_error, in_words, shown

SHOWN_MAX = 5


async def check_parameters(request: Request) -> None:
    """Check that the route of ``request`` takes each of its query parameters.

    Raises:
        ProblemError: it does not; the detail names those that it takes.
    """
    if not request.query_params:
        return
    taken = sorted(set(_taken(request.scope["route"].dependant)))
    unknown = [name for name in request.query_params if name not in taken]
    if not unknown:
        return
    errors = []
    for name in unknown[:SHOWN_MAX]:
        words = one_of(name, taken) if taken else "this route takes none; leave it out"
        message = f"{in_words(name)} is no query parameter here: {words}"
        errors.append(field_error(str(shown(name)), message, request.query_params[name]))
    detail = "; ".join(error["message"] for error in errors)
    raise ProblemError(400, "invalid_request", detail, errors=errors)


def _taken(dependant: Dependant) -> Iterator[str]:
    """Yield the query parameters of a route and of what it depends on."""
    for parameter in dependant.query_params:
        yield parameter.alias
    for inner in dependant.dependencies:
        yield from _taken(inner)
