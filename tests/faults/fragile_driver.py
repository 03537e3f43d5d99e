"""A driver in a process of its own: `fragile_driver.py PLAN`, where PLAN is a JSON text.

What it ended with goes into a file as data too; the exception itself passes as it would for a user.
"""

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path

from fragile import Fragile, Provider

from espnet3.errors import RunFailed
from espnet3.parallel.parallel import set_parallel


def main(plan: dict) -> None:
    """Run what the plan says."""
    outcome = {"kind": "done", "message": "", "failures": []}
    try:
        set_parallel(plan["parallel"])
        runner = Fragile(
            Provider(plan["log"]),
            batch_size=plan["batch_size"],
            output_dir=plan["out"],
            resume=plan["resume"],
        )
        items = plan["items"]
        runner(items, [len(items) - item for item in items] if plan["by_length"] else None)
    except BaseException as error:
        outcome |= {"kind": type(error).__name__, "message": str(error)}
        if isinstance(error, RunFailed):
            outcome["failures"] = [[f["position"], f["error"]] for f in error.failures]
        raise
    finally:
        target = Path(plan["outcome"])
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(outcome))
        os.replace(temporary, target)


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # for who asks why it does not end
    main(json.loads(sys.argv[1]))
