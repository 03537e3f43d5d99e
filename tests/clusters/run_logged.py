"""A driver of its own that says what it does: out log n_items parallel."""

import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "parallel"))

from workloads import Lines, Provider

from espnet3.parallel.parallel import set_parallel

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    out, log, n_items, parallel = sys.argv[1:]
    set_parallel(json.loads(parallel))
    Lines(Provider(log), output_dir=out)(range(int(n_items)))
