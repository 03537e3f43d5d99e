"""`InferenceRunner`: items of a dataset through a model, and its outputs into scp files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import ListConfig

from espnet3.components.data.offers import utterance_id
from espnet3.errors import ConfigError, DataError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.systems.base.inference_code import inference_code
from espnet3.systems.base.inference_identity import inference_identity
from espnet3.systems.base.inference_merge import publish
from espnet3.systems.base.record_writer import RecordWriter
from espnet3.utils.artifact_formats import parse_format
from espnet3.utils.artifacts import is_tensor


class InferenceRunner(BaseRunner):
    """Decodes a test set: ``model(**inputs)`` for each item, each output field to an scp file.

    What the env must hold beside ``dataset`` and ``model`` (the provider's params): ``input_key``,
    the field or fields of an item that become keyword arguments of the model. What it may hold:

    * ``output_fn_path``: dotted name of a function called as ``(data=, model_output=, idx=)``;
    * ``output_keys``: the fields to write, all that there are by default;
    * ``output_artifacts``: how values that fit on no line are written (`parse_format`);
    * ``idx_key``: name of the utterance id, ``utt_id`` by default;
    * ``model_kwargs``: further keyword arguments of the model.

    A subclass most often overrides `format_output` or `prepare_model_inputs` alone.

    Args:
        provider: Builds the env.
        idx_key: As above, for a provider that does not say it.
        hyp_key: Field or fields that hold hypotheses; see `hypothesis_field` for what of it becomes
            ``text`` and ``hyp.trn``.
        ref_key: Field or fields that hold references; kept for compatibility, nothing reads it.
        **kwargs: For `BaseRunner`.

    Raises:
        ConfigError: `idx_key` is not that of the provider.
    """

    per_item_output: ClassVar[bool] = True

    def __init__(
        self,
        provider: Any,
        idx_key: str = "utt_id",
        hyp_key: str | Sequence[str] = (),
        ref_key: str | Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(provider, **kwargs)
        self.idx_key = idx_key
        self.hyp_key = as_keys(hyp_key)
        self.ref_key = as_keys(ref_key)
        self.dataset_fingerprint: str | None = None
        """What the dataset says of its content, if it does; a change of it refuses to resume."""
        params = getattr(provider, "params", None)
        if isinstance(params, dict) and params.setdefault("idx_key", idx_key) != idx_key:
            # The hooks run where this object is not: what they know is what the env says.
            raise ConfigError(
                f"idx_key is {idx_key!r} for the runner and {params['idx_key']!r} for its provider"
            )

    @classmethod
    def forward(cls, idx: Any, dataset: Any = None, model: Any = None, **env: Any) -> Any:
        """Decode one item, or a batch.

        Args:
            idx: A dataset index, or a list of them.
            dataset: Its items are dicts.
            model: Called with the inputs by keyword; for a batch each is a list.
            **env: See the class.

        Returns:
            A dict of output fields and the utterance id, or a list of such dicts. The id is the
            output's own, else the item's, else ``dataset.utt_id(i)``, else the index as text.

        Raises:
            ConfigError: ``input_key`` is not in the env.
            DataError: An item lacks an input.
            TypeError: The output is no dict; for a batch, no list with a dict for each item.
        """
        batched = isinstance(idx, (list, tuple))
        indices = list(idx) if batched else [idx]
        samples = [dataset[i] for i in indices]
        inputs = cls.prepare_model_inputs(_inputs(samples, indices, env.get("input_key"), batched))
        result = model(**inputs, **_model_kwargs(env.get("model_kwargs")))
        output_fn = env.get("output_fn")
        if output_fn is None and env.get("output_fn_path"):
            output_fn = load_function(env["output_fn_path"])
        if output_fn is not None:
            data = samples if batched else samples[0]
            result = output_fn(data=data, model_output=result, idx=idx)
        result = cls.format_output(result, batched=batched)
        if not batched:
            return _with_id(result, idx, samples[0], dataset, env)
        if not isinstance(result, (list, tuple)) or len(result) != len(indices):
            raise TypeError(
                f"{_got(result)} for a batch of {len(indices)} items; with batch_size the model "
                "(or output_fn, format_output) gets lists and returns a list with one dict for "
                "each item. For a model that takes one item, set batch_size: null"
            )
        return [
            _with_id(one, i, sample, dataset, env)
            for one, i, sample in zip(result, indices, samples, strict=True)
        ]

    @staticmethod
    def prepare_model_inputs(inputs: dict[str, Any]) -> Mapping[str, Any]:
        """Change the model's keyword arguments; for a batch each is a list."""
        return inputs

    @staticmethod
    def format_output(result: Any, *, batched: bool) -> Any:
        """Make a dict of output fields, or for a batch a list of them, of what the model gave."""
        return result

    @staticmethod
    def open_writers(
        shard_dir: Path,
        output_dir: str = "",
        shard_subdir: str = "",
        idx_key: str = "utt_id",
        output_keys: str | Sequence[str] | None = None,
        output_artifacts: Mapping[str, Any] | None = None,
        **env: Any,
    ) -> dict[str, Any]:
        """Begin a shard. Lines that name files name them where `merge` will put them."""
        formats = {
            str(name): parse_format(block, f"output_artifacts.{name}")
            for name, block in (output_artifacts or {}).items()
        }
        run_dir = Path(output_dir) / (shard_subdir or "")
        return {"records": RecordWriter(shard_dir, run_dir, idx_key, as_keys(output_keys), formats)}

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: Any, state: dict[str, Any], **env: Any
    ) -> None:
        """Write the outputs of one unit: all of them, or with `RecordRejected` nothing."""
        writers["records"].write(result)

    @classmethod
    def _set_aside(cls, writers: dict[str, Any]) -> Callable[[Any], Any] | None:
        return writers["records"].set_aside if cls._writes_as(InferenceRunner) else None

    @staticmethod
    def close_writers(
        writers: dict[str, Any], state: dict[str, Any], **env: Any
    ) -> dict[str, Any] | None:
        """Finish the shard."""
        writers["records"].close()
        return None

    def merge(self, shard_dirs: list[Path]) -> Any:
        """Publish all outputs in the run directory; see `publish`.

        Returns:
            True.
        """
        publish(shard_dirs, self.run_dir, self.hyp_key)
        return True

    def identity(self) -> dict[str, Any]:
        """What decides the results; see `inference_identity`."""
        return inference_identity(self.provider, super().identity(), self.dataset_fingerprint)

    def code_identity(self) -> dict[str, str]:
        """A hash for each module of the user's code that this run needs; see `inference_code`."""
        return inference_code(type(self), self.provider) or super().code_identity()


