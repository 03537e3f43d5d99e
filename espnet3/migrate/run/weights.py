"""The files that training makes: the task script puts their paths together, so they are marked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from espnet3.migrate.findings import Fate, Finding
from espnet3.migrate.run.options import Options

if TYPE_CHECKING:
    from espnet3.migrate.run.model_block import ModelBlock

MISSING = "???"
_FILES = re.compile(r".*(train_config|model_file|lm_file|ngram_file|decoding_graph)")
# Per kind of language model, the options that must be true for it, and those that must not.
_IF = (
    (r"lm_(train_config|file)", "use_lm", "use_word_lm", "inference_lm"),
    (r"ngram_file", "use_ngram", "", "inference_ngram"),
    (r"src_lm_(train_config|file)", "use_src_lm", "use_src_word_lm", ""),
    (r"src_ngram_file", "use_src_ngram", "", ""),
)


def add_weights(
    script: str, weights: str, options: Options, arguments: list[str], block: ModelBlock, file: str
) -> None:
    """Mark the arguments that are such files, and tell the options that name them.

    Args:
        script: the task script.
        weights: its option that names the file of the model's weights; "" if it has none.
        options: what it goes by.
        arguments: those of the model's class.
        block: gets the marks and findings.
        file: the config that the block stands in, for the report.
    """
    for name in filter(_FILES.fullmatch, arguments):
        option_name = weights
        for pattern, wanted, unwanted, its_file in _IF:
            # The first argument is the model itself, a language model for lm.sh.
            if re.fullmatch(pattern, name) and name not in arguments[:2]:
                option_name = its_file
                if not options.is_true(wanted) or options.is_true(unwanted):
                    break
        else:
            _mark(script, name, option_name, options, block, file)
    _switches(arguments, options, block, file)
    tag = options.get("download_model")
    if tag is not None and tag.value:
        block.decided.add(tag.name)
        why = "a model of the zoo is downloaded by espnet_model_zoo, by hand or in your own class"
        ask = f"the paths of {tag.value}, under model: of {file}"
        block.findings.append(Finding(tag.written, tag.place, Fate.UNMAPPED, why, ask, (file,)))


def _mark(
    script: str, name: str, option_name: str, options: Options, block: ModelBlock, file: str
) -> None:
    why = f"DECIDE: the path; {script} makes it of its experiment's directory"
    option = options.get(option_name)
    if not name.endswith("train_config") and option is not None and option.value:
        why += f" and {option.value} ({option.place})"
        block.decided.add(option.name)
        if not option.is_default:
            ask = f"the path of it, in {file}"
            went = f"model.{name}"
            finding = Finding(option.written, option.place, Fate.MAPPED, went, ask, (file,))
            block.findings.append(finding)
    block.lines[name] = (MISSING, why)


def _switches(arguments: list[str], options: Options, block: ModelBlock, file: str) -> None:
    """`--use_lm` and its like, as far as the run script says them."""
    for pattern, wanted, unwanted, _ in _IF:
        mine = [name for name in arguments[2:] if re.fullmatch(pattern, name)]
        option = options.get(wanted)
        if not mine or option is None or option.value is None or option.is_default:
            continue
        block.decided.add(wanted)
        fate, ask, there = Fate.MAPPED, "", mine[-1] in block.lines
        went = f"model.{mine[-1]} is there" if there else f"no model.{mine[-1]}"
        if options.is_true(wanted) and not there:
            fate, ask = Fate.UNMAPPED, "which language model is meant"
            went = f"{unwanted}: espnet2.bin refuses to decode with a language model of words"
        block.findings.append(Finding(option.written, option.place, fate, went, ask, (file,)))
