"""Writes the methods of `millstream.client` from the API's own OpenAPI document.

`python -m millstream_api.client_code DIR` writes ``sync_client.py`` and ``async_client.py``; the
formatter does the rest. A test holds the committed files to it.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

import millstream_schemas
from millstream_api.app import create_app

HEADERS = {"Idempotency-Key": "idempotency_key", "If-Match": "if_match"}
PLAIN_TYPES = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}
KINDS = ("sync", "async")
GENERATED = "Generated from the routes by `just docs`: change those instead."


def write_clients(app: FastAPI, kind: str) -> str:
    """Return the module of the ``kind`` client: a method for each route under /v1."""
    document, modules = app.openapi(), _models()
    used: set[str] = set()
    methods = [
        _method(kind, path, method, operation, used)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path.startswith("/v1/") and not operation["operationId"].startswith("stream_")
    ]
    imports = "\n".join(f"from {modules[name]} import {name}" for name in sorted(used))
    prefix = "Async" if kind == "async" else ""
    base = f"{kind.capitalize()}Requests"
    iterator, context = f"{prefix}Iterator", f"Abstract{prefix}ContextManager"
    return (
        f'"""The {kind} client. {GENERATED}"""\n\n'
        f"from collections.abc import {iterator}, Sequence\n"
        f"from contextlib import {context}\n"
        "from datetime import datetime\nfrom typing import Literal\n\n"
        f"from millstream.client.{kind}_requests import {base}\n"
        "from millstream.client.requests import ApiRequest, segment\n"
        f"{imports}\n\n\n"
        f"class {prefix}Client({base}):\n"
        f'    """A method for each route of /v1; see `{base}` for how to make one.\n\n'
        "    Every method raises ApiError when the server refuses and UnreachableError when it"
        '\n    gives no answer.\n    """\n\n' + "\n".join(methods)
    )


def _method(kind: str, path: str, method: str, operation: dict[str, Any], used: set[str]) -> str:
    name = operation["operationId"].split("_v1_")[0]
    answer = _answer(operation)
    required, optional, query, headers = [], [], [], []
    for parameter in operation.get("parameters", ()):
        given, python_type = parameter["name"], _type(parameter["schema"])
        if parameter["in"] == "path":
            required.append(f"{given}: {python_type}")
        elif parameter["in"] == "query":
            default = "" if parameter["required"] else f" = {_default(parameter['schema'])}"
            optional.append(f"{given}: {python_type}{default}")
            query.append(f'"{given}": {given}')
        elif given in HEADERS:
            optional.append(f"{HEADERS[given]}: str | None = None")
            headers.append(f'"{given}": {HEADERS[given]}')
    body = _body(operation)
    if body is not None:
        command, is_required = body
        used.add(command)
        required.append(
            f"command: {command}" if is_required else f"command: {command} | None = None"
        )
    url = re.sub(r"\{(\w+)\}", r"{segment(\1)}", path)
    quoted = f'f"{url}"' if "{" in url else f'"{url}"'
    parts = [f'"{method.upper()}"', quoted]
    parts += [f"query={{{', '.join(query)}}}"] if query else []
    parts += ["body=command"] if body is not None else []
    parts += [f"headers={{{', '.join(headers)}}}"] if headers else []
    arguments = ", ".join(["self", *required, *(["*", *optional] if optional else [])])
    request = f"ApiRequest({', '.join(parts)})"
    start = "async def" if kind == "async" and answer else "def"
    if answer:
        used.add(answer)
        result, wait = answer, "await " if kind == "async" else ""
        call = f"return {wait}self._ask({answer}, {request})"
    else:
        prefix = "Async" if kind == "async" else ""
        result = f"Abstract{prefix}ContextManager[{prefix}Iterator[bytes]]"
        call = f"return self._pieces({request})"
    words = _docstring(operation["description"])
    return f"    {start} {name}({arguments}) -> {result}:\n{words}        {call}\n"


def _docstring(description: str) -> str:
    first, _, rest = description.strip().partition("\n")
    lines = [f"        {line}".rstrip() for line in rest.splitlines()]
    tail = "\n".join(["", *lines, "        "]) if rest.strip() else ""
    return f'        """{first}{tail}"""\n'


def _answer(operation: dict[str, Any]) -> str | None:
    """Return the name of the model that it answers with, None for a body of bytes."""
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values() if status.startswith("2") else ():
            if "$ref" in content.get("schema", {}):
                return str(content["schema"]["$ref"]).rpartition("/")[2]
    return None


def _body(operation: dict[str, Any]) -> tuple[str, bool] | None:
    """Return the model of the body, and whether one must be given."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        choices = schema.get("anyOf", [schema])
        name = next(one["$ref"] for one in choices if "$ref" in one)
        return name.rpartition("/")[2], {"type": "null"} not in choices
    return None


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(
            "None" if one == {"type": "null"} else _type(one) for one in schema["anyOf"]
        )
    if "enum" in schema:
        return f"Literal[{', '.join(repr(value) for value in schema['enum'])}]"
    if schema.get("format") == "date-time":
        return "datetime"
    if schema["type"] == "array":
        return f"Sequence[{_type(schema['items'])}]"
    return PLAIN_TYPES[schema["type"]]


def _default(schema: dict[str, Any]) -> str:
    if schema.get("type") == "array":
        return "()"
    return repr(schema.get("default"))


def _models() -> dict[str, str]:
    """Return the module of each class of the contract."""
    found: dict[str, str] = {}
    for module in _modules():
        for name, value in vars(importlib.import_module(module)).items():
            if isinstance(value, type) and issubclass(value, BaseModel):
                found[name] = value.__module__
    return found


def _modules() -> Iterator[str]:
    for module in pkgutil.iter_modules(millstream_schemas.__path__, "millstream_schemas."):
        yield module.name


def main(directory: Path) -> None:
    """Write both clients into ``directory``."""
    app = create_app(None)
    for kind in KINDS:
        source = write_clients(app, kind)
        (directory / f"{kind}_client.py").write_text(source, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
