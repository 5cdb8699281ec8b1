"""Which model `up` offers by default: the local one when it loads, else the simulated one."""

import asyncio
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from millstream.cli.guard import Guard
from millstream.cli.services import service_command
from millstream.errors import UsageError
from millstream.models import AUTO, ModelBook
from millstream.runtime.settings import Settings

LOCAL = "local/smollm2-135m"
SIMULATED = "simulated/fast"
PROBE_LIMIT_S = 5.0
PULL_LIMIT_S = 600.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model of a batch that names none, and whether the local model's server runs.

    ``may_fall_back``: the user did not insist on the local model.
    """

    default_model: str
    serves_local: bool = False
    may_fall_back: bool = False


class NoLocalModelError(UsageError):
    """The local model can't run here; the message says why and which command mends it."""


def check_model(wish: str, settings: Settings) -> None:
    """Make sure that a model called ``wish`` can be offered, before anything is started.

    Raises:
        UsageError: there is none; names the option, the value and the remedy.
        SettingsError: the models file can't be used.
    """
    # What is asked is whether the name is known; `up` finds the simulated models' port later.
    known = {"simulated_url": "http://127.0.0.1:1", "default_model": AUTO}
    book = ModelBook.load(settings.model_copy(update=known))
    if wish in {"auto", "local", "simulated", LOCAL}:
        return
    try:
        book.find(wish)
    except UsageError as error:
        raise UsageError(f"--model: {error}", field="model", value=wish) from error


async def choose_model(wish: str, *, say: Say, guard: Guard) -> ModelChoice:
    """Turn ``--model`` into a choice: ``auto``, ``local``, ``simulated`` or any model's name.

    With ``auto`` a local model that can't run costs one warning line; the weights are pulled on
    the first start when the engine is installed.

    Raises:
        NoLocalModelError: ``local`` was asked for and can't run.
    """
    if wish == "simulated":
        return ModelChoice(SIMULATED)
    if wish in {"local", LOCAL}:
        await _prepare_local(say, guard)
        return ModelChoice(LOCAL, serves_local=True)
    if wish != "auto":
        return ModelChoice(wish)
    try:
        await _prepare_local(say, guard)
    except NoLocalModelError as error:
        return fall_back(str(error), say)
    return ModelChoice(LOCAL, serves_local=True, may_fall_back=True)


def fall_back(reason: str, say: Say) -> ModelChoice:
    """Return the simulated model, after one warning that says why."""
    say(
        f"the local model is not available: {reason}. Until then batches use {SIMULATED}, "
        "which makes up text without a language model."
    )
    return ModelChoice(SIMULATED)


async def _prepare_local(say: Say, guard: Guard) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        raise NoLocalModelError(
            "its engine is not installed; install it: pip install 'millstream[local]'"
        )
    engine, weights = await _probe(guard)
    if engine != "ready":
        raise NoLocalModelError(engine)
    if weights == "none":
        say("fetching the local model's weights (93 MB, the first time only)")
        # Its progress, and why it failed if it did, go to the terminal.
        code, _ = await _run(guard, service_command("local-pull"), PULL_LIMIT_S, quiet=False)
        if code != 0:
            raise NoLocalModelError(
                "its weights could not be fetched; try again: millstream local pull"
            )


async def _probe(guard: Guard) -> tuple[str, str]:
    """Return how the engine stands (``ready`` or why not) and where the weights are."""
    code, output = await _run(guard, service_command("local-model", ["probe"]), PROBE_LIMIT_S)
    found = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    if code < 0:
        return f"its engine was not imported within {PROBE_LIMIT_S:g} s; start again", "none"
    return found.get("engine", output.strip() or f"exit code {code}"), found.get("weights", "none")


async def _run(
    guard: Guard, command: list[str], limit_s: float, *, quiet: bool = True
) -> tuple[int, str]:
    """Run a command to its end; return its exit code (negative: cut off) and, quiet, its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if quiet else None,
        process_group=guard.group(),
    )
    output = b""
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return -1, ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode("utf-8", "replace")
