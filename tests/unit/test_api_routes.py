"""What holds for every route of the API."""

import importlib
import pkgutil
from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from millstream_api import routes


def all_routes() -> Iterator[APIRoute]:
    for found in pkgutil.iter_modules(routes.__path__, f"{routes.__name__}."):
        router: Any = getattr(importlib.import_module(found.name), "router", None)
        if router is not None:
            yield from (route for route in router.routes if isinstance(route, APIRoute))


def calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


def test_no_request_waits_for_a_thread_to_be_read() -> None:
    # FastAPI runs what is no coroutine in a thread, even if all it does is to build a tuple.
    found = {call for route in all_routes() for call in calls(route.dependant)}
    assert len(found) > 40
    assert [call.__qualname__ for call in found if not iscoroutinefunction(call)] == []
