"""`DataOrganizer`: the ``dataset:`` block of a config, as data sets."""

from __future__ import annotations

import copy
import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from espnet3.components.data.dataset import (
    CombinedDataset,
    DatasetWithTransform,
    is_espnet_preprocessor,
)
from espnet3.components.data.dataset_module import instantiate_dataset_reference
from espnet3.errors import ConfigError

logger = logging.getLogger(__name__)

# `split` is a label that older configs carry; nothing reads it.
_ENTRY_KEYS = ("name", "data_src", "data_src_args", "transform", "preprocessor", "split")
_FALLBACK = {"valid": "train", "test": "valid"}

Entries = Iterable[Mapping[str, Any]] | ListConfig | None
Preprocessor = Callable[..., Any] | Mapping[str, Any] | DictConfig | None


class DataOrganizer:
    """The data sets of a config: training and validation sets combined, test sets by name.

    Entries are checked at once; a data set is built when it is first asked for, so that a worker
    that decodes one test set does not read the others. A configuration for one purpose may leave
    the other splits out.

    Args:
        train: Entries with ``data_src``, ``data_src_args`` (see `instantiate_dataset_reference`),
            ``transform``, ``preprocessor`` (instead of the common one) and ``name``.
        valid: Likewise.
        test: Likewise; ``name`` names the test set and its output directory. Without it the name is
            ``data_src``, else ``local``.
        preprocessor: Called with each item after its transform. A callable, a ``_target_`` config,
            or a config with ``train``, ``valid``, ``test`` blocks over common keys: a missing
            ``valid`` takes that of ``train``, a missing ``test`` that of ``valid``, and without
            ``train`` the training set has none. An ESPnet2 ``AbsPreprocessor`` is called with (id,
            item) and gets its ``train`` flag from here.
        recipe_dir: The recipe whose ``dataset/`` is meant by entries without ``data_src``.
        train_mode: The ``train`` flag for the training set; `False` while collecting statistics.

    Raises:
        ConfigError: an unknown key, a wrong type, or two test sets of one name.
    """

    def __init__(
        self,
        train: Entries = None,
        valid: Entries = None,
        test: Entries = None,
        preprocessor: Preprocessor = None,
        recipe_dir: str | Path | None = None,
        train_mode: bool = True,
    ) -> None:
        self.recipe_dir = recipe_dir
        self._train_mode = train_mode
        self._preprocessor = _plain(preprocessor)
        self._made: dict[str, Callable[..., Any] | None] = {}
        if not (
            preprocessor is None
            or callable(preprocessor)
            or isinstance(self._preprocessor, Mapping)
        ):
            raise ConfigError(f"preprocessor is a callable or a config, not {preprocessor!r}")
        self._train = _entries("train", train)
        self._valid = _entries("valid", valid)
        self._test = _by_name(_entries("test", test) or [])

    @cached_property
    def train(self) -> CombinedDataset | None:
        """The training entries as one data set; `None` if the config has none."""
        return self._combine("train", self._train)

    @cached_property
    def valid(self) -> CombinedDataset | None:
        """The validation entries as one data set; `None` if the config has none."""
        return self._combine("valid", self._valid)

    @cached_property
    def test(self) -> Mapping[str, DatasetWithTransform]:
        """Test sets by name, in the config's order, each built at its first use."""
        return _BuiltOnDemand(self._test, lambda entry: self._build("test", entry))

    def _combine(self, split: str, entries: list[dict[str, Any]] | None) -> CombinedDataset | None:
        if entries is None:
            return None
        return CombinedDataset([self._build(split, entry) for entry in entries])

    def _build(self, split: str, entry: dict[str, Any]) -> DatasetWithTransform:
        own = entry.get("preprocessor")
        return DatasetWithTransform(
            instantiate_dataset_reference(entry, self.recipe_dir),
            _instantiate(entry.get("transform")),
            self._common_preprocessor(split) if own is None else self._make(own, split),
        )

    def _common_preprocessor(self, split: str) -> Callable[..., Any] | None:
        if split not in self._made:
            self._made[split] = self._make(self._preprocessor, split)
        return self._made[split]

    def _make(self, config: Any, split: str) -> Callable[..., Any] | None:
        """Build the preprocessor that `config` gives for one split."""
        training = split == "train" and self._train_mode
        if isinstance(config, Mapping):
            config = _for_split(config, split)
            if config is None:
                return None
            if is_espnet_preprocessor(_target(config)):
                if "train" in config:
                    logger.warning("preprocessor.train is set by DataOrganizer; yours is not used")
                config = {**config, "train": training}
        elif is_espnet_preprocessor(config):
            # The training set gets a copy, so that the two flags do not fight over one object.
            config = copy.deepcopy(config) if split == "train" else config
            config.train = training
        return _instantiate(config)


