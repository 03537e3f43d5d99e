"""The ``measure`` stage: metrics over what ``infer`` wrote, against what the data says."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from espnet3.components.metrics.base_metric import BaseMetric
from espnet3.components.metrics.report import summary_markdown, summary_table
from espnet3.components.metrics.rtf import real_time_factor
from espnet3.errors import ConfigError
from espnet3.systems.base.scoring import DATASET_PREFIX, TestSet
from espnet3.utils import durable

logger = logging.getLogger(__name__)

__all__ = ["measure", "summary_table"]


@dataclass(frozen=True)
class _Entry:
    """One item of ``metrics:``; `own_name` is its ``name``, else empty."""

    name: str
    own_name: str
    metric: BaseMetric
    inputs: dict[str, str]


def measure(
    metrics_config: DictConfig | Mapping[str, Any],
    inference_config: DictConfig | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score every test set with every metric.

    Config keys:

    * ``metrics``: entries of ``metric`` (a ``_target_`` config), ``inputs`` (input name to
      ``dataset:<column>``, or to a field that infer wrote) and optionally ``name``;
    * ``inference_dir``: what infer wrote to; that of the inference config if left out;
    * ``missing``: with ``deletions``, the default, an utterance without hypothesis is scored as an
      empty one; ``ignore`` leaves it out;
    * ``dataset.test``: the test sets; those of the inference config if left out, and without that
      the directories that infer wrote.

    Writes under ``inference_dir``: ``metrics.json`` (the result), ``metrics.md``, and per test set
    what the metrics write; an entry with a ``name`` gets a directory of that name for it. A test
    set's RTF needs ``durations()`` of its data set, and is that of the run that decoded it.

    Returns:
        ``{class path or name: {test set: {"WER": ..., "counts": {...}}}, "summary": {...}}``, where
        the summary has ``missing``, ``test_sets`` (utterances, scored, audio_seconds,
        forward_seconds, RTF) and ``total`` (the same, and ``metrics``). `summary_table` shows it.

    Raises:
        ConfigError: the config names no metric, input, or test set, or a wrong one.
        DataError: a run is not finished, a hypothesis file is missing or broken, a hypothesis has
            no reference, or a reference is no text.
    """
    metrics_config = _as_config(metrics_config)
    inference = None if inference_config is None else _as_config(inference_config)
    entries = _read_entries(metrics_config)
    missing = _choice_of_missing(metrics_config)
    inference_dir = _find_inference_dir(metrics_config, inference)
    sources = [source for entry in entries for source in entry.inputs.values()]
    results: dict[str, Any] = {entry.name: {} for entry in entries}
    figures: dict[str, dict[str, Any]] = {}
    for name in _test_set_names(metrics_config, inference, inference_dir):
        test_set = TestSet(name, inference_dir, inference, sources)
        test_set.check(ignore_missing=missing == "ignore")
        figures[name] = test_set.figures()
        for entry in entries:
            results[entry.name][name] = _score(entry, test_set, missing)
    total = {**_add_figures(list(figures.values())), "metrics": {}}
    for entry in entries:
        counts = _add(one["counts"] for one in results[entry.name].values())
        total["metrics"][entry.name] = {**entry.metric.rates(counts), "counts": counts}
    results["summary"] = {"missing": missing, "test_sets": figures, "total": total}
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    durable.replace(inference_dir / "metrics.json", text.encode())
    durable.replace(inference_dir / "metrics.md", summary_markdown(results).encode())
    logger.info("scored %d test sets; results in %s", len(figures), inference_dir / "metrics.md")
    return results


def _score(entry: _Entry, test_set: TestSet, missing: str) -> dict[str, Any]:
    data: dict[str, Mapping[str, Any]] = {}
    scored = set(test_set.scored)
    for name, source in entry.inputs.items():
        values = test_set.values(source)
        if missing == "ignore":
            values = {utt: value for utt, value in values.items() if utt in scored}
        data[name] = values
    output_dir = test_set.run_dir / entry.own_name
    output_dir.mkdir(parents=True, exist_ok=True)
    counts = entry.metric.score(data, output_dir)
    return {**entry.metric.rates(counts), "counts": counts}


