"""What is made once per recipe and kept as long as the recipe itself."""

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from millstream_schemas.recipes import PinnedRecipe

Made = TypeVar("Made")


class PerRecipe(Generic[Made]):
    """Calls ``make`` once per pinned recipe; its result must not hold the recipe itself.

    The object counts, not its content: to compare two recipes costs more than all that is saved.
    A batch keeps its recipe, so what was made is forgotten with the batch.
    """

    def __init__(self, make: Callable[[PinnedRecipe], Made]) -> None:
        self._make = make
        self._made: dict[int, Made] = {}

    def __call__(self, pinned: PinnedRecipe) -> Made:
        """Return what belongs to ``pinned``."""
        known = self._made.get(id(pinned))
        if known is not None:
            return known
        made = self._made[id(pinned)] = self._make(pinned)
        weakref.finalize(pinned, self._made.pop, id(pinned), None).atexit = False
        return made
