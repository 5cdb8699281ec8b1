"""Prompts: messages, response format and token limit of one call."""

import json
from math import ceil
from typing import Any

import pytest

from millstream.domain.plan import Plan
from millstream.recipe_prompts import max_tokens, render, response_format
from millstream.recipe_templates import TemplateProblemError
from millstream.recipes import RecipeBook, builtin_recipes_dir, pin
from millstream_schemas.control import BatchSpec
from millstream_schemas.recipes import (
    Cell,
    Difficulty,
    Example,
    PinnedRecipe,
    Recipe,
    SampleType,
    Topic,
)
from millstream_schemas.routes import Route

CELL = Cell(area="A", topic="one", difficulty="easy", sample_type="plain")


def pinned(**fields: Any) -> PinnedRecipe:
    output = {
        "type": "object",
        "additionalProperties": False,
        "required": ["text", "cited"],
        "properties": {
            "topic": {"type": "string", "maxLength": 20, "description": "The topic."},
            "text": {"type": "string", "maxLength": 50},
            "cited": {"type": "string", "maxLength": 40},
        },
    }
    return pin(
        Recipe.model_validate(
            {
                "name": "small-one",
                "title": "Small",
                "prompt": "Write about {{ topic }}.",
                "output": output,
                "fixed": {"cited": "source"},
                "text_field": "text",
                "topics": (Topic(area="A", topic="one", source="a book"),),
                "difficulties": (Difficulty(id="easy", description="not hard"),),
                "sample_types": (SampleType(id="plain", name="Plain", focus="Be plain."),),
                **fields,
            }
        )
    )


def test_a_prompt_is_system_examples_and_request_in_this_order() -> None:
    recipe = pinned(
        system="You write at level {{ difficulty }}: {{ difficulty_description }}.",
        examples=(Example(prompt="Write about two.\n", answer={"text": "Zwei ä", "topic": "two"}),),
    )
    assert render(recipe, CELL, None, 1, 1, "") == [
        {"role": "system", "content": "You write at level easy: not hard."},
        {"role": "user", "content": "Write about two."},
        {"role": "assistant", "content": '{"topic": "two", "text": "Zwei ä"}'},
        {"role": "user", "content": "Write about one."},
    ]


def test_a_template_sees_every_variable() -> None:
    prompt = "{{ area }}|{{ source }}|{{ sample_type_name }}|{{ focus }}|{{ seed }}|{{ attempt }}"
    (message,) = render(pinned(prompt=prompt), CELL, None, 7, 2, "")
    assert message["content"] == "A|a book|Plain|Be plain.|7|2"


def test_instruction_and_feedback_are_never_lost() -> None:
    (plain,) = render(pinned(), CELL, "Use short words.", 1, 2, "text is too long")
    assert "Follow this instruction too: Use short words." in plain["content"]
    assert "Your last answer was refused: text is too long." in plain["content"]
    own = "{{ topic }}{% if feedback %} NO: {{ feedback }}{% endif %} {{ instruction }}"
    (message,) = render(pinned(prompt=own), CELL, "Short.", 1, 2, "x" * 5000)
    assert message["content"] == f"one NO: {'x' * 500} Short."


def test_what_a_user_types_is_text_and_never_a_template() -> None:
    (message,) = render(pinned(), CELL, "{{ 7 * 7 }}{% raw %}", 1, 1, "")
    assert "{{ 7 * 7 }}{% raw %}" in message["content"]


def test_a_template_that_fails_for_a_cell_says_so() -> None:
    with pytest.raises(TemplateProblemError, match="can't be rendered"):
        render(pinned(prompt="{{ {'other': 1}[topic] }}"), CELL, None, 1, 1, "")


def test_a_cell_of_another_recipe_is_refused() -> None:
    with pytest.raises(LookupError, match="not a cell"):
        render(pinned(), CELL.model_copy(update={"topic": "two"}), None, 1, 1, "")


def test_the_response_format_is_narrowed_to_the_cell() -> None:
    recipe = pinned()
    before = json.dumps(recipe.recipe.output)
    answer = response_format(recipe, CELL)
    assert answer["type"] == "json_schema"
    assert answer["json_schema"]["name"] == "small_one"
    schema = answer["json_schema"]["schema"]
    assert schema["properties"] == {
        "topic": {"type": "string", "const": "one", "description": "The topic."},
        "text": {"type": "string", "maxLength": 50},
    }
    assert schema["required"] == ["text"]
    assert schema["additionalProperties"] is False
    assert json.dumps(recipe.recipe.output) == before


def test_the_token_limit_follows_from_the_longest_answer() -> None:
    small = max_tokens(pinned())
    longest = json.dumps({"topic": "x" * 20, "text": "y" * 50}, indent=2)
    assert small >= ceil(len(longest) / 2)
    wide = pinned().recipe.model_dump()
    wide["output"]["properties"]["text"]["maxLength"] = 1050
    assert max_tokens(pin(Recipe.model_validate(wide))) == small + 500


def test_recipes_of_one_hash_but_other_content_are_not_mixed_up() -> None:
    first = pinned()
    second = pinned(prompt="Tell of {{ topic }}.").model_copy(
        update={"content_hash": first.content_hash}
    )
    assert render(first, CELL, None, 1, 1, "")[0]["content"] == "Write about one."
    assert render(second, CELL, None, 1, 1, "")[0]["content"] == "Tell of one."


@pytest.mark.parametrize("name", ["legal-qa", "instruction"])
def test_built_in_prompts_name_the_concept_and_stay_small(name: str) -> None:
    recipe = RecipeBook.load([builtin_recipes_dir()]).pin(name)
    spec = BatchSpec(
        recipe=recipe,
        model="simulated/fast",
        routes=(Route(model="simulated/fast", provider="simulated", litellm_model="openai/x"),),
        target=200,
        slice_size=1,
        seed=3,
        concurrency=1,
    )
    plan = Plan(spec)
    for slot in range(spec.target):
        cell = plan.cell(slot)
        messages = render(recipe, cell, "Be brief.", slot, 2, "too long")
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
        asked = messages[-1]["content"]
        assert all(part in asked for part in (cell.topic, cell.area, "Be brief.", "too long"))
        characters = sum(len(message["content"]) for message in messages)
        # A slot of the local model holds 2,048 tokens for prompt and answer.
        assert characters / 3 + max_tokens(recipe) < 2048
    assert max_tokens(recipe) <= 600
