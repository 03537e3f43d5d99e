"""The texts of files that are the same in nearly every recipe."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

import yaml

DATASET_INIT = '''\
"""The corpus: how its data are made and how they are read."""

from .builder import CorpusBuilder as DatasetBuilder
from .dataset import CorpusDataset as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
'''
"""``dataset/__init__.py`` of a recipe with the classes of `builder_file` and `kaldi_dataset`."""


def create_dataset_config(about: str, sets: Mapping[str, Sequence[str]]) -> str:
    """``conf/training.yaml`` with what the ``create_dataset`` stage needs.

    Args:
        about: stands at its top, as a comment.
        sets: under ``train``, ``valid`` and ``test`` the names of data sets, each of which is the
            ``split`` of the recipe's own ``Dataset``.
    """
    lines = textwrap.wrap(about, 90, initial_indent="# ", subsequent_indent="# ")
    entries = {
        role: [{"name": name, "data_src_args": {"split": name}} for name in names]
        for role, names in sets.items()
    }
    lines.append(yaml.safe_dump({"dataset": entries}, sort_keys=False, allow_unicode=True).strip())
    return "\n".join([*lines, "create_dataset:", "  recipe_dir: ${recipe_dir}", ""])


def python_string(text: str) -> str:
    """A text as a literal in double quotes, on one line."""
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file that is no UTF-8
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)