def _read_entries(config: DictConfig) -> list[_Entry]:
    raw = config.get("metrics")
    if not isinstance(raw, ListConfig) or not raw:
        raise ConfigError("metrics config: `metrics` is to be a list with at least one entry")
    entries: dict[str, _Entry] = {}
    plain: Any = OmegaConf.to_container(raw, resolve=True)
    for number, item in enumerate(plain):
        entry = _read_entry(f"metrics config: metrics[{number}]", item)
        if entry.name in entries or entry.name == "summary":
            raise ConfigError(
                f"metrics config: metrics[{number}]: {entry.name!r} is taken; give it a `name`"
            )
        entries[entry.name] = entry
    return list(entries.values())


def _read_entry(where: str, item: Any) -> _Entry:
    if not isinstance(item, dict) or not {"metric"} <= set(item) <= {"metric", "inputs", "name"}:
        raise ConfigError(f"{where}: it has `metric`, `inputs` and maybe `name`, not {item!r}")
    from hydra.utils import instantiate

    metric = instantiate(item["metric"])
    if not isinstance(metric, BaseMetric):
        raise ConfigError(f"{where}: {item['metric']!r} makes no BaseMetric, but {metric!r}")
    inputs = item.get("inputs") or {}
    if isinstance(inputs, list):
        inputs = {name: name for name in inputs}
    if set(inputs) != set(metric.inputs):
        raise ConfigError(
            f"{where}: `inputs` are to say where {', '.join(metric.inputs)} come from, as in "
            f"`inputs: {{ref: {DATASET_PREFIX}text, hyp: text}}`; they are {inputs!r}"
        )
    own_name = str(item.get("name") or "")
    if own_name != Path(own_name).name or "." in own_name:
        raise ConfigError(f"{where}: name {own_name!r} cannot be a directory name without dots")
    path = f"{type(metric).__module__}.{type(metric).__qualname__}"
    bound = {name: str(inputs[name]) for name in metric.inputs}
    return _Entry(own_name or path, own_name, metric, bound)


def _choice_of_missing(config: DictConfig) -> str:
    choice = config.get("missing", "deletions")
    if choice not in ("deletions", "ignore"):
        raise ConfigError(f"metrics config: missing is `deletions` or `ignore`, not {choice!r}")
    return str(choice)


def _find_inference_dir(config: DictConfig, inference: DictConfig | None) -> Path:
    found = config.get("inference_dir")
    if not found and inference is not None:
        found = inference.get("inference_dir")
    if not found:
        raise ConfigError(
            "metrics config: `inference_dir` is not set, and no inference config gives it"
        )
    if not Path(found).is_dir():
        raise ConfigError(f"inference_dir {found} does not exist; run the infer stage first")
    return Path(found)


def _test_set_names(
    config: DictConfig, inference: DictConfig | None, inference_dir: Path
) -> list[str]:
    for one in (config, inference):
        entries = OmegaConf.select(one, "dataset.test") if one is not None else None
        if entries:
            return [str(e.get("name") or e.get("data_src") or "local") for e in entries]
    found = sorted(path.parent.name for path in inference_dir.glob("[!.]*/manifest.json"))
    if not found:
        raise ConfigError(
            f"there is no test set to score: neither config has dataset.test, and {inference_dir} "
            "has no directory that infer wrote"
        )
    return found


def _add(counts: Any) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in counts:
        for key, value in one.items():
            total[key] = total.get(key, 0) + value
    return total


def _add_figures(figures: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for key in ("utterances", "scored", "audio_seconds", "forward_seconds"):
        values = [one[key] for one in figures]
        total[key] = None if None in values else sum(values)
    return {**total, "RTF": real_time_factor(total["forward_seconds"], total["audio_seconds"])}


def _as_config(config: DictConfig | Mapping[str, Any]) -> DictConfig:
    return config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
