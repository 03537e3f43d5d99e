"""How a recipe makes its data: the four questions and answers of the ``create_dataset`` stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class DatasetBuilder(ABC):
    """Base of a recipe's ``DatasetBuilder``, exported by its ``dataset/__init__.py``.

    The ``create_dataset`` stage calls the four methods in this order, each with the keys of
    ``create_dataset:`` in the training config (``recipe_dir`` among them)::

        if not builder.is_source_prepared(**kwargs):
            builder.prepare_source(**kwargs)
        if not builder.is_built(**kwargs):
            builder.build(**kwargs)

    The two questions look at files and are quick. They must not be true of half-finished output:
    write under a temporary name and rename, or write a `BuildRecord` last. What is called inside
    runs where ``parallel:`` of the training config says, if it is a runner, and goes on where an
    interrupted stage left it. Runs of runners have one owner each; beside that nothing here locks:
    two stages that build the same data at the same time are the recipe's affair.
    """

    @abstractmethod
    def is_source_prepared(self, **kwargs: Any) -> bool:
        """Tell whether the raw corpus is complete and ready for `build`."""

    @abstractmethod
    def prepare_source(self, **kwargs: Any) -> None:
        """Download, copy or unpack the raw corpus; `is_source_prepared` is true afterwards."""

    @abstractmethod
    def is_built(self, **kwargs: Any) -> bool:
        """Tell whether what the recipe's ``Dataset`` reads is complete."""

    @abstractmethod
    def build(self, **kwargs: Any) -> None:
        """Make from the raw corpus what ``Dataset`` reads; `is_built` is true afterwards."""
