"""Lives of runs in real processes under random faults.

python tests/faults/run.py SEED               one life, told event by event
python tests/faults/run.py --seeds 0:1000     many, and the figures
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from life import live


def _try(root: Path, seed: int) -> tuple[int, Counter[str], str]:
    try:
        return seed, live(root / str(seed), seed), ""
    except Exception as error:
        text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
        return seed, Counter(), text


def figures(counts: Counter[str]) -> str:
    """The counts of many lives, for people."""
    kills = max(1, counts["_kills"])
    lines = [f"{kind:32} {n:7}" for kind, n in sorted(counts.items()) if kind[0] != "_"]
    again, seconds = counts["_positions"] / kills, counts["_microseconds"] / 1e6 / kills
    return "\n".join(
        [*lines, f"done again per kill: {again:.2f} positions, {1000 * seconds:.1f} ms"]
        + [f"({counts['_kills']} processes were killed with items begun)"]
    )


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("--seeds", help="FIRST:STOP")
    parser.add_argument("--jobs", type=int, default=2, help="lives at the same time")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="espnet3-faults."))
    if arguments.seeds is None:
        if arguments.seed is None:
            parser.error("give a seed, or --seeds FIRST:STOP")
        sys.stdout.write(
            figures(live(root / str(arguments.seed), arguments.seed, echo=True)) + "\n"
        )
        return 0
    first, stop = map(int, arguments.seeds.split(":"))
    counts: Counter[str] = Counter()
    failed, longest = [], (0, 0)
    began = time.monotonic()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for seed, done, error in pool.map(_try, [root] * (stop - first), range(first, stop)):
            longest = max((done.pop("_longest", 0), seed), longest)
            counts += done
            counts["schedules"] += 1
            if error:
                failed.append(seed)
                sys.stdout.write(f"seed {seed} (see {root / str(seed)}):\n{error}\n\n")
                sys.stdout.flush()
    took = time.monotonic() - began
    sys.stdout.write(
        f"{figures(counts)}\n{took:.0f} s, the longest {longest[0]} s (seed {longest[1]}); "
        f"broken: {failed or 'none'}\n"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
