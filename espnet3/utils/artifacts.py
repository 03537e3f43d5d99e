"""Values that no line of an scp file can hold (arrays, audio, structures), as files of their own.

| type     | suffix | value                                                                        |
|----------|--------|------------------------------------------------------------------------------|
| `npy`    | .npy   | NumPy array or CPU tensor (the default for these)                            |
| `json`   | .json  | dict (its default), arrays and NumPy numbers inside it as lists and numbers  |
| `wav`    | .wav   | audio, (samples,) or (samples, channels); needs `sample_rate`                |
| `flac`   | .flac  | likewise                                                                     |
| `text`   | .txt   | str, line breaks and all                                                     |
| `pickle` | .pkl   | anything that can be pickled; never chosen unasked                           |

The type `ark` packs the values of many utterances into one file; see `espnet3.utils.ark`.

Audio as float has full scale at 1.0. What goes beyond is clipped, with a warning; NaN and infinity
are refused, and so are values beyond 10, which were never scaled to 1.0.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.errors import ConfigError, RecordRejected
from espnet3.utils.artifact_formats import SUBTYPES, SUFFIXES, ArtifactFormat, parse_format

logger = logging.getLogger(__name__)

_UNSCALED = 10.0


def write_artifact(
    value: Any, base_path: str | os.PathLike[str], config: Any = None, where: str | None = None
) -> Path:
    """Write one value to a file.

    Args:
        value: What the module docstring lists.
        base_path: Path without suffix, which is appended: dots in the name stay.
        config: As for `parse_format`, or an `ArtifactFormat`.
        where: What the value is, for messages; the path by default.

    Returns:
        The file's path. A file that was there is replaced in one step (not with a custom writer).
        Not guaranteed: that it is on disk after a power cut; the engine flushes what it commits.

    Raises:
        ConfigError: The config is wrong.
        RecordRejected: The value cannot be written like this.
        OSError: The disk's fault.
    """
    base = Path(base_path)
    where = where or str(base)
    how = config if isinstance(config, ArtifactFormat) else parse_format(config, where)
    base.parent.mkdir(parents=True, exist_ok=True)
    if how.writer is not None:
        return call_writer(value, base, how, where, inside=base.parent)
    if how.type == "ark":
        raise ConfigError(f"{where}: type ark is for many values; use npy, wav or flac for one")
    suffix, data = render_artifact(value, how, where)
    return write_bytes(base.with_name(base.name + suffix), data)


def render_artifact(value: Any, how: ArtifactFormat, where: str) -> tuple[str, bytes]:
    """Return the suffix and the content of the file for a value, writing nothing.

    The content is held in memory beside the value.

    Raises:
        RecordRejected: The value cannot be written like this.
    """
    value = as_array(value, where) if is_tensor(value) else value
    kind = how.type or _type_of(value, where)
    try:
        if kind in SUBTYPES:
            return SUFFIXES[kind], _audio(value, kind, how.options, where)
        return SUFFIXES[kind], _RENDER[kind](value)
    except RecordRejected:
        raise
    except Exception as error:  # a value's own methods run here, and can raise anything
        raise RecordRejected(
            f"{where}: {describe(value)} cannot be written as {kind}: {error}"
        ) from error


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file in one step: absent, the old one, or whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two hosts may write the same file at the same time, with processes of the same number.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def call_writer(value: Any, base: Path, how: ArtifactFormat, where: str, inside: Path) -> Path:
    """Let a user's function write a value.

    It is called as ``function(value=, output_path=, **options)`` with a path without suffix, and
    returns the path of the file that it wrote, below `inside`.

    Raises:
        ConfigError: There is no such function.
        RecordRejected: It failed, or returned something else.
        OSError: As the function raised it.
    """
    from hydra.utils import get_object

    try:
        function = get_object(str(how.writer))
    except Exception as error:  # whatever importing the module raises
        raise ConfigError(f"writer {how.writer}: cannot be imported: {error}") from error
    try:
        path = function(value=value, output_path=base, **how.options)
    except (OSError, RecordRejected):
        raise
    except Exception as error:
        raise RecordRejected(
            f"{where}: writer {how.writer} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(path, (str, os.PathLike)):
        raise RecordRejected(
            f"{where}: writer {how.writer} returned {describe(path)}; it must return the path of "
            "the file that it wrote"
        )
    written = Path(path)
    if not written.is_file():
        raise RecordRejected(f"{where}: writer {how.writer} returned {written}, which is no file")
    if not written.resolve().is_relative_to(inside.resolve()):
        raise RecordRejected(
            f"{where}: writer {how.writer} returned {written}, outside of {inside}; write below "
            "output_path's directory"
        )
    return written


def is_tensor(value: Any) -> bool:
    """Whether a value is an array of torch's kind, found out without importing torch."""
    return all(hasattr(value, name) for name in ("detach", "device", "numpy", "shape"))