def as_keys(keys: Any) -> list[str]:
    """One key, several, or None, as a list."""
    if keys is None:
        return []
    return list(keys) if isinstance(keys, (list, tuple, ListConfig)) else [keys]


def load_function(path: str) -> Callable[..., Any]:
    """Import the function that a dotted name means now: a module may have been reloaded since.

    Raises:
        ConfigError: There is none.
    """
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be imported: {error}") from error
    if not callable(function):
        raise ConfigError(f"{path}: is no function")
    return function  # type: ignore[no-any-return]


def _inputs(
    samples: Sequence[Any], indices: Sequence[Any], input_key: Any, batched: bool
) -> dict[str, Any]:
    keys = as_keys(input_key)
    if not keys:
        raise ConfigError(
            "input_key: is not set; it names the fields of a dataset item that the model gets"
        )
    for sample, i in zip(samples, indices, strict=True):
        for key in keys:
            if key not in sample:
                there = ", ".join(map(str, sample))
                raise DataError(f"dataset item {i} has no {key!r} (input_key); it has {there}")
    if batched:
        return {key: [sample[key] for sample in samples] for key in keys}
    return {key: samples[0][key] for key in keys}


def _model_kwargs(kwargs: Any) -> Mapping[str, Any]:
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise ConfigError(f"model_kwargs must be a block of keyword arguments, not {kwargs!r}")
    return kwargs


def _with_id(
    output: Any, idx: Any, sample: Any, dataset: Any, env: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the output with the utterance id, as a dict of its own."""
    idx_key = env.get("idx_key") or "utt_id"
    keys = as_keys(env.get("output_keys"))
    if isinstance(output, str) and len(keys) == 1:
        output = {keys[0]: output}  # one field, one text: no room for a misunderstanding
    if not isinstance(output, dict):
        utt_id = utterance_id(dataset, idx, sample, idx_key)
        raise TypeError(
            f"utterance {utt_id!r}: {_got(output)}, not a dict of "
            "output fields such as {'hyp': 'a text'}; make one with output_fn or format_output"
        )
    if output.get(idx_key) is not None:
        return output
    return {**output, idx_key: utterance_id(dataset, idx, sample, idx_key)}


def _got(result: Any) -> str:
    name = type(result).__name__
    if is_tensor(result) or not isinstance(result, (list, tuple)):
        return f"the model's output is {name}"
    return f"the model's output is a {name} of {len(result)}"
