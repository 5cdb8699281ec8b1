import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_generator.simulated.chat import (
    Answer,
    BadRequestError,
    ChatRequest,
    RequestReader,
    answer,
)
from millstream_generator.simulated.profiles import FLAKY, PROFILES, profile_named
from millstream_generator.simulated.shapes import UnsupportedSchemaError, compile_shape
from millstream_generator.simulated.text import Draw, fit, topics_of

QA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"const": "adverse possession"},
        "difficulty": {"enum": ["basic", "advanced"]},
        "question": {"type": "string", "minLength": 20, "maxLength": 300},
        "answer": {"type": "string", "minLength": 60, "maxLength": 600},
        "case_citation": {"type": "string", "maxLength": 120},
    },
    "required": ["topic", "difficulty", "question", "answer", "case_citation"],
    "additionalProperties": False,
}


def body(**fields: Any) -> bytes:
    request: dict[str, Any] = {
        "model": "fast",
        "seed": 1,
        "messages": [{"role": "user", "content": "Write one question.\nTopic: bailment\n"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": QA_SCHEMA}},
    }
    request.update(fields)
    return json.dumps(request).encode()


def read(**fields: Any) -> ChatRequest:
    return RequestReader().read(body(**fields))


def reply(**fields: Any) -> Answer:
    return answer(read(**fields))


@st.composite
def bounded_strings(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.integers(0, 80))
    schema: dict[str, Any] = {"type": "string", "minLength": low}
    if draw(st.booleans()):
        schema["maxLength"] = draw(st.integers(low, 400))
    return schema


@st.composite
def bounded_integers(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.integers(-1000, 1000))
    schema: dict[str, Any] = {"type": "integer"}
    schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(
            st.integers(2, 50)
        )
    return schema


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    names = st.sampled_from(["topic", "question", "answer", "case_citation", "score", "tags"])
    properties = draw(st.dictionaries(names, inner, max_size=4))
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def arrays(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, low, more: {
            "type": "array",
            "items": items,
            "minItems": low,
            "maxItems": low + more,
        },
        inner,
        st.integers(0, 3),
        st.integers(0, 3),
    )


leaves = st.one_of(
    bounded_strings(),
    bounded_integers(),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"], "maxLength": 9}),
    st.just({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    st.builds(lambda value: {"const": value}, st.text() | st.integers() | st.none()),
    st.builds(lambda values: {"enum": values}, st.lists(st.text(), min_size=1, unique=True)),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        objects(inner),
        arrays(inner),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@given(schemas, st.integers(0, 1000))
def test_what_is_made_satisfies_its_schema(schema: dict[str, Any], seed: int) -> None:
    shape = compile_shape(schema)
    value = shape.make(Draw(random.Random(seed).random, ("estoppel",)))
    jsonschema.validate(json.loads(json.dumps(value)), schema)


@given(st.text(max_size=60), st.integers(0, 40), st.integers(0, 40))
def test_a_fitted_text_lies_within_its_bounds(text: str, low: int, more: int) -> None:
    assert low <= len(fit(text, low, low + more)) <= low + more


def test_references_into_the_schema_are_followed() -> None:
    schema = {
        "$defs": {"level": {"enum": [3]}},
        "type": "object",
        "properties": {"level": {"$ref": "#/$defs/level"}},
    }
    assert compile_shape(schema).make(Draw(lambda: 0.5, ())) == {"level": 3}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "pattern": "^a"}, "schema: 'pattern'"),
        ({"properties": {"x": {"type": "string", "minLength": 5, "maxLength": 4}}}, "schema.x"),
        ({"properties": {"x": {"type": "integer", "minimum": 5, "maximum": 4}}}, "schema.x"),
        ({"properties": {"x": {"type": "text"}}}, "'text' isn't a JSON type"),
        ({"$ref": "#/nowhere"}, "leads nowhere"),
        ({"properties": {"x": {"$ref": "#"}}}, "contains itself"),
        ({"enum": []}, "enum is empty"),
    ],
)
def test_a_schema_that_cannot_be_answered_is_refused_by_name(
    schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedSchemaError, match=words.replace("$", r"\$")):
        compile_shape(schema)


def test_the_same_request_gives_the_same_answer() -> None:
    assert reply() == reply()


def test_another_seed_another_prompt_or_another_model_gives_another_answer() -> None:
    texts = {
        reply().text,
        reply(seed=2).text,
        reply(messages=[{"role": "user", "content": "Topic: bailment"}]).text,
        reply(model="slow").text,
    }
    assert len(texts) == 4


def test_the_answer_obeys_the_schema_and_mentions_its_topic() -> None:
    sample = json.loads(reply().text)
    jsonschema.validate(sample, QA_SCHEMA)
    assert sample["question"].endswith("?")
    assert "adverse possession" in sample["question"] + sample["answer"]


def test_without_a_schema_the_answer_is_sentences_about_the_last_topic_of_the_prompt() -> None:
    text = reply(response_format=None).text
    assert "bailment" in text
    assert text.endswith(".")
    assert topics_of("Topic: old\nand so on\nTopic: new.") == ("new",)
    assert topics_of("Concept: Bailment (Property Law)\nLevel: basic") == ("Bailment",)
    assert topics_of("Explain subrogation to a beginner") == ("subrogation", "beginner", "explain")


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return set(zip(*(words[start:] for start in range(5)), strict=False))


@pytest.mark.parametrize("field", ["question", "answer"])
def test_answers_of_different_seeds_are_no_near_duplicates(field: str) -> None:
    grams = [five_grams(json.loads(reply(seed=seed).text)[field]) for seed in range(300)]
    overlap = max(len(a & b) / len(a | b) for a, b in itertools.combinations(grams, 2))
    assert overlap < 0.85


def test_flaky_fails_eight_percent_of_the_time_in_every_way() -> None:
    reader = RequestReader()
    failures = [
        reader.read(body(model="flaky", seed=seed, response_format=None)).failure
        for seed in range(10_000)
    ]
    counted = Counter(failure for failure in failures if failure is not None)
    assert set(counted) == set(FLAKY)
    assert sum(FLAKY.values()) == pytest.approx(0.08)
    assert 700 <= counted.total() <= 900


def test_the_same_bytes_always_fail_in_the_same_way() -> None:
    bodies = [body(model="flaky", seed=seed) for seed in range(200)]
    first, second = RequestReader(), RequestReader()
    assert [first.read(item).failure for item in bodies] == [
        second.read(item).failure for item in bodies
    ]


def test_spoilt_answers_look_like_what_providers_send() -> None:
    request = read()
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer(request, "half_json").text)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer(request, "garbage").text)
    assert "\0" in json.loads(answer(request, "nul").text)["question"]
    assert answer(request, "length").finish_reason == "length"
    assert answer(request, "content_filter") == Answer(
        "", "content_filter", answer(request, "content_filter").usage
    )


