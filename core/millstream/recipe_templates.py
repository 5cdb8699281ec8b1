"""The Jinja side of a recipe: the sandbox, the variables a template may use, and rendering."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from millstream.errors import UsageError
from millstream_schemas.recipes import Cell, Difficulty, Recipe, SampleType, Topic

TEMPLATE_VARIABLES: Mapping[str, str] = {
    "topic": "the cell's topic",
    "area": "the area that the topic belongs to",
    "note": "what the recipe says about the topic",
    "source": "what the recipe names as a source on the topic",
    "difficulty": "id of the cell's difficulty",
    "difficulty_description": "the recipe's words for that difficulty",
    "sample_type": "id of the cell's sample type",
    "sample_type_name": "its name",
    "sample_type_description": "its description",
    "focus": "what a sample of this type concentrates on",
    "example": "the recipe's example for this type",
    "instruction": "what the user typed at the start of the batch, or an empty text",
    "seed": "a number that differs for every attempt of every slot",
    "attempt": "1 for the first attempt of the slot",
    "feedback": "why the attempt before was refused, or an empty text",
}
"""Every variable of a template, with what it holds; docs/recipes.md shows this table."""

PROMPT_CHARACTERS_MAX = 200_000

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    autoescape=False,  # A prompt is plain text, never HTML.
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
)


class TemplateProblemError(UsageError, ValueError):
    """A recipe's template does not compile, names an unknown variable, or failed to render."""


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """The compiled templates of one recipe, which variables they use, and the axes by name."""

    system: Template | None
    prompt: Template
    variables: frozenset[str]
    topics: Mapping[tuple[str, str], Topic]
    difficulties: Mapping[str, Difficulty]
    sample_types: Mapping[str, SampleType]

    def values(
        self, cell: Cell, *, instruction: str | None, seed: int, attempt: int, feedback: str
    ) -> dict[str, Any]:
        """Return the variables of one prompt: exactly the keys of ``TEMPLATE_VARIABLES``.

        Raises:
            LookupError: the cell is not one of the recipe's.
        """
        topic = self.topics.get((cell.area, cell.topic))
        level = self.difficulties.get(cell.difficulty)
        kind = self.sample_types.get(cell.sample_type)
        if topic is None or level is None or kind is None:
            raise LookupError(f"{cell!r} is not a cell of the recipe")
        return {
            "topic": topic.topic,
            "area": topic.area,
            "note": topic.note,
            "source": topic.source,
            "difficulty": level.id,
            "difficulty_description": level.description,
            "sample_type": kind.id,
            "sample_type_name": kind.name,
            "sample_type_description": kind.description,
            "focus": kind.focus,
            "example": kind.example,
            "instruction": instruction or "",
            "seed": seed,
            "attempt": attempt,
            "feedback": feedback,
        }


def compile_templates(recipe: Recipe) -> PromptTemplates:
    """Return the compiled templates of ``recipe``.

    Raises:
        TemplateProblemError: one does not compile, uses a variable that is not documented, or
            refers to another template.
    """
    used = _variables("system", recipe.system) | _variables("prompt", recipe.prompt)
    return PromptTemplates(
        system=_compiled(recipe.system) if recipe.system.strip() else None,
        prompt=_compiled(recipe.prompt),
        variables=used,
        topics={(topic.area, topic.topic): topic for topic in recipe.topics},
        difficulties={item.id: item for item in recipe.difficulties},
        sample_types={item.id: item for item in recipe.sample_types},
    )


def _compiled(source: str) -> Template:
    template = _ENVIRONMENT.from_string(source)
    # Each rendering copies the globals: out of a plain dict that takes a tenth of the time.
    template.globals = dict(template.globals)
    return template


def render_template(template: Template, values: Mapping[str, Any], field: str) -> str:
    """Return the rendered text without surrounding blank lines.

    Raises:
        TemplateProblemError: rendering failed or gave more than ``PROMPT_CHARACTERS_MAX``.
    """
    try:
        text = template.render(values).strip()
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise TemplateProblemError(
            f"the template can't be rendered: {error}; correct it", field=field
        ) from error
    if len(text) > PROMPT_CHARACTERS_MAX:
        raise TemplateProblemError(
            f"the rendered text has {len(text)} characters; at most {PROMPT_CHARACTERS_MAX}",
            field=field,
        )
    return text


def _variables(field: str, source: str) -> frozenset[str]:
    try:
        tree = _ENVIRONMENT.parse(source)
        # Compiling finds what parsing lets pass, an unknown filter for one.
        _ENVIRONMENT.compile(tree)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f"line {line} of the template" if line else "the template"
        raise TemplateProblemError(
            f"{where} is not valid Jinja: {error}; correct it", field=field
        ) from error
    tree = _ENVIRONMENT.parse(source)
    if next(meta.find_referenced_templates(tree), None) is not None:
        raise TemplateProblemError(
            "a template can't include, import or extend another; write the text here", field=field
        )
    used = frozenset(meta.find_undeclared_variables(tree))
    if unknown := sorted(used - TEMPLATE_VARIABLES.keys()):
        raise TemplateProblemError(
            f"the template uses {unknown[0]!r}, which is not a variable;"
            f" use one of: {', '.join(TEMPLATE_VARIABLES)}",
            field=field,
            value=unknown[0],
        )
    return used
