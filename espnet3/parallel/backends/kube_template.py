"""`pod_template` of `env: kube`: what a user says about pods, under what the driver says."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet3.parallel.wording import shown

Keys = tuple[str, ...]
"""The way to a value: the keys of nested blocks."""


def _block(value: Any) -> bool:
    return isinstance(value, dict)


def _blocks(value: Any) -> bool:
    return isinstance(value, list) and all(map(_block, value))


_SHAPES: list[tuple[Keys, str, Callable[[Any], bool]]] = [
    (("metadata",), "a block of keys", _block),
    (("metadata", "labels"), "a block of keys", _block),
    (("spec",), "a block of keys", _block),
    (("spec", "volumes"), "a list of blocks", _blocks),
    (("spec", "containers"), "a list of blocks", _blocks),
]
_CONTAINER_SHAPES: list[tuple[Keys, str, Callable[[Any], bool]]] = [
    (("env",), "a list of blocks", _blocks),
    (("volumeMounts",), "a list of blocks", _blocks),
    (("resources",), "a block of keys", _block),
    (("resources", "requests"), "a block of keys", _block),
    (("resources", "limits"), "a block of keys", _block),
]
"""Of what something is laid over; the rest is for Kubernetes to check."""

_OURS: dict[Keys, str] = {
    ("metadata", "name"): "each pod gets its own",
    ("metadata", "namespace"): "an option of its own",
    ("spec", "restartPolicy"): "the driver replaces pods",
}
_OURS_IN_CONTAINER: dict[Keys, str] = {
    (key,): "the worker's own" for key in ("command", "args", "workingDir")
}


def read_template(given: Any) -> dict[str, Any]:
    """A pod's metadata and spec, of which nothing would be lost under what is laid over it.

    Args:
        given: the template, the path of a YAML file that has it, or None for an empty one.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if isinstance(given, str):
        try:
            return read_template(_load(Path(given)))
        except ValueError as error:
            raise ValueError(f"in {given}: {error}") from error
    template = given or {}
    if not _block(template):
        raise ValueError(f"must be a block of keys, not {shown(template)}")
    for key in template:
        if key not in ("apiVersion", "kind", "metadata", "spec"):
            raise ValueError(f"{key}: a pod has metadata and spec alone")
    _check(template, "", _SHAPES, _OURS)
    for i, container in enumerate(_at(template, ("spec", "containers")) or []):
        where = f"spec.containers[{i}]."
        _check(container, where, _CONTAINER_SHAPES, {} if i else _OURS_IN_CONTAINER)
    return dict(template)


def worker_container(template: Mapping[str, Any]) -> dict[str, Any]:
    """What a template says about the container that the worker runs in: its first."""
    return dict((_at(template, ("spec", "containers")) or [{}])[0])


def _at(block: Any, path: Keys) -> Any:
    """What is there; None if nothing is."""
    for key in path:
        block = (block or {}).get(key)
    return block


def _check(
    block: Mapping[str, Any],
    where: str,
    shapes: list[tuple[Keys, str, Callable[[Any], bool]]],
    ours: Mapping[Keys, str],
) -> None:
    for path, must_be, check in shapes:
        value = _at(block, path)
        if value is not None and not check(value):
            raise ValueError(f"{where}{'.'.join(path)}: must be {must_be}, not {shown(value)}")
    for path, why in ours.items():
        if _at(block, path) is not None:
            raise ValueError(f"{where}{'.'.join(path)}: {why}; leave it out")


def _load(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot be read: {error}") from error