def test_an_answer_longer_than_max_tokens_is_cut_with_the_reason_length() -> None:
    cut = reply(max_tokens=10)
    assert (len(cut.text), cut.finish_reason, cut.usage.completion_tokens) == (40, "length", 10)
    assert reply(max_tokens=2000).finish_reason == "stop"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "body: not JSON"),
        (b"[]", "body: not a JSON object"),
        (body(model="gpt"), "model: 'gpt' isn't simulated; use fast"),
        (body(messages=[]), "messages: missing or empty"),
        (body(messages=["hello"]), "messages: each one"),
        (body(max_tokens=-1), "max_tokens: -1"),
        (body(n=2), "n: 2"),
        (body(response_format={"type": "json_schema"}), "response_format.json_schema.schema"),
        (
            body(
                response_format={
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "string", "minLength": "many"}},
                }
            ),
            "response_format: not a valid JSON schema",
        ),
    ],
)
def test_a_bad_request_is_refused_with_the_field_and_its_value(raw: bytes, words: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        RequestReader().read(raw)
    assert str(refused.value).startswith(words)


def test_profiles_go_by_name_or_by_a_latency_of_ones_own() -> None:
    assert {name: profile_named(name) for name in PROFILES} == dict(PROFILES)
    custom = profile_named("custom-250")
    assert custom is not None
    assert custom.latency_s == 0.25
    assert profile_named("custom-") is None
    assert profile_named("custom-999999") is None


def test_the_server_module_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, millstream_generator.simulated.server\n"
        "print([name for name in ('litellm', 'openai', 'fastapi', 'duckdb', 'pydantic')"
        " if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"
