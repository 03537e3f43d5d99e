"""The recogniser of the GPU benchmark: wav2vec 2.0 with a CTC head, from its configuration.

Weights are random, from a seed: they compute as much as trained ones. The text has one letter a
frame, repeats and blanks included, so that what differs between two runs can be counted in frames.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 128, "conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
    "base": {},
    "large": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}  # fmt: skip
"""What of Wav2Vec2Config differs from its defaults, which are those of wav2vec2-base."""

_COMMON = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
"""As wav2vec2-large-lv60: the group norm of wav2vec2-base takes padding for speech, so that an
utterance's text would depend on what is beside it."""


class Meter:
    """Numbers of one process, in a file that another process may read at any time.

    Args:
        directory: for the file, which the process id names.
    """

    FIELDS = (
        "calls", "items", "audio_seconds", "padded_seconds", "pad_seconds", "device_seconds",
        "text_seconds", "peak_bytes", "begin", "end",
    )  # fmt: skip

    def __init__(self, directory: str | Path) -> None:
        path = Path(directory) / f"{os.getpid()}.meter"
        self._cells = np.memmap(path, dtype=np.float64, mode="w+", shape=(len(self.FIELDS),))

    def add(self, **numbers: float) -> None:
        """Add to some fields; ``begin`` and ``peak_bytes`` keep their first and highest value."""
        for name, value in numbers.items():
            cell = self.FIELDS.index(name)
            before = self._cells[cell]
            if name == "begin":
                value = before or value
            elif name == "peak_bytes":
                value = max(before, value)
            elif name != "end":
                value += before
            self._cells[cell] = value

    @classmethod
    def read(cls, directory: str | Path) -> list[dict[str, float]]:
        """The numbers of every process that did anything, clocks as `time.monotonic` has them."""
        rows = [np.fromfile(path) for path in sorted(Path(directory).glob("*.meter"))]
        return [dict(zip(cls.FIELDS, map(float, row), strict=True)) for row in rows if row.any()]


class Recogniser:
    """Speech in, one letter a frame out; see the module.

    Args:
        size: a key of `SIZES`.
        dtype: of weights and computation, as PyTorch calls it.
        device: where; as PyTorch writes it.
        meter: directory for the numbers of this process; None keeps none.
    """

    def __init__(
        self, size: str, dtype: str = "float32", device: str = "cpu", meter: str | None = None
    ) -> None:
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

        self._torch, self._device = torch, torch.device(device)
        self._dtype: Any = getattr(torch, dtype)
        self._meter = Meter(meter) if meter else None
        self.on_gpu = self._device.type == "cuda"
        torch.manual_seed(0)
        with self._device:  # large weights are drawn much faster there
            model = Wav2Vec2ForCTC(Wav2Vec2Config(**{**_COMMON, **SIZES[size]}))
        self._model: Any = model.to(self._dtype).eval()

    def __call__(self, speech: Sequence[Any]) -> list[dict[str, str]]:
        """Recognise a batch.

        Args:
            speech: for each utterance float samples at 16 kHz, full scale at 1.0, shape (n,).

        Returns:
            ``{"text": letters}`` for each.
        """
        begin = time.monotonic()
        batch, lengths = self.pad(speech)
        padded = time.monotonic()
        ids, device_seconds = self._timed(batch, lengths)
        done = time.monotonic()
        texts = self.texts(ids, lengths)
        if self._meter is not None:
            end = time.monotonic()
            self._meter.add(
                calls=1, items=len(speech), audio_seconds=sum(lengths) / 16000,
                padded_seconds=batch.numel() / 16000, pad_seconds=padded - begin,
                device_seconds=device_seconds, text_seconds=end - done,
                peak_bytes=self.peak_bytes(), begin=begin, end=end,
            )  # fmt: skip
        return [{"text": text} for text in texts]

    def pad(self, speech: Sequence[Any]) -> tuple[Any, list[int]]:
        """One tensor of shape (utterances, longest), pinned if it goes to a GPU; and lengths."""
        torch, lengths = self._torch, [len(one) for one in speech]
        shape = (len(speech), max(lengths))
        batch = torch.empty(shape, dtype=torch.float32, pin_memory=self.on_gpu)
        for row, one, n in zip(batch.numpy(), speech, lengths, strict=True):
            row[:n], row[n:] = one, 0
        return batch, lengths

    def ids(self, batch: Any, lengths: Sequence[int]) -> Any:
        """The best id of every frame, uint8 of shape (utterances, frames), still on the device."""
        torch = self._torch
        with torch.inference_mode():
            batch = batch.to(self._device, non_blocking=True)
            n = torch.tensor(lengths)
            n = n.pin_memory().to(self._device, non_blocking=True) if self.on_gpu else n
            mask = torch.arange(batch.shape[1], device=self._device)[None, :] < n[:, None]
            logits = self._model(batch.to(self._dtype), attention_mask=mask.long()).logits
            return logits.argmax(dim=-1).to(torch.uint8)

    def texts(self, ids: Any, lengths: Sequence[int]) -> list[str]:
        """The texts of a batch's ids, which are on the CPU."""
        frames = self._model._get_feat_extract_output_lengths(self._torch.tensor(lengths)).tolist()
        letters = ids.numpy() + ord("A")
        return [row[:n].tobytes().decode() for row, n in zip(letters, frames, strict=True)]

    def peak_bytes(self) -> int:
        """Most memory of the device that tensors took at once; 0 without a GPU."""
        return int(self._torch.cuda.max_memory_allocated(self._device)) if self.on_gpu else 0

    def _timed(self, batch: Any, lengths: Sequence[int]) -> tuple[Any, float]:
        """The ids on the CPU, and for how many seconds the device was at it."""
        if not self.on_gpu:
            begin = time.monotonic()
            return self.ids(batch, lengths), time.monotonic() - begin
        first, last = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        ids = self.ids(batch, lengths)
        last.record()
        ids = ids.cpu()
        return ids, first.elapsed_time(last) / 1000
