"""Entry of a measured process: ``python -m benchmarks.child <module:function> <kwargs> <result>``.

It loads nothing but what the function needs, as most of a short process is its imports.
"""

import importlib
import json
import sys


def peak_mib() -> float:
    """Peak resident memory of this process since its start, in MiB; Linux only.

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def main(target: str, kwargs: str, result_path: str) -> None:
    """Call a function and write what it returned (a JSON value) and the peak memory."""
    module, _, name = target.partition(":")
    returned = getattr(importlib.import_module(module), name)(**json.loads(kwargs))
    with open(result_path, "w", encoding="utf-8") as result:
        json.dump({"returned": returned, "peak_mib": peak_mib()}, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
