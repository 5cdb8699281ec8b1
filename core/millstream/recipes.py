"""The recipe book: recipe files in folders, read again when they change."""

import hashlib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from millstream.errors import SettingsError, UsageError
from millstream.recipe_checks import canonical_json, check_recipe
from millstream.recipe_output import RecipeProblemError
from millstream.wording import one_of, suggestion
from millstream_schemas.recipes import (
    Difficulty,
    Example,
    PinnedRecipe,
    Recipe,
    SampleType,
    Sampling,
    Topic,
)

FILE_BYTES_MAX = 1024 * 1024

_TABLES: Mapping[str, type[BaseModel]] = {
    "topics": Topic,
    "difficulties": Difficulty,
    "sample_types": SampleType,
    "examples": Example,
    "sampling": Sampling,
}

_Signature = tuple[int, int, int]


class UnknownRecipeError(UsageError, LookupError):
    """No recipe of that name; the message lists the names there are."""


class BrokenRecipeError(UsageError):
    """The recipe's file can't be used; the message names file, field, value and remedy."""


@dataclass(frozen=True, slots=True)
class _File:
    signature: _Signature
    pinned: PinnedRecipe | None
    problem: str = ""


def builtin_recipes_dir() -> Path:
    """Return the folder of the recipes that come with Millstream.

    An installed wheel holds it inside the package, a checkout at its top.

    Raises:
        SettingsError: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    places = (package / "recipe_files", package.parents[1] / "recipes")
    for place in places:
        if place.is_dir():
            return place
    raise SettingsError(
        f"the built-in recipes are missing: neither {places[0]} nor {places[1]} exists;"
        " install Millstream again or set MILLSTREAM_RECIPES_DIR"
    )


def recipe_directories(recipes_dir: Path | None) -> tuple[Path, ...]:
    """Return where recipes are looked for: the user's folder first, then the built-in one."""
    built_in = builtin_recipes_dir()
    return (built_in,) if recipes_dir is None else (recipes_dir, built_in)


