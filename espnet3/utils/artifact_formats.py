"""The ``output_artifacts`` block: how the values of a field become files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet3.errors import ConfigError
from espnet3.utils.extras import why_missing

SUFFIXES = {
    "npy": ".npy", "json": ".json", "wav": ".wav", "flac": ".flac", "text": ".txt",
    "pickle": ".pkl",
}  # fmt: skip
# Floating-point WAV is left out on purpose: libsndfile stamps it with the time of writing, and two
# runs would never give the same bytes. `npy` keeps floats exactly.
TYPES = (*SUFFIXES, "ark")
SUBTYPES = {"wav": ("PCM_16", "PCM_24", "PCM_32"), "flac": ("PCM_16", "PCM_24")}

_OPTIONS = {
    "wav": ("sample_rate", "subtype"), "flac": ("sample_rate", "subtype"),
    "ark": ("sample_rate", "audio"),
}  # fmt: skip


@dataclass(frozen=True)
class ArtifactFormat:
    """How the values of one field become files.

    Attributes:
        type: One of `TYPES`; None to go by the value.
        writer: Dotted name of a function that writes the file itself, in place of a type.
        options: `sample_rate` and `subtype` of audio (in an ark `sample_rate` and `audio`, its
            format), or keyword arguments of `writer`.
    """

    type: str | None = None
    writer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_text(self) -> bool:
        """Whether a `str` goes to a file too, instead of into the line."""
        return self.type in ("text", "ark") or self.writer is not None


def parse_format(block: Any, where: str) -> ArtifactFormat:
    """Read one entry of ``output_artifacts``.

    Args:
        block: ``{type: wav, sample_rate: 16000}``, ``{writer: {_target_: a.b.function, ...}}``, or
            None.
        where: Its key, for the message.

    Raises:
        ConfigError: Unknown type or option, or no ``sample_rate`` for audio.
    """
    if block is not None and not isinstance(block, Mapping):
        raise ConfigError(f"{where}: must be a block such as {{type: npy}}, not {block!r}")
    options = dict(block or {})
    kind, writer = options.pop("type", None), options.pop("writer", None)
    if writer is not None:
        return _custom_format(writer, kind, options, where)
    if kind is not None and kind not in TYPES:
        near = difflib.get_close_matches(str(kind), TYPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(TYPES)}"
        raise ConfigError(f"{where}.type: {kind!r} is no type; {hint}")
    _check_options(kind, options, where)
    return ArtifactFormat(kind, None, options)


def _custom_format(writer: Any, kind: Any, options: dict[str, Any], where: str) -> ArtifactFormat:
    if kind is not None:
        raise ConfigError(f"{where}: has a type and a writer; keep one of them")
    if not isinstance(writer, Mapping) or not isinstance(writer.get("_target_"), str):
        raise ConfigError(
            f"{where}.writer: must be a block whose _target_ names a function, not {writer!r}"
        )
    arguments = {key: value for key, value in writer.items() if key != "_target_"}
    return ArtifactFormat(None, str(writer["_target_"]), {**options, **arguments})


def _check_options(kind: str | None, options: Mapping[str, Any], where: str) -> None:
    known = _OPTIONS.get(kind or "", ())
    for key in options:
        if key not in known:
            hint = (
                f"{kind} has {', '.join(known)}"
                if known
                else f"{kind or 'without type, it'} has none"
            )
            raise ConfigError(f"{where}: unknown option {key!r}; {hint}")
    if kind == "ark":
        _check_ark(options, where)
    if kind not in SUBTYPES and "sample_rate" not in options:
        return
    rate = options.get("sample_rate")
    if type(rate) is not int or rate < 1:
        raise ConfigError(
            f"{where}: {kind} needs sample_rate, the samples per second as an integer, not {rate!r}"
        )
    if kind in SUBTYPES and options.get("subtype", "PCM_16") not in SUBTYPES[kind]:
        raise ConfigError(f"{where}.subtype: {kind} is written as {', '.join(SUBTYPES[kind])}")


def _check_ark(options: Mapping[str, Any], where: str) -> None:
    missing = why_missing("kaldiio")
    if missing:
        raise ConfigError(f"{where}: type ark {missing}")
    if options.get("audio", "flac") not in ("flac", "wav"):
        raise ConfigError(f"{where}.audio: in an ark, audio is flac or wav")
    if "audio" in options and "sample_rate" not in options:
        raise ConfigError(f"{where}: audio: {options['audio']} needs sample_rate too")
