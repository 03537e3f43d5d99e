"""Memory, of the host and of a GPU: telling that it ran out, and letting go of it."""

import gc
import sys
import traceback
from contextlib import suppress

_WORDS = (
    "out of memory",
    "_ALLOC_FAILED",  # CUDA's libraries, which cannot get their workspace
    "DefaultCPUAllocator: can't allocate memory",
)
"""What PyTorch's errors say that are no `OutOfMemoryError`."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory; torch is not imported for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def comes_of_memory(error: BaseException) -> bool:
    """Whether that is why an exception was raised: it says so, or one that it was raised from."""
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        if is_out_of_memory(one):
            return True
        seen.add(id(one))
        one = one.__cause__
    return False


def let_go(error: BaseException) -> None:
    """Free what the frames of an exception hold, so that half a batch finds room.

    Local variables of those frames (the batch, the activations) are gone afterwards.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        pending += [one.__cause__, one.__context__]
    free_unused()


def free_unused() -> None:
    """Give back what nothing refers to any more, a GPU's memory too; torch is not imported."""
    gc.collect()
    torch = sys.modules.get("torch")
    # After a CUDA error that stays, this fails as well, and would hide the first one.
    with suppress(RuntimeError):
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
