"""``conf/inference.yaml`` and ``conf/metrics.yaml`` as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from espnet3.migrate.run.weights import MISSING
from espnet3.parallel.wording import printable

Lines = Mapping[str, tuple[Any, str]]
"""Keys with their values and a comment each."""


def inference_text(
    about: str,
    exp_tag: tuple[str, str],
    test_sets: Sequence[tuple[str, str]],
    model: Lines,
    fields: Lines,
    parallel: Lines,
) -> str:
    """The inference config.

    Args:
        about: stands at its top.
        exp_tag: the tag, and where it comes from.
        test_sets: their names, each with a comment.
        model: the model block.
        fields: what goes into the model and comes out.
        parallel: the parallel block.
    """
    lines = [f"# {printable(about)}", "recipe_dir: ."]
    lines += _entry("", "exp_tag", *exp_tag)
    lines += ["", "dataset:", "  recipe_dir: ${recipe_dir}", "  test:"]
    for name, why in test_sets:
        lines += _entry("    - ", "name", name, why)
        lines += _entry("      ", "data_src_args", {"split": name}, "")
    lines += ["", "model:"]
    for key, (value, why) in model.items():
        lines += _entry("  ", key, value, why)
    lines.append("")
    for key, (value, why) in fields.items():
        lines += _entry("", key, value, why)
    lines += ["", "parallel:"]
    for key, (value, why) in parallel.items():
        lines += _entry("  ", key, value, why)
    return "\n".join(lines) + "\n"


def metrics_text(about: str, note: str) -> str:
    """The metrics config, with WER and CER.

    Args:
        about: stands at its top.
        note: behind ``clean_types``, of which there are none.
    """
    lines = [f"# {printable(about)}", "recipe_dir: .", "", "metrics:"]
    for module, name in (("wer", "WER"), ("cer", "CER")):
        lines += [
            "  - metric:",
            f"      _target_: espnet3.components.metrics.{module}.{name}",
            f"      clean_types:{f'  # {printable(note)}' if note else ''}",
            "    inputs:",
            "      ref: dataset:text",
            "      hyp: text",
        ]
    return "\n".join(lines) + "\n"


def _entry(indent: str, key: str, value: Any, why: str) -> Iterable[str]:
    rest = " " * len(indent)
    comment = f"  # {printable(why)}" if why else ""
    if value == MISSING:
        return [f"{indent}{key}: ???{comment}"]
    flow = isinstance(value, dict) and list(value) == ["split"]
    text = yaml.safe_dump(
        {key: value}, sort_keys=False, width=10_000, allow_unicode=True,
        default_flow_style=None if flow or isinstance(value, list) else False,
    ).rstrip("\n")  # fmt: skip
    first, *more = text.split("\n")
    return [f"{indent}{first}{comment}", *(rest + line for line in more)]
