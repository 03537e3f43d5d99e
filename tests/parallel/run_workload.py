"""A driver of its own, for tests that end it: out log n_items parallel."""

import json
import sys

from workloads import Lines, Provider

from espnet3.parallel.parallel import set_parallel

if __name__ == "__main__":
    out, log, n_items, parallel = sys.argv[1:]
    set_parallel(json.loads(parallel))
    Lines(Provider(log), output_dir=out)(range(int(n_items)))
