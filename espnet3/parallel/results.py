"""Results of runners without writer hooks: one JSON line a result, returned as a list."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from espnet3.errors import DataError, RecordRejected

FILE_NAME = "results.jsonl"


def open_results(shard_dir: Path) -> dict[str, TextIO]:
    """Open a shard's result file."""
    return {"results": (shard_dir / FILE_NAME).open("w", encoding="utf-8")}


def write_result(writers: dict[str, TextIO], result: Any, state: Any) -> None:
    """Append one result.

    Raises:
        RecordRejected: if JSON cannot hold it unchanged; nothing was written.
    """
    writers["results"].write(_encode(result) + "\n")


def write_results(writers: dict[str, TextIO], results: Iterable[Any], state: Any) -> None:
    """Append the results of one unit, one line each, all or none."""
    writers["results"].write("".join(_encode(result) + "\n" for result in results))


def read_results(shard_dirs: Sequence[Path]) -> list[Any]:
    """All results of the given shards, in the order of the items.

    Raises:
        DataError: if a file does not hold one result for each position of its shard.
    """
    from espnet3.parallel.in_order import in_order

    return list(in_order(shard_dirs, _of_shard))


def _of_shard(shard_dir: Path) -> list[Any]:
    path = Path(shard_dir) / FILE_NAME
    lines = path.read_text(encoding="utf-8").split("\n")
    done = json.loads((path.parent / "done").read_bytes())
    n_items = done["last"] - done["first"] + 1
    if lines.pop() or len(lines) != n_items:
        raise DataError(
            f"{path} does not hold the results of its {n_items} items; somebody changed it. Remove "
            "its directory and run again to do them again."
        )
    # One parse for the whole shard is several times quicker than one for each line.
    results: list[Any] = json.loads("[" + ",".join(lines) + "]")
    return results


def _encode(result: Any) -> str:
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordRejected(_refusal(result, str(error))) from error
    if isinstance(result, (dict, list, tuple)):
        _check_keys(result)
    return text


def _check_keys(value: Any) -> None:
    # JSON would turn such keys into strings without a word.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise RecordRejected(_refusal(value, f"the key {key!r} is not a string"))
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


def _refusal(result: Any, why: str) -> str:
    return (
        f"JSON cannot hold what forward returned (a {type(result).__name__}: {why}). Return "
        "numbers, strings, lists and dicts with string keys, or override `open_writers` and "
        "`write_record` to write it in a format of your own."
    )
