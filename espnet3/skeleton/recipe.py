"""The texts of files that are the same in nearly every recipe."""

from __future__ import annotations

import json
import textwrap

RUN_PY = '''\
"""Run the stages of this recipe."""

from espnet3.systems.base.system import BaseSystem
from espnet3.systems.launch import launch

if __name__ == "__main__":
    launch(BaseSystem)
'''


def dataset_init(builder: str = "CorpusBuilder", dataset: str = "CorpusDataset") -> str:
    """``dataset/__init__.py``.

    Args:
        builder: the class of ``dataset/builder.py``.
        dataset: that of ``dataset/dataset.py``.
    """
    return f'''\
"""The corpus: how its data are made and how they are read."""

from .builder import {builder} as DatasetBuilder
from .dataset import {dataset} as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
'''


def create_dataset_config(about: str) -> str:
    """``conf/training.yaml`` with what the ``create_dataset`` stage needs.

    Args:
        about: stands at its top, as a comment.
    """
    comment = textwrap.fill(about, 90, initial_indent="# ", subsequent_indent="# ")
    return f"{comment}\ncreate_dataset:\n  recipe_dir: ${{recipe_dir}}\n"


def python_string(text: str) -> str:
    """A text as a literal in double quotes, on one line."""
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file that is no UTF-8
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)
