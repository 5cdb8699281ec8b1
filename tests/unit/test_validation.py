"""Validation: which answers count as samples, and that no answer can do harm."""

import json
import random
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millstream.recipes import RecipeBook, builtin_recipes_dir, pin
from millstream_generator.duplicates import DuplicateIndex
from millstream_generator.recipe_rules import _fixed_part
from millstream_generator.validation import Accepted, Rejection, validate
from millstream_projector.views.error_groups import PLACEHOLDERS
from millstream_schemas.recipes import Cell, PinnedRecipe, Recipe

LEGAL = RecipeBook.load([builtin_recipes_dir()]).pin("legal-qa")
CELL = Cell(area="Tort Law", topic="Negligence", difficulty="basic", sample_type="educational")
GOOD = {
    "topic": "Negligence",
    "difficulty": "basic",
    "question": "When does a driver owe a duty of care to people on foot?",
    "answer": "A driver owes that duty to everybody who could foreseeably be hurt by the driving.",
    "reasoning": "Harm to people near the road is foreseeable, and so the law asks for care.",
}


def judge(text: str, finish: str | None = "stop", recipe: PinnedRecipe = LEGAL) -> Any:
    return validate(recipe, CELL, text, finish, DuplicateIndex())


def good(**fields: Any) -> str:
    return json.dumps({**GOOD, **fields})


def rule_of(text: str, finish: str | None = "stop") -> str:
    verdict = judge(text, finish)
    assert isinstance(verdict, Rejection), verdict
    return verdict.rule


def test_a_good_answer_is_accepted_in_the_recipes_order_with_its_citation() -> None:
    turned = json.dumps(dict(reversed(GOOD.items())))
    verdict = judge(turned)
    assert isinstance(verdict, Accepted)
    assert verdict.content == {**GOOD, "case_citation": "Donoghue v Stevenson [1932] AC 562"}
    assert list(verdict.content) == list(LEGAL.recipe.output["properties"])


@pytest.mark.parametrize(
    "wrapped",
    [
        "```json\n{}\n```",
        "```\n{}\n```",
        "\n  {}  \n",
        "\ufeff{}",
        "<think>\nA question about care {{.\n</think>\n{}",
        "```json\n{}```",
    ],
)
def test_fences_thoughts_and_white_space_around_the_json_are_stripped(wrapped: str) -> None:
    text = wrapped.replace("{{", "\x01").replace("{}", good()).replace("\x01", "{")
    assert isinstance(judge(text), Accepted)


def test_line_breaks_inside_strings_are_let_pass() -> None:
    answer = "First, care is owed to those nearby.\nSecond, it is owed in advance of harm."
    assert isinstance(judge(good(answer=answer)), Accepted)
    assert isinstance(judge(good(answer=answer).replace("\\n", "\n")), Accepted)


def test_what_the_cell_says_is_filled_in() -> None:
    bare = {key: value for key, value in GOOD.items() if key not in {"topic", "difficulty"}}
    verdict = judge(json.dumps({**bare, "difficulty": " BASIC ", "topic": None}))
    assert isinstance(verdict, Accepted)
    assert (verdict.content["topic"], verdict.content["difficulty"]) == ("Negligence", "basic")
    invented = judge(good(case_citation="Nobody v Nothing"))
    assert isinstance(invented, Accepted)
    assert invented.content["case_citation"] == "Donoghue v Stevenson [1932] AC 562"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("```json\n```", "empty"),
        ("<think>hm</think>", "empty"),
        ("I like law.", "not_json"),
        ("Here it is: " + good(), "not_json"),
        (good() + " Enjoy!", "not_json"),
        ('{"question": NaN}', "not_json"),
        ('{"question": ' + "1" * 5000 + "}", "not_json"),
        (good()[:-1], "truncated_json"),
        (good()[:70], "truncated_json"),
        ('{"a": tru', "truncated_json"),
        ("[" * 100_000, "truncated_json"),
        ('{"a": "\\', "truncated_json"),
        ("```" + "\n" * 100_000 + "```", "empty"),
        ("x" * 200_001, "too_long"),
        ("[1]", "schema"),
        ('"text"', "schema"),
        ("null", "schema"),
        (good(question=["a", "list"]), "schema"),
        (good(question=None), "schema"),
        (good(answer="short"), "schema"),
        (good(answer="word " * 100), "schema"),
        (good(verdict="guilty"), "schema"),
        (good(topic=["Negligence"]), "schema"),
        (good(answer={"a": [[1]]}), "schema"),
        (good(topic="Theft"), "cell"),
        (good(difficulty="expert"), "cell"),
        (good(answer="A driver owes that duty to all.\x00 It is owed to those nearby."), "\0"),
        (good().replace("A driver", "A \x00driver"), "control_characters"),
        (good().replace("A driver", "A \x1b[31mdriver"), "control_characters"),
        (good(answer="A driver owes \ud800 that duty to everybody who could be hurt by it."), "\0"),
        (good().replace("A driver", "A \ufffd driver"), "control_characters"),
        (good()[:-1] + ', "topic": "Negligence"}', "duplicate_key"),
        (good(reasoning="As an AI language model, I know that care is owed to people."), "refusal"),
        (
            good(answer="I'm sorry, but I can't help with a question about negligence, dear."),
            "refusal",
        ),
        (good(answer="The court, [insert name], held that the driver owed a duty of care."), "\1"),
        (good(reasoning="Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do."), "\1"),
        (good(answer="This answer is not legal advice, but the driver owes a duty of care."), "\2"),
        (good(question="?!... --- ..., !!! ???? ----"), "empty_text"),
        (good(question="What does a shop owe me when my bike is taken from it in a repair?"), ""),
    ],
)
def test_a_bad_answer_is_refused_by_the_rule_that_fits(text: str, rule: str) -> None:
    named = {"\0": "control_characters", "\1": "placeholder", "\2": "pattern"}.get(rule, rule)
    if named:
        assert rule_of(text) == named
    else:
        assert isinstance(judge(text), Accepted)


