"""A recipe says how a sample is made: prompt, output schema, axes and limits."""

from collections import Counter
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from millstream_schemas.envelope import Contract

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Words = Annotated[str, StringConstraints(max_length=2000)]

CELLS_MAX = 20_000
"""Most cells a recipe may span: a plan holds one count for each."""


class Topic(Contract):
    """One topic of a recipe; a start form names it ``"<area> - <topic>"``.

    ``note`` and ``source`` tell the model what it may rely on: small models invent less then.
    """

    area: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    topic: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    note: Words = ""
    source: Words = ""
    weight: Weight = 1.0

    @property
    def label(self) -> str:
        """The name under which users choose the topic."""
        return f"{self.area} - {self.topic}"


class Difficulty(Contract):
    """One level of difficulty with the words that explain it to the model."""

    id: Name
    description: Words = ""
    weight: Weight = 1.0


class SampleType(Contract):
    """One kind of sample, with what the model is told about it."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    description: Words = ""
    focus: Words = ""
    example: Words = ""
    weight: Weight = 1.0


class Sampling(Contract):
    """Decoding parameters passed to the model.

    ``extra`` holds what is not part of every provider's API (``min_p``, ``repeat_penalty``):
    it may go only to endpoints that take it, others answer 400.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    extra: dict[str, float | int | str | bool] = {}


class Example(Contract):
    """A request and the answer that the model should have given: shown to it before the real one.

    ``answer`` holds the fields of ``output`` that the model writes.
    """

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    answer: dict[str, Any]


class Recipe(Contract):
    """How one sample is made; docs/recipes.md tells every field.

    ``system`` and ``prompt`` are Jinja templates rendered in a sandbox with ``topic``, ``area``,
    ``note``, ``source``, ``difficulty``, ``difficulty_description``, ``sample_type``,
    ``sample_type_name``, ``sample_type_description``, ``focus``, ``example``, ``instruction``,
    ``seed``, ``attempt`` and ``feedback`` (why the attempt before was refused).
    ``output`` is a JSON Schema of one flat object whose strings all carry ``maxLength``: the
    worst case of the schema bounds the tokens that an answer may take.
    """

    name: Name
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    description: Words = ""
    version: Annotated[int, Field(ge=1)] = 1
    system: Annotated[str, StringConstraints(max_length=50_000)] = ""
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=50_000)]
    output: dict[str, Any]
    fixed: dict[str, str] = Field(
        {}, description="Output field -> variable that it always holds; the model isn't asked."
    )
    examples: Annotated[tuple[Example, ...], Field(max_length=8)] = ()
    text_field: str = Field(description="The field whose text is compared to find duplicates.")
    topics: Annotated[tuple[Topic, ...], Field(min_length=1)]
    difficulties: Annotated[tuple[Difficulty, ...], Field(min_length=1)]
    sample_types: Annotated[tuple[SampleType, ...], Field(min_length=1)]
    sampling: Sampling = Sampling()
    structured: bool = Field(True, description="Ask the provider to enforce the output schema.")
    refuse_patterns: Annotated[tuple[Words, ...], Field(max_length=200)] = ()
    licence: Words = ""

    @model_validator(mode="after")
    def _axes_are_sound(self) -> Self:
        for field, names in (
            ("topics", [topic.label for topic in self.topics]),
            ("difficulties", [item.id for item in self.difficulties]),
            ("sample_types", [item.id for item in self.sample_types]),
        ):
            twice = next((name for name, count in Counter(names).items() if count > 1), None)
            if twice is not None:
                raise ValueError(f"{field}: {twice!r} stands twice; name each one once")
        cells = len(self.topics) * len(self.difficulties) * len(self.sample_types)
        if cells > CELLS_MAX:
            raise ValueError(
                f"topics x difficulties x sample_types are {cells} cells; at most {CELLS_MAX}"
            )
        return self


class PinnedRecipe(Contract):
    """A recipe as a batch uses it: its whole content, so that a deleted file changes nothing."""

    content_hash: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    recipe: Recipe

    def __hash__(self) -> int:
        # The content holds dicts, which have no hash; equality still compares all of it.
        return hash(self.content_hash)


class Cell(Contract):
    """The place of a slot on the recipe's axes."""

    area: str
    topic: str
    difficulty: str
    sample_type: str
