"""Shapes and statistics of log-mel features: `collect_stats`, and the same loop without it."""

import os
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks import peers
from benchmarks.measure import (
    OURS,
    MeasurementFailed,
    Options,
    Sample,
    Table,
    child,
    in_turn,
)
from benchmarks.peers import ours_beside

FILES, FILES_QUICK = 200, 10
TIMES, TIMES_QUICK = 8, 1
RATE = "audio h / h"


def run(options: Options) -> list[Table]:
    """Whole calls, reading of recordings and start of workers included."""
    place = options.place()
    os.makedirs(place / "wav")
    n_files, times = (FILES_QUICK, TIMES_QUICK) if options.quick else (FILES, TIMES)
    seconds = child("benchmarks.statistics:make", {"out": place / "wav", "n": n_files}).returned
    measure = partial(_sample, options, place, n_files, times, seconds * times)
    variants = ours_beside(measure, peers.POOL, peers.JOBLIB, peers.STATIC)
    hours = seconds * times / 3600
    table = Table(f"Statistics of {n_files * times} utterances, {hours:.3g} hours of audio")
    table.rows = in_turn(variants, options.repeats, warm_up=True)
    table.notes = ["all had the same sums, to the last bit; one BLAS thread in each process"]
    return [table]


def make(out: str, n: int) -> float:
    """Runs in a measured process: write the recordings."""
    from benchmarks import logmel

    return logmel.make(Path(out), n)


def collect(wav: str, times: int, workers: int, out: str) -> dict[str, float]:
    """Runs in a measured process: `collect_stats` of one split."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    begin = perf_counter()
    from espnet3.components.data.collect_stats import collect_stats
    from espnet3.parallel.parallel import parallel_session

    data = {"data_src": "benchmarks.logmel", "data_src_args": {"directory": wav, "times": times}}
    config = {
        "dataset": {"train": [data]},
        "collect_stats": {"collect_feats": "benchmarks.logmel.logmel"},
    }
    with parallel_session({"env": "local", "n_workers": workers}):
        collect_stats(config, "train", out)
    return {"seconds": perf_counter() - begin}


def by_peer(how: str, wav: str, n: int, times: int, workers: int, out: str) -> dict[str, float]:
    """Runs in a measured process: the same by one of `peers`, and the sums of what it wrote."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    begin = perf_counter()
    lines = Path(out) / "lines"
    options = {"directory": wav, "times": times}
    peers.run(how, "statistics", n, workers, str(lines), options)
    import numpy as np

    total: np.ndarray[tuple[int], np.dtype[np.float64]] | float = 0.0
    with open(lines, encoding="ascii") as file, open(Path(out) / "feats_shape", "w") as shapes:
        for line in file:
            utt_id, shape, row = line.split()
            shapes.write(f"{utt_id} {shape}\n")
            total = total + np.frombuffer(bytes.fromhex(row))
    count, sums, squares = np.split(np.asarray(total), [1, 81])
    np.savez(Path(out) / "feats_stats.npz", count=int(count[0]), sum=sums, sum_square=squares)
    return {"seconds": perf_counter() - begin}


def _sample(
    options: Options, place: Path, n_files: int, times: int, audio: float, how: str, workers: int
) -> Sample:
    out = options.place()
    given = {"wav": place / "wav", "times": times, "workers": workers, "out": out}
    if how == OURS:
        call = child("benchmarks.statistics:collect", given)
        out /= "train"
    else:
        call = child("benchmarks.statistics:by_peer", {**given, "how": how, "n": n_files * times})
    import numpy as np

    stats = np.load(out / "feats_stats.npz")
    bits = b"".join(stats[key].tobytes() for key in ("count", "sum", "sum_square"))
    bits += (out / "feats_shape").read_bytes()
    expected = place / "expected"  # of whoever came first
    if not expected.exists():
        expected.write_bytes(bits)
    if bits != expected.read_bytes():
        raise MeasurementFailed(f"{how}, {workers} workers: other sums or shapes than before")
    seconds = call.returned["seconds"]
    return {RATE: audio / seconds, "seconds": seconds}