def test_the_providers_ending_goes_before_the_text() -> None:
    assert rule_of(good(), "length") == "length"
    assert rule_of("", "content_filter") == "content_filter"
    assert isinstance(judge(good(), None), Accepted)


def test_a_schema_rejection_names_the_field() -> None:
    verdict = judge(good(question=["a", "list"]))
    assert verdict.message == """question is not of type string: "['a', 'list']\""""


LONG = 'It\'s "said" that\n' + "a driver owes care; " * 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"answer": LONG}, "answer is too long (4016 characters, 320 at most)"),
        ({"answer": LONG[:19]}, "answer is too short (18 characters, 60 at least)"),
        ({LONG: 1}, "the answer has fields that were not asked for"),
        ({"difficulty": LONG}, "difficulty is"),
    ],
)
def test_a_refusal_names_field_and_reason_before_the_value(
    fields: dict[str, Any], words: str
) -> None:
    message = judge(good(**fields)).message
    assert message.partition('"')[0].rstrip(": ") == words
    assert message.partition('"')[2].startswith("It's 'said' that a")
    assert len(message) < 300


def test_a_missing_field_is_named() -> None:
    document = json.loads(good())
    del document["answer"]
    assert judge(json.dumps(document)).message == "answer is missing; write it"


def test_refusals_for_one_cause_are_one_group_whatever_the_values() -> None:
    rng = random.Random(6)
    letters = "ab \"'`\n…é\\/:."

    def form(length: int) -> str:
        text = "".join(rng.choice(letters) for _ in range(length))
        message = judge(good(answer=f"x{text}x")).message
        for pattern, word in PLACEHOLDERS:
            message = re.sub(pattern, word, message)
        return str(message)

    expected = "answer is too long (<n> characters, <n> at most): <text>"
    assert {form(rng.randrange(400, 900)) for _ in range(200)} == {expected}


def test_a_copied_example_is_refused() -> None:
    document = LEGAL.recipe.model_dump()
    document["refuse_patterns"] = []
    own = pin(Recipe.model_validate(document))
    question = own.recipe.examples[0].answer["question"].upper()
    assert judge(good(question=question), recipe=own).rule == "copied_example"


def test_the_same_text_counts_once() -> None:
    seen = DuplicateIndex()

    def rule(question: str) -> str:
        text = good(question=question)
        verdict = validate(LEGAL, CELL, text, "stop", seen)
        return "" if isinstance(verdict, Accepted) else verdict.rule

    first = "When does a driver of a heavy lorry owe a duty of care to people who walk on the road?"
    assert rule(first) == ""
    assert rule(first) == "duplicate"
    assert rule(f"  {first.upper().replace(' ', '   ')}") == "duplicate"
    assert rule(first.replace("?", "...")) == "near_duplicate"
    assert rule(first.replace("heavy lorry", "small tram")) == ""


def safe(verdict: Accepted | Rejection) -> None:
    if isinstance(verdict, Rejection):
        assert len(verdict.message) <= 2000
        verdict.message.encode()
        assert "\x00" not in verdict.message
    else:
        json.dumps(verdict.content, allow_nan=False, ensure_ascii=False).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@example("[" * 900 + "]" * 900, "stop")
@example('{"answer": ' + "[" * 900 + "]" * 900 + "}", None)
@example('{"\\ud800": 1, "\\ud800": 2}', None)
@example('{"\\u0000": 1}', None)
@given(st.text(), st.none() | st.text())
def test_no_text_raises(text: str, finish: str | None) -> None:
    safe(judge(text, finish))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*LEGAL.recipe.output["properties"], "x"]), JSON))
def test_no_json_raises(fields: dict[str, Any]) -> None:
    safe(judge(json.dumps({**GOOD, **fields})))
    safe(judge(json.dumps(fields, ensure_ascii=False)))


WORD = st.text("ab .", min_size=1, max_size=4)
PIECE = st.one_of(WORD, WORD.map("({})".format), WORD.map("({})?".format), WORD.map("{}?".format))


@given(st.lists(PIECE, min_size=1, max_size=4).map("".join), st.data())
def test_what_a_pattern_can_not_do_without_is_in_all_that_it_finds(
    pattern: str, data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(pattern, fullmatch=True).filter(str.isascii))
    assert _fixed_part(pattern) in text.casefold()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, len(good()) - 1))
def test_half_of_a_good_answer_is_truncated_json(length: int) -> None:
    assert rule_of(good()[:length]) == "truncated_json"
