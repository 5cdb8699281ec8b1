"""Balanced plans on the whole system: what is asked for is what comes out, cell by cell."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from millstream.testing.batches import Batches
from millstream.testing.scripted_llm import Answer, Ok, Request, ScriptedLLMThread
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

RECIPE = """
name = "grid"
title = "Grid"
prompt = "Ask about {{ topic }}, {{ difficulty }}, {{ sample_type }}. {{ feedback }} {{ seed }}"
text_field = "question"
structured = false

[output]
type = "object"
required = ["question", "answer"]
additionalProperties = false
[output.properties]
question = { type = "string", maxLength = 200 }
answer = { type = "string", maxLength = 200 }

[[topics]]
area = "Law"
topic = "leases"
[[topics]]
area = "Law"
topic = "torts"
[[topics]]
area = "Trade"
topic = "tariffs"
weight = 2.0
[[difficulties]]
id = "easy"
[[difficulties]]
id = "hard"
[[sample_types]]
id = "plain"
name = "Plain"
[[sample_types]]
id = "story"
name = "Story"
weight = 3.0
"""
MODELS = """
[[models]]
id = "scripted"
[[models.routes]]
litellm_model = "openai/scripted"
provider = "scripted"
api_base = "%s"
"""
HOPELESS = "torts, hard"
SHARES = {"leases": 1, "torts": 1, "tariffs": 2, "easy": 1, "hard": 1, "plain": 1, "story": 3}
TOTAL = 4 * 2 * 4
Cells = Counter[tuple[str, str, str]]


class Model:
    """Answers a third of all calls with nonsense, and those of one pair of axes always."""

    def __init__(self) -> None:
        self.is_hopeless = True
        self.seeds: list[int] = []

    def __call__(self, request: Request) -> Answer:
        prompt = str(request.body["messages"][-1]["content"])
        seed = int(request.body["seed"])
        self.seeds.append(seed)
        if (self.is_hopeless and HOPELESS in prompt) or seed % 3 == 0:
            return Ok("no JSON at all")
        question = f"What follows from clause {seed} when party {request.index} objects to it?"
        return Ok({"question": question, "answer": f"Rule {seed} applies."})


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def batches(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batches]:
    folder = tmp_path_factory.mktemp("plans")
    (folder / "grid.toml").write_text(RECIPE)
    with ScriptedLLMThread(model) as llm:
        models = folder / "models.toml"
        models.write_text(MODELS % llm.base_url)
        settings = {
            "MILLSTREAM_RECIPES_DIR": str(folder),
            "MILLSTREAM_MODELS_FILE": str(models),
            "MILLSTREAM_DEFAULT_RECIPE": "grid",
        }
        with Stack.start(env=settings) as stack:
            yield Batches(stack.url)


def events(batches: Batches, batch_id: str) -> list[dict[str, Any]]:
    """Return every event of a batch as the read model has it."""
    sequence = batches.view(batch_id)["sequence"]
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        query = {"after": after, "limit": 1000, "min_sequence": sequence}
        url = f"{batches.url}/v1/batches/{batch_id}/events"
        page = httpx.get(url, params=query, timeout=15).raise_for_status().json()["events"]
        if not page:
            return found
        found += [item["event"] for item in page]
        after = page[-1]["sequence"]


def cells_of(history: list[dict[str, Any]], *kinds: str) -> Cells:
    """Return how many outcomes of these kinds each cell has."""
    found: Cells = Counter()
    for event in history:
        if event["type"] in kinds:
            cell = event["cell"]
            found[cell["topic"], cell["difficulty"], cell["sample_type"]] += 1
    return found


def is_balanced(cells: Cells, target: int) -> bool:
    """Tell whether every cell is within one of its weighted share of ``target``."""
    every = [
        (topic, level, kind)
        for topic in ("leases", "torts", "tariffs")
        for level in ("easy", "hard")
        for kind in ("plain", "story")
    ]
    shares = {
        cell: target * SHARES[cell[0]] * SHARES[cell[1]] * SHARES[cell[2]] / TOTAL for cell in every
    }
    return sum(cells.values()) == target and all(
        abs(cells[cell] - share) < 1 for cell, share in shares.items()
    )


MADE, FAILED, REJECTED = "sample.generated.v1", "sample.failed.v1", "sample.rejected.v1"


def test_every_cell_gets_its_share_and_a_child_makes_the_rest_of_it(
    batches: Batches, model: Model
) -> None:
    batch_id = batches.start(90, "scripted", concurrency=16, max_attempts=3)
    assert batches.wait(batch_id, "completed")["counts"]["failed"] >= 10
    history = events(batches, batch_id)
    assert is_balanced(cells_of(history, MADE, FAILED), 90)
    _check_attempts(history, most=3)
    failed = cells_of(history, FAILED)
    assert {cell[:2] for cell in failed} >= {("torts", "hard")}
    model.is_hopeless = False
    parents, made = batch_id, cells_of(history, MADE)
    while failed:
        child = batches.command(parents, "retry-failed", {"overrides": {"max_attempts": 20}})
        parents = child["batch"]["id"]
        assert child["batch"]["target"] == failed.total()
        batches.wait(parents, "completed")
        history = events(batches, parents)
        assert cells_of(history, MADE, FAILED) == failed
        made += cells_of(history, MADE)
        failed = cells_of(history, FAILED)
    assert is_balanced(made, 90)
    assert len(model.seeds) == len(set(model.seeds))


def _check_attempts(history: list[dict[str, Any]], *, most: int) -> None:
    """A refused answer is asked for again in its own slot, until the bound."""
    cells: dict[int, Any] = {}
    attempts: dict[int, list[int]] = {}
    for event in history:
        if event["type"] in {MADE, REJECTED}:
            slot = event["slot"]
            assert cells.setdefault(slot, event["cell"]) == event["cell"]
            attempts.setdefault(slot, []).append(event["attempt"])
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in attempts.values())
    assert max(map(len, attempts.values())) == most
    given_up = {event["slot"] for event in history if event["type"] == FAILED}
    assert given_up == {
        slot
        for slot, numbers in attempts.items()
        if len(numbers) == most
        and not any(e["type"] == MADE and e["slot"] == slot for e in history)
    }


def test_a_stopped_batch_is_continued_to_exactly_what_was_asked_for(
    batches: Batches, model: Model
) -> None:
    model.is_hopeless = False
    asked = 300
    batch_id = batches.start(asked, "scripted", concurrency=2, max_attempts=20)
    batches.wait_samples(batch_id, 20)
    batches.stop(batch_id)
    stopped = batches.wait(batch_id, "stopped")
    made = cells_of(events(batches, batch_id), MADE)
    assert 20 <= made.total() == stopped["counts"]["generated"] < asked
    child = batches.command(batch_id, "continue", {"overrides": {"concurrency": 32}})["batch"]
    assert child["target"] == asked - made.total()
    batches.wait(child["id"], "completed")
    made += cells_of(events(batches, child["id"]), MADE, FAILED)
    assert is_balanced(made, asked)
    assert batches.view(batch_id)["child_id"] == child["id"]


@pytest.mark.parametrize(
    "form",
    [
        {
            "smart_mode": True,
            "topic": "Law - torts",
            "difficulty": "hard",
            "sample_type": "balance",
        },
        {"smart_mode": False, "topic": "balance", "difficulty": "balanced", "sample_type": ""},
        {"smart_mode": False, "topic": None, "difficulty": None, "sample_type": None},
    ],
)
def test_smart_mode_and_balance_of_older_pages_spread_over_every_axis(
    batches: Batches, model: Model, form: dict[str, Any]
) -> None:
    model.is_hopeless = False
    total = httpx.get(f"{batches.url}/api/stats", timeout=15).json()["total"]
    body = {"target_count": total + 32, "provider": "auto", "model": "simulated/instant", **form}
    url = f"{batches.url}/api/generate/batch/start"
    started = httpx.post(url, json=body, timeout=15).raise_for_status().json()
    batch_id = started["batch_id"]
    wait_until(lambda: batches.view(batch_id)["state"] == "completed", BOUND_S, "the end")
    assert is_balanced(cells_of(events(batches, batch_id), MADE, FAILED), 32)
