"""The recipe book: what is read, what is refused and in which words."""

import json
import os
from pathlib import Path

import pytest

from millstream.errors import SettingsError
from millstream.recipe_checks import check_recipe
from millstream.recipe_templates import TEMPLATE_VARIABLES
from millstream.recipes import (
    BrokenRecipeError,
    RecipeBook,
    UnknownRecipeError,
    builtin_recipes_dir,
    content_hash,
    recipe_directories,
)
from millstream_schemas.recipes import Recipe

TEXT = """
title = "Small"
prompt = "Write about {{ topic }} at level {{ difficulty }}. {{ instruction }}{{ feedback }}"
text_field = "text"
refuse_patterns = ["as usual"]

[sampling.extra]
min_p = 0.1

[output]
type = "object"
additionalProperties = false
required = ["text"]

[output.properties]
text = { type = "string", maxLength = 50 }
topic = { type = "string", maxLength = 20 }
words = { type = "integer", minimum = 0, maximum = 9 }

[[topics]]
area = "A"
topic = "one"

[[difficulties]]
id = "easy"

[[sample_types]]
id = "plain"
name = "Plain"
"""


def write(folder: Path, name: str, text: str = TEXT) -> Path:
    path = folder / f"{name}.toml"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    # A file system may count time in coarse steps; editors take longer than one.
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


def test_the_built_in_recipes_are_whole() -> None:
    book = RecipeBook.load([builtin_recipes_dir()])
    assert dict(book.broken) == {}
    assert {"instruction", "legal-qa"} <= set(book.names())
    legal = book.get("legal-qa")
    assert legal.title == "Legal Q&A"
    assert list(legal.output["properties"]) == [
        "topic",
        "difficulty",
        "question",
        "answer",
        "reasoning",
        "case_citation",
    ]
    assert [kind.id for kind in legal.sample_types] == [
        "case_analysis",
        "educational",
        "client_interaction",
        "statutory_interpretation",
    ]
    assert all(k.name and k.description and k.focus and k.example for k in legal.sample_types)
    assert [level.id for level in legal.difficulties] == [
        "foundational",
        "basic",
        "intermediate",
        "advanced",
        "expert",
    ]
    assert len(legal.topics) >= 24
    assert len({topic.area for topic in legal.topics}) >= 6


def test_a_folder_of_the_user_comes_before_the_built_in_one(tmp_path: Path) -> None:
    write(tmp_path, "legal-qa")
    write(tmp_path, "mine")
    book = RecipeBook.load(recipe_directories(tmp_path))
    assert book.get("legal-qa").title == "Small"
    assert set(book.names()) == {"instruction", "legal-qa", "mine"}


def test_an_unknown_recipe_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    write(tmp_path, "small")
    with pytest.raises(UnknownRecipeError, match=r"'smal' .*use one of: small; did you mean 'sm"):
        RecipeBook.load([tmp_path]).get("smal")


def test_a_missing_folder_is_refused_with_the_setting_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.*MILLSTREAM_RECIPES_DIR"):
        RecipeBook.load([tmp_path / "nowhere"])


def test_new_changed_and_deleted_files_count_at_the_next_look_up(tmp_path: Path) -> None:
    book = RecipeBook.load([tmp_path])
    assert book.names() == ()
    path = write(tmp_path, "small")
    first = book.pin("small")
    write(tmp_path, "small", TEXT.replace('"Small"', '"Other"'))
    assert book.get("small").title == "Other"
    assert book.pin("small").content_hash != first.content_hash
    assert first.recipe.title == "Small"
    path.unlink()
    with pytest.raises(UnknownRecipeError, match=r"there is none"):
        book.get("small")
    tmp_path.rmdir()
    assert book.names() == ()


def test_a_pin_survives_the_way_through_json(tmp_path: Path) -> None:
    write(tmp_path, "small")
    pinned = RecipeBook.load([tmp_path]).pin("small")
    again = type(pinned).model_validate(json.loads(pinned.model_dump_json()))
    assert content_hash(again.recipe) == pinned.content_hash
    assert again == pinned
    assert hash(again) == hash(pinned)


def test_the_order_of_fields_is_part_of_the_content(tmp_path: Path) -> None:
    write(tmp_path, "small")
    recipe = RecipeBook.load([tmp_path]).get("small")
    turned = dict(reversed(recipe.output["properties"].items()))
    other = recipe.model_copy(update={"output": {**recipe.output, "properties": turned}})
    assert content_hash(other) != content_hash(recipe)


