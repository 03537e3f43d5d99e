"""How much of what a batched model computes is padding: by count, by length, by seconds.

Nothing is timed: it is the plan of the engine over durations as corpora have them.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.gpu_corpus import LENGTHS
from benchmarks.measure import Options, Table
from espnet3.parallel.engine.padding import padding_of
from espnet3.parallel.engine.work import Work

WINDOWS = (64, 256, 1024, 4096, 16384)
AS_USED = "the size that is chosen"
BATCH_SIZE = 16
MOST = 256  # items of a batch that ends by seconds
N_ITEMS = 28_000  # as LibriSpeech's train-clean-100


def run(options: Options) -> list[Table]:
    """One table for each distribution of lengths."""
    n_items = 2_000 if options.quick else N_ITEMS
    return [_table(name, _repeated(name, n_items)) for name in LENGTHS]


def _repeated(name: str, n_items: int) -> list[float]:
    """Lengths of so many items; a corpus that is smaller comes again."""
    rng = np.random.default_rng(1)
    seconds = LENGTHS[name](rng)
    if name == "prompts":
        return list(seconds)  # real ones, as many as there are
    while len(seconds) < n_items:
        seconds += LENGTHS[name](rng)
    return list(seconds[:n_items])


def _table(name: str, seconds: Sequence[float]) -> Table:
    hours = sum(seconds) / 3600
    title = f"{name}: {len(seconds)} items, {hours:.1f} h, mean {np.mean(seconds):.1f} s"
    by_count = Work(len(seconds), BATCH_SIZE, durations=seconds)
    most_seconds = BATCH_SIZE * float(np.mean(seconds))
    table = Table(f"{title}; batches of {BATCH_SIZE}, or of {most_seconds:.0f} s", compared=False)
    reference = padding_of(by_count.by_count(), seconds).padded
    for seconds_of_batch in (None, most_seconds):
        size = BATCH_SIZE if seconds_of_batch is None else MOST
        how = "" if seconds_of_batch is None else ", batch_seconds"
        for window in (None, *WINDOWS, AS_USED):
            work = Work(
                n_positions=len(seconds),
                batch_size=size,
                durations=seconds,
                batch_seconds=seconds_of_batch,
                any_order=window is not None,
                window=window if isinstance(window, int) else None,
            )
            order = work.new_order()
            padding = padding_of(work.plan(order), work.seconds(order) or ())
            who = "as given" if window is None else f"windows of {window}"
            table.rows[who + how] = [
                {
                    "padding, %": 100 * padding.share,
                    "times as fast as by count": reference / padding.padded,
                    "batches": padding.n_batches,
                }
            ]
    return table
