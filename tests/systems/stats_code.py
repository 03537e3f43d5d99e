"""What the tests of `collect_stats` name in configs: features, models, a driver of its own."""

import sys
import time
from pathlib import Path

import numpy as np


def spectrum(item, size=16):
    """Power spectra of frames, (frames, size // 2 + 1) in float32; some items are awkward."""
    wait_while_held(item)
    frames = np.lib.stride_tricks.sliding_window_view(item["speech"], size)[:: size // 2]
    return {"feats": np.abs(np.fft.rfft(frames)).astype(np.float32) ** 2}


def wait_while_held(item):
    hold = Path("hold") / item["utt_id"]
    if hold.exists():
        (Path("hold") / f"{item['utt_id']}.reached").touch()
    while hold.exists():
        time.sleep(0.01)


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, item):
        energy = self.factor * np.square(item["speech"][:, None].astype(np.float64))
        return {"energy": energy, "pitch": energy[:, 0]}


def bad(item):
    """Fails, or gives what has no statistics, as the item says."""
    what = item["what"]
    if what == "raise":
        raise ValueError("no features")
    values = {"nan": np.nan, "inf": np.inf, "huge": 1e300}
    feats = np.full((3, 4), values.get(what, 1.0))
    if what == "no dict":
        return feats
    shapes = {"empty": feats[:0], "text": feats.astype(str), "wide": np.ones((3, 5)), "list": [1]}
    given = {"feats": shapes.get(what, feats)}
    if what == "other":
        given["other"] = feats
    if what == "name":
        given["a/b"] = feats
    return given


class Tensor:
    """As much of a tensor as is asked of one."""

    def __init__(self, array):
        self.array, self.steps = array, []

    def detach(self):
        self.steps.append("detach")
        return self

    def cpu(self):
        assert self.steps == ["detach"]
        self.steps.append("cpu")
        return self

    def numpy(self):
        assert self.steps == ["detach", "cpu"]
        return self.array

    def __array__(self, *args, **kwargs):
        raise TypeError("a tensor that needs a gradient is no array")


class Model:
    """Features of a padded batch: frames of four samples, and one vector for each utterance."""

    batches = []

    def __init__(self, scale=1.0, normalize=None, normalize_conf=None):
        if normalize or normalize_conf:
            raise FileNotFoundError("the statistics are not there yet")
        self.scale = scale

    def collect_feats(self, speech, speech_lengths, text=None, text_lengths=None):
        self.batches.append(len(speech))
        assert speech_lengths.dtype == np.int64
        assert all((row[n:] == 0).all() for row, n in zip(speech, speech_lengths, strict=True))
        if text is not None:
            assert all((row[n:] == -1).all() for row, n in zip(text, text_lengths, strict=True))
        frames = speech[:, : speech.shape[1] // 4 * 4].reshape(len(speech), -1, 4)
        garbage = np.where(frames == 0, 99, frames)  # what a network makes of padding
        lengths = speech_lengths // 4
        peaks = np.array([row[:n].max() for row, n in zip(speech, speech_lengths, strict=True)])
        return {
            "feats": Tensor(garbage * np.float32(self.scale)),
            "feats_lengths": Tensor(lengths),
            "peak": Tensor(np.stack([peaks, -peaks], axis=1)),
        }


class Wordless:
    def collect_feats(self, speech, **others):
        return {"feats": speech[:, :, None], "names": np.zeros(99)}


class Lengthy:
    def __init__(self, lengths):
        self.lengths = lengths

    def collect_feats(self, speech, **others):
        lengths = np.array(self.lengths) * np.ones(len(speech), int)
        return {"feats": speech[:, :, None], "feats_lengths": lengths}


class NoFeatures:
    pass


if __name__ == "__main__":
    from espnet3.systems.base.training import collect_stats
    from espnet3.utils.config import load_config

    config = load_config(["training.yaml"])
    config.parallel.n_workers = int(sys.argv[1])
    collect_stats(config)
