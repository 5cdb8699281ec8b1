"""Calls as a batch makes them: a model named in a models file, its key in the environment."""

import json
import os
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from millstream.models import ModelBook
from millstream.runtime.settings import load_settings
from millstream.testing.wire_families import Family
from millstream_generator import endpoints
from millstream_generator.completion import Prompt
from millstream_generator.endpoints import Endpoint
from millstream_generator.lanes import Lanes
from millstream_generator.litellm_setup import litellm
from millstream_generator.resolve import resolve
from millstream_schemas.routes import Route

KEY = "testkey-0123456789abcdef"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
PROMPT = Prompt(
    batch_id="batch_1_00000000",
    messages=[
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ],
    response_format={
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
    },
    max_tokens=77,
    seed=12,
    temperature=0.5,
    top_p=0.9,
    extra={},
)


@pytest.fixture
def key() -> str:
    """The one key of these tests: no message and no second host may ever see it."""
    return KEY


@pytest.fixture
def prompt() -> Prompt:
    """A prompt that asks for all that one can ask for."""
    return PROMPT


@pytest.fixture
def route_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Route]:
    """Makes the route that the model book gives a user of the family at that address."""

    def make(family: Family, origin: str | None, **changes: Any) -> Route:
        if family.key_env is not None:
            monkeypatch.setenv(family.key_env, KEY)
        fields: dict[str, Any] = {
            "litellm_model": family.model,
            "input_usd_per_million": 1.0,
            "output_usd_per_million": 2.0,
            "timeout_s": 5.0,
            "stall_s": 5.0,
            **family.route,
            **changes,
        }
        if origin is not None:
            fields["api_base"] = f"{origin}{family.base}"
            if family.key_env is not None:
                fields["api_key_env"] = family.key_env
        parameters = fields.pop("parameters", {})
        lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
        lines += ["[models.routes.parameters]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in parameters.items()]
        file = tmp_path / "models.toml"
        table = "\n".join(lines)
        file.write_text(f'[[models]]\nid = "mine"\n[[models.routes]]\n{table}\n', encoding="utf-8")
        book = ModelBook.load(load_settings(models_file=file), environment=os.environ)
        (route,) = book.resolve("mine", None).routes
        return route

    return make


@pytest.fixture
def ask_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks litellm in this process: one of its own for each of the routes would take a minute.

    What is asked and answered is the same; a test of the lanes goes the way through a process.
    """

    async def ask(route: Route, base: str | None, key: str) -> Endpoint:
        try:
            return Endpoint(**resolve(route.litellm_model, base, key))
        except Exception as error:  # as the process does
            raise endpoints._NotDirectError(str(error)) from error

    monkeypatch.setattr(endpoints, "_ask_litellm", ask)


@pytest.fixture
async def tidy_litellm() -> AsyncIterator[None]:
    """Closes the clients that litellm keeps, in the loop that they belong to."""
    yield
    # Imported here: litellm must find the environment that litellm_setup makes before.
    module = import_module("litellm.llms.custom_httpx.async_client_cleanup")
    await module.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


@pytest.fixture
async def lanes(ask_here: None, tidy_litellm: None) -> AsyncIterator[Lanes]:
    """The product's own choice of lanes."""
    made = Lanes(load_settings(lane="auto"), settle=lambda: None)
    yield made
    await made.close()


@pytest.fixture
async def litellm_lane(tidy_litellm: None) -> AsyncIterator[Lanes]:
    """Everything through litellm."""
    made = Lanes(load_settings(lane="litellm"), settle=lambda: None)
    yield made
    await made.close()