def test_a_broken_file_leaves_the_others_alone_and_says_what_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, "good")
    bad = write(tmp_path, "bad", "title = ")
    book = RecipeBook.load([tmp_path])
    assert book.names() == ("good",)
    assert list(book.broken) == [str(bad)]
    with pytest.raises(BrokenRecipeError, match=r"bad\.toml: .*not valid TOML"):
        book.get("bad")
    write(tmp_path, "bad")
    assert book.get("bad").name == "bad"
    assert dict(book.broken) == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "Small"', "", r"title: is missing; add it"),
        ('title = "Small"', 'name = "other"\ntitle = "x"', r"name = 'other': .*both the same name"),
        ('title = "Small"', 'titel = "x"', r"titel = 'x': no such field; did you mean 'title'"),
        ('area = "A"', 'area = "A"\nwieght = 2', r"topics\[0\]\.wieght = 2: .*mean 'weight'"),
        ('area = "A"', 'area = "A"\nweight = -1', r"topics\[0\]\.weight = -1: .*greater than 0"),
        ('area = "A"', 'area = "A"\nweight = nan', r"topics\[0\]\.weight = nan: "),
        ('id = "easy"', 'id = "e"\n[[difficulties]]\nid = "e"', r"difficulties: 'e' stands twice"),
        ("{{ topic }}", "{{ topik }}", r"prompt = 'topik': .*not a variable; use one of: topic"),
        ("{{ topic }}", "{{ topic", r"prompt: line 1 of the template is not valid Jinja"),
        ("{{ topic }}", "{% include 'x' %}", r"prompt: a template can't include"),
        ("{{ topic }}", "{{ topic.__class__.mro() }}", r"prompt: the template can't be rendered"),
        ("{{ topic }}", "{{ topic | nofilter }}", r"prompt: .*nofilter"),
        ("{{ topic }}", "{{ 1 // 0 }}", r"prompt: the template can't be rendered"),
        ('"as usual"', '"(as"', r"refuse_patterns\[0\] = '\(as': .*escape it"),
        ('"as usual"', '"x*"', r"refuse_patterns\[0\] = 'x\*': matches the empty text"),
        ('"text"\nref', '"words"\nref', r"text_field = 'words': must be a required string"),
        ("additionalProperties = false", "", r"output\.additionalProperties: only the named"),
        ('type = "object"', 'type = "array"', r"output\.type = 'array': a sample is one object"),
        ('type = "object"', 'type = "objekt"', r"output\.type: is not a valid JSON Schema"),
        ("maxLength = 50", "maxlength = 50", r"text\.maxlength = 50: .*did you mean 'maxLength'"),
        (", maxLength = 50", "", r"text\.maxLength: every string needs a maxLength"),
        ("maxLength = 50", "maxLength = 0", r"text\.maxLength = 0: every string needs"),
        ("maxLength = 50", "maxLength = 5, minLength = 6", r"text\.minLength = 6: is above"),
        (", maximum = 9", "", r"words: a number needs minimum and maximum"),
        ('type = "integer"', 'type = "array"', r"words\.type = 'array': .*single plain value"),
        ('required = ["text"]', 'required = ["txt"]', r"output\.required = 'txt': .*mean 'text'"),
        ("maxLength = 20", "maxLength = 2", r"topic = .*own topic 'one'"),
        ("min_p = 0.1", 'api_base = "http://x"', r"sampling\.extra\.api_base = 'http://x': "),
        ("min_p = 0.1", "max_tokens = 1", r"sampling\.extra\.max_tokens = 1: "),
        (
            "[sampling.extra]",
            '[fixed]\nx = "topic"\n[sampling.extra]',
            r"fixed\.x = 'topic': no fi",
        ),
        ("[sampling.extra]", '[fixed]\ntopic = "y"\n[sampling.extra]', r"fixed\.topic = 'y': no v"),
        (
            "[sampling.extra]",
            '[[examples]]\nprompt = "p"\nanswer = { text = 1 }\n[sampling.extra]',
            r"examples\[0\]\.answer\.text: does not obey output: 1 is not of type 'string'",
        ),
    ],
)
def test_a_mistake_is_named_with_file_field_value_and_remedy(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in TEXT
    write(tmp_path, "small", TEXT.replace(old, new, 1))
    with pytest.raises(BrokenRecipeError, match=rf"small\.toml: (output\.properties\.)?{words}"):
        RecipeBook.load([tmp_path]).get("small")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"title = '\xff'", "not UTF-8"),
        (b"", "is missing"),
        (b"#" * (2**20 + 1), "larger than"),
        (b"x = " + b"[" * 5000, "not valid TOML"),
        (b"title = 2026-01-01\n", "title = .*valid string"),
        (b"\x00", "not valid TOML"),
    ],
)
def test_no_content_of_a_file_can_take_the_book_down(
    tmp_path: Path, content: bytes, words: str
) -> None:
    write(tmp_path, "good")
    (tmp_path / "bad.toml").write_bytes(content)
    (tmp_path / "folder.toml").mkdir()
    book = RecipeBook.load([tmp_path])
    assert book.names() == ("good",)
    with pytest.raises(BrokenRecipeError, match=words):
        book.get("bad")
    with pytest.raises(BrokenRecipeError, match="can't be read"):
        book.get("folder")


def test_too_many_cells_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "small")
    recipe = RecipeBook.load([tmp_path]).get("small")
    document = recipe.model_dump()
    document["topics"] = [{"area": "A", "topic": str(index)} for index in range(20_001)]
    with pytest.raises(ValueError, match="20001 cells; at most 20000"):
        Recipe.model_validate(document)
    check_recipe(recipe)


def test_the_documentation_names_every_variable_and_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    missing = [
        name for name in (*TEMPLATE_VARIABLES, *Recipe.model_fields) if f"`{name}`" not in text
    ]
    assert missing == []


def test_the_recipe_in_the_documentation_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    write(tmp_path, "riddles", text.split("```toml\n")[1].split("```")[0])
    assert RecipeBook.load([tmp_path]).get("riddles").title == "Riddles"