def as_array(value: Any, where: str) -> np.ndarray[Any, Any]:
    """Return a CPU tensor as an array.

    Raises:
        RecordRejected: It is on another device (copying it there would hide a cost of every item),
            or NumPy has no such type.
    """
    if str(value.device) != "cpu":
        raise RecordRejected(
            f"{where}: the tensor is on {value.device}; return tensor.cpu() from output_fn or "
            "format_output"
        )
    try:
        array: np.ndarray[Any, Any] = value.detach().numpy()
    except (TypeError, RuntimeError) as error:  # bfloat16 and sparse layouts
        raise RecordRejected(f"{where}: the tensor cannot become a NumPy array: {error}") from error
    return array


def _type_of(value: Any, where: str) -> str:
    if isinstance(value, np.ndarray):
        return "npy"
    if isinstance(value, dict):
        return "json"
    raise RecordRejected(
        f"{where}: {describe(value)} is not stored unless the config says how. Under "
        "output_artifacts, give this field {type: pickle} for a Python pickle, {type: "
        f"{'|'.join(t for t in SUFFIXES if t != 'pickle')}}} after converting it, or "
        "{writer: {_target_: your.function}}"
    )


def _npy(value: Any) -> bytes:
    array = np.asarray(value)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise TypeError("a dict is needed")
    # NaN and Infinity go through as Python writes and reads them: scores of -inf are usual.
    return (json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n").encode()


def _plain(value: Any) -> Any:
    if is_tensor(value):
        value = as_array(value, "inside the dict")
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"it holds {describe(value)}, which JSON has no form for")


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("a str is needed")
    return value.encode()


def _pickle(value: Any) -> bytes:
    import pickle

    return pickle.dumps(value, protocol=4)  # fixed, so that every Python writes the same bytes


_RENDER: dict[str, Callable[[Any], bytes]] = {
    "npy": _npy, "json": _json, "text": _text, "pickle": _pickle,
}  # fmt: skip


def _audio(value: Any, kind: str, options: Mapping[str, Any], where: str) -> bytes:
    import soundfile

    samples = _samples(np.asarray(value), where)
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        samples,
        options["sample_rate"],
        format=kind.upper(),
        subtype=options.get("subtype", "PCM_16"),
    )
    return buffer.getvalue()


def _samples(array: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    if array.ndim not in (1, 2):
        raise RecordRejected(
            f"{where}: audio is (samples,) or (samples, channels), not {array.shape}"
        )
    if array.ndim == 2 and array.shape[1] > array.shape[0]:
        raise RecordRejected(
            f"{where}: {array.shape} would be {array.shape[1]} channels of {array.shape[0]} "
            "samples; audio is (samples, channels), so transpose it"
        )
    if array.dtype in (np.int16, np.int32):
        return array
    if array.dtype.kind != "f":
        raise RecordRejected(f"{where}: audio is float, int16 or int32, not {array.dtype}")
    if not np.isfinite(array).all():
        raise RecordRejected(f"{where}: the audio holds NaN or infinity")
    peak = float(np.abs(array).max(initial=0.0))
    if peak > _UNSCALED:
        raise RecordRejected(
            f"{where}: the audio reaches {peak:g}, but float audio has full scale at 1.0; divide "
            "it by its full scale (32768 for 16 bits)"
        )
    if peak > 1.0:
        logger.warning("%s: the audio reaches %g and is clipped at 1.0", where, peak)
        array = np.clip(array, -1.0, 1.0)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def describe(value: Any) -> str:
    """Name a value's type, for a message."""
    module, name = type(value).__module__, type(value).__qualname__
    return f"a value of type {name if module == 'builtins' else f'{module}.{name}'}"
