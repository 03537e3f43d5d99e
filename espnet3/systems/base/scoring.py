"""What `measure` scores: one test set's hypotheses, references and run figures."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from espnet3.components.metrics.rtf import real_time_factor
from espnet3.errors import DataError
from espnet3.utils.scp import check_utt_id, read_scp

if TYPE_CHECKING:
    from espnet3.parallel.engine.directory import RunSummary

DATASET_PREFIX = "dataset:"
_PROVIDER = "espnet3.systems.base.inference_provider.InferenceProvider"

Values = Mapping[str, Any]
"""Values by utterance id."""


class TestSet:
    """One test set as `measure` sees it.

    Columns are read through the data set's optional ``column(name)``, which need not touch audio;
    a data set without it, or with a transform or preprocessor, is read item by item, once.

    Args:
        name: The test set; its run directory is ``<inference_dir>/<name>``.
        inference_dir: What the infer stage wrote to.
        inference_config: What it was run with; `None` if no source needs the data set.
        sources: Every source that any metric reads: ``dataset:<column>``, or a field for
            ``<field>.scp``.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(
        self,
        name: str,
        inference_dir: Path,
        inference_config: DictConfig | None,
        sources: Iterable[str],
    ) -> None:
        self.name = name
        self.run_dir = inference_dir / name
        self._config = inference_config
        given = inference_config.get("idx_key") if inference_config is not None else None
        self._idx_key = str(given or "utt_id")
        wanted = dict.fromkeys(sources)
        self._columns = [s[len(DATASET_PREFIX) :] for s in wanted if s.startswith(DATASET_PREFIX)]
        self._fields = [s for s in wanted if not s.startswith(DATASET_PREFIX)]

    def values(self, source: str) -> Values:
        """Return the values of one source by utterance id."""
        if source.startswith(DATASET_PREFIX):
            return self._references[source[len(DATASET_PREFIX) :]]
        return self._hypotheses[source]

    @cached_property
    def utterances(self) -> tuple[str, ...]:
        """All ids: those of the data set where there is one, else of the first scp file."""
        if self._columns:
            return tuple(self._ids)
        return tuple(next(iter(self._hypotheses.values()), ()))

    @cached_property
    def scored(self) -> tuple[str, ...]:
        """The ids that every scp file has."""
        fields = self._hypotheses.values()
        return tuple(utt for utt in self.utterances if all(utt in field for field in fields))

    def figures(self) -> dict[str, Any]:
        """Return counts of utterances, seconds of the scored audio and in forward, and the RTF."""
        audio = self._audio_seconds()
        seconds = self._summary.forward_seconds if self._summary is not None else None
        return {
            "utterances": len(self.utterances),
            "scored": len(self.scored),
            "audio_seconds": audio,
            "forward_seconds": seconds,
            "RTF": real_time_factor(seconds, audio),
        }

    def check(self, ignore_missing: bool) -> None:
        """Refuse what cannot be scored honestly.

        Raises:
            DataError: the run is not finished, a file is missing, a hypothesis has no reference, or
                items have failed and nothing is there to count them against.
        """
        summary = self._summary
        if summary is not None and not summary.finished:
            raise DataError(
                f"{self.run_dir}: the run is not finished ({summary.accepted} of "
                f"{summary.positions} items are decoded, {summary.failed} have failed); run the "
                "infer stage to its end first"
            )
        known = set(self.utterances)
        for field, values in self._hypotheses.items():
            extra = [utt for utt in values if utt not in known]
            if extra:
                raise DataError(
                    f"{self.run_dir / field}.scp: {len(extra)} utterances are not in test set "
                    f"{self.name!r}, the first is {extra[0]!r}; the data has changed since infer"
                )
        if not self._columns and summary is not None and summary.failed and not ignore_missing:
            raise DataError(
                f"{self.run_dir}: {summary.failed} items have failed, and their references are "
                "missing too; take references from the data (`ref: dataset:text`), or set "
                "`missing: ignore` to score without them"
            )

    @cached_property
    def _hypotheses(self) -> dict[str, dict[str, str]]:
        found = {}
        for field in self._fields:
            path = self.run_dir / f"{field}.scp"
            if not path.is_file():
                raise DataError(
                    f"{path} is missing: run the infer stage for test set {self.name!r} to its "
                    f"end first, or correct `inputs:` if {field!r} is no output of the model"
                )
            found[field] = read_scp(path)
        return found

    @cached_property
    def _summary(self) -> RunSummary | None:
        from espnet3.parallel.engine.directory import read_summary

        try:
            return read_summary(self.run_dir)
        except FileNotFoundError:
            return None  # scp files from elsewhere can be scored too

    @cached_property
    def _dataset(self) -> Any:
        if self._config is None:
            raise DataError(
                f"`{DATASET_PREFIX}{self._columns[0]}` is read from the test set, which only the "
                "inference config describes; give it as well (--inference_config)"
            )
        from hydra.utils import get_class

        config = copy.deepcopy(self._config)
        with open_dict(config):
            config.test_set = self.name
        target = (config.get("provider") or {}).get("_target_") or _PROVIDER
        return get_class(target).build_dataset(config)  # type: ignore[attr-defined]

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Item number by utterance id."""
        ids: dict[str, int] = {}
        for number, value in enumerate(self._read_columns[self._idx_key]):
            where = f"test set {self.name!r}, item {number}"
            utt_id = check_utt_id(str(number) if value is None else value, where)
            if utt_id in ids:
                raise DataError(f"{where}: utterance {utt_id!r} is already item {ids[utt_id]}")
            ids[utt_id] = number
        return ids

    @cached_property
    def _references(self) -> dict[str, Values]:
        return {
            column: dict(zip(self._ids, self._read_columns[column], strict=True))
            for column in self._columns
        }

    @cached_property
    def _read_columns(self) -> dict[str, Sequence[Any]]:
        """Return the wanted columns and the ids (`None` where an item has none), in item order."""
        dataset = self._dataset
        names = [self._idx_key, *self._columns]
        if hasattr(dataset, "column"):
            try:
                return {name: dataset.column(name) for name in names}
            except KeyError:
                pass  # a field that only the items have
        rows: dict[str, list[Any]] = {name: [] for name in names}
        for number in range(len(dataset)):
            item = dataset[number]
            for name in names:
                if name not in item and name != self._idx_key:
                    raise DataError(
                        f"test set {self.name!r}, item {number} has no {name!r}; it has "
                        f"{', '.join(map(str, item))}"
                    )
                rows[name].append(item.get(name))
        return dict(rows)

    def _audio_seconds(self) -> float | None:
        if not self._columns or not hasattr(self._dataset, "durations"):
            return None
        durations = self._dataset.durations()
        return round(sum(float(durations[self._ids[utt]]) for utt in self.scored), 3)