class _BuiltOnDemand(Mapping[str, Any]):
    def __init__(self, entries: dict[str, Any], build: Callable[[Any], Any]) -> None:
        self._entries = entries
        self._build = build
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            raise KeyError(f"no test set {name!r}; there are {', '.join(self._entries) or 'none'}")
        if name not in self._built:
            self._built[name] = self._build(self._entries[name])
        return self._built[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _entries(split: str, entries: Entries) -> list[dict[str, Any]] | None:
    plain = _plain(entries)
    if plain is None:
        return None
    if isinstance(plain, (str, Mapping)) or not isinstance(plain, Iterable):
        raise ConfigError(f"dataset.{split} is a list of entries, not {plain!r}")
    checked = []
    for number, raw in enumerate(plain):
        entry, where = _plain(raw), f"dataset.{split}[{number}]"
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{where} is a mapping, not {entry!r}")
        for key in entry:
            if key not in _ENTRY_KEYS:
                near = difflib.get_close_matches(str(key), _ENTRY_KEYS, n=1, cutoff=0.0)[0]
                raise ConfigError(
                    f"{where}: unknown key {key!r}; did you mean {near!r}? What is meant for the "
                    "Dataset class goes under data_src_args."
                )
        checked.append(dict(entry))
    return checked


def _by_name(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    named: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = str(entry.get("name") or entry.get("data_src") or "local")
        if name in named:
            raise ConfigError(f"dataset.test: two test sets are called {name!r}; name them apart")
        if Path(name).is_absolute() or any(part in ("", ".", "..") for part in name.split("/")):
            raise ConfigError(f"dataset.test: {name!r} cannot be a directory name")
        named[name] = entry
    return named


def _for_split(config: Mapping[str, Any], split: str) -> Mapping[str, Any] | None:
    """Return the block of a preprocessor config for one split, common keys included."""
    if not any(isinstance(config.get(name), Mapping) for name in ("train", "valid", "test")):
        return config
    chosen = split
    while config.get(chosen) is None:
        if chosen not in _FALLBACK:
            logger.warning("preprocessor has no `train` block: %s gets no preprocessor", split)
            return None
        chosen = _FALLBACK[chosen]
    if chosen != split:
        logger.warning("preprocessor has no `%s` block: that of `%s` is used", split, chosen)
    common = {k: v for k, v in config.items() if k not in ("train", "valid", "test")}
    merged: Any = OmegaConf.to_container(OmegaConf.merge(common, config[chosen]))
    return dict(merged)


def _target(config: Mapping[str, Any]) -> object:
    if "_target_" not in config:
        raise ConfigError(f"preprocessor needs `_target_`; it has {', '.join(map(str, config))}")
    from hydra.utils import get_object

    return get_object(str(config["_target_"]))


def _instantiate(config: Any) -> Callable[..., Any] | None:
    if not isinstance(config, Mapping):
        return config  # type: ignore[no-any-return]  # DatasetWithTransform checks it
    from hydra.utils import instantiate

    return instantiate(config)  # type: ignore[no-any-return]


def _plain(config: Any) -> Any:
    if isinstance(config, (DictConfig, ListConfig)):
        return OmegaConf.to_container(config, resolve=True)
    return config