def content_hash(recipe: Recipe) -> str:
    """Return ``sha256:<hex>`` of the recipe's canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(recipe)).hexdigest()


def pin(recipe: Recipe) -> PinnedRecipe:
    """Return ``recipe`` with its content hash, as a batch keeps it."""
    return PinnedRecipe(content_hash=content_hash(recipe), recipe=recipe)


def read_recipe(path: Path) -> Recipe:
    """Return the checked recipe of one TOML file.

    Raises:
        BrokenRecipeError: it can't be read or used; the message names file, field, value, remedy.
    """
    try:
        recipe = _parse(path)
        if recipe.name != path.stem:
            raise RecipeProblemError(
                f"the file is called {path.name}; give both the same name",
                field="name",
                value=recipe.name,
            )
        check_recipe(recipe)
    except UsageError as error:
        value = "" if error.value is None else f" = {_short(error.value)}"
        what = f"{error.field}{value}: {error}" if error.field else str(error)
        raise BrokenRecipeError(
            f"recipe file {path}: {what}", field=error.field, value=error.value
        ) from error
    return recipe


class RecipeBook:
    """All recipes of some folders; of two files with one name the earlier folder's counts.

    Every look-up compares the files' size and time of change, and reads again what differs: a new
    recipe needs no restart. A broken file takes nothing else down: it stands in ``broken``.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = tuple(Path(directory) for directory in directories)
        self._files: dict[Path, _File] = {}

    @classmethod
    def load(cls, directories: Iterable[Path]) -> Self:
        """Return the book of these folders, read now.

        Raises:
            SettingsError: one of them is not a folder that can be read.
        """
        book = cls(directories)
        for directory in book._directories:
            try:
                os.scandir(directory).close()
            except OSError as error:
                raise SettingsError(
                    f"recipe folder {directory} can't be read ({error.strerror});"
                    " create it, or correct or unset MILLSTREAM_RECIPES_DIR"
                ) from error
        book._refresh()
        return book

    @property
    def broken(self) -> Mapping[str, str]:
        """File -> what is wrong with it, as of now."""
        self._refresh()
        return MappingProxyType(
            {str(path): file.problem for path, file in self._files.items() if file.problem}
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of all usable recipes, sorted."""
        return tuple(name for name, file in sorted(self._named().items()) if file.pinned)

    def get(self, name: str) -> Recipe:
        """Return the recipe called ``name``.

        Raises:
            UnknownRecipeError: there is none; the message lists those there are.
            BrokenRecipeError: its file can't be used; the message says why.
        """
        return self.pin(name).recipe

    def pin(self, name: str) -> PinnedRecipe:
        """Return the recipe with its content hash, as a batch keeps it.

        Raises:
            UnknownRecipeError: there is none; the message lists those there are.
            BrokenRecipeError: its file can't be used; the message says why.
        """
        named = self._named()
        file = named.get(name)
        if file is None:
            usable = sorted(key for key, item in named.items() if item.pinned)
            raise UnknownRecipeError(
                f"recipe {_short(name)} does not exist; {one_of(name, usable)}",
                field="recipe",
                value=name,
            )
        if file.pinned is None:
            raise BrokenRecipeError(file.problem, field="recipe", value=name)
        return file.pinned

    def _named(self) -> dict[str, _File]:
        self._refresh()
        named: dict[str, _File] = {}
        for path, file in self._files.items():
            named.setdefault(path.stem, file)
        return named

    def _refresh(self) -> None:
        """Bring the book up to date; files that did not change are not read."""
        files: dict[Path, _File] = {}
        for directory in self._directories:
            for path, signature in _recipe_files(directory):
                known = self._files.get(path)
                unchanged = known is not None and known.signature == signature
                files[path] = known if known and unchanged else _read(path, signature)
        self._files = files


def _recipe_files(directory: Path) -> list[tuple[Path, _Signature]]:
    """Return the recipe files of a folder by name; a folder that is gone has none."""
    found: list[tuple[Path, _Signature]] = []
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return found
    for path in paths:
        if path.suffix != ".toml" or path.name.startswith("."):
            continue
        try:
            state = path.stat()
        except FileNotFoundError:
            continue  # Deleted between the listing and the look at it.
        except OSError:
            found.append((path, (0, 0, 0)))
        else:
            found.append((path, (state.st_mtime_ns, state.st_size, state.st_ino)))
    return found


def _read(path: Path, signature: _Signature) -> _File:
    try:
        return _File(signature, pin(read_recipe(path)))
    except BrokenRecipeError as error:
        return _File(signature, None, str(error))


def _parse(path: Path) -> Recipe:
    document = _document(path)
    document.setdefault("name", path.stem)
    _refuse_unknown("", document, Recipe)
    for name, model in _TABLES.items():
        entries = document.get(name)
        for index, entry in enumerate(entries if isinstance(entries, list) else [entries]):
            if isinstance(entry, dict):
                where = f"{name}[{index}]." if isinstance(entries, list) else f"{name}."
                _refuse_unknown(where, entry, model)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise _first_problem(error) from error


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise RecipeProblemError(f"the file is larger than {FILE_BYTES_MAX} bytes; shorten it")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeProblemError(f"the file can't be read: {error.strerror}; mend it") from error
    except UnicodeDecodeError as error:
        raise RecipeProblemError("the file is not UTF-8 text; save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeProblemError(f"the file is not valid TOML: {error}; correct it") from error


def _refuse_unknown(where: str, entries: Mapping[str, Any], model: type[BaseModel]) -> None:
    for name in entries:
        if name not in model.model_fields:
            raise RecipeProblemError(
                f"no such field{suggestion(name, model.model_fields)};"
                " docs/recipes.md tells every field",
                field=where + name,
                value=entries[name],
            )


def _first_problem(error: ValidationError) -> RecipeProblemError:
    """Return the first of pydantic's findings in our words."""
    first = error.errors()[0]
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).lstrip(".")
    if first["type"] == "missing":
        return RecipeProblemError("is missing; add it", field=path)
    if first["type"] == "value_error":
        return RecipeProblemError(first["msg"].removeprefix("Value error, "), field=path)
    return RecipeProblemError(f"{first['msg']}; correct it", field=path, value=first["input"])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
