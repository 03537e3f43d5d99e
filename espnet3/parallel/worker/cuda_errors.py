"""CUDA errors after which a process cannot use its GPU any more; torch is not imported for it."""

from dataclasses import replace

from espnet3.parallel.engine.report import LeaseReport
from espnet3.parallel.worker.memory import is_out_of_memory

_WHOSE = ("cuda", "cublas", "cudnn", "hip error")
_WHAT = (
    # As `cudaGetErrorString` has them, of those errors that stay: each later call gives them again.
    "device-side assert triggered",
    "an illegal memory access was encountered",
    "unspecified launch failure",
    "an illegal instruction was encountered",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "operation not supported on global/shared address space",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error",
    "context is destroyed",
    "unknown error",
    "no CUDA-capable device is detected",
    "device(s) is/are busy or unavailable",
    "GPU is lost",
    "GPU requires reset",
    # What is left of those in a library's own words.
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
)


def is_poisoned(error: BaseException | None) -> bool:
    """Whether an exception, or what it was raised from, says that the GPU is lost to this process.

    CUDA tells of what a kernel did when it is asked for something else, so the item in hand need
    not be the one at fault.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _may_be_cudas(error) and not is_out_of_memory(error):
            text = str(error)
            if any(w in text.lower() for w in _WHOSE) and any(what in text for what in _WHAT):
                return True
        error = error.__cause__ or error.__context__
    return False


def _may_be_cudas(error: BaseException) -> bool:
    """Whether it is of a kind that libraries raise for CUDA: onnxruntime has its own."""
    return isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")


def put_down_to_gpu(report: LeaseReport, error: str) -> LeaseReport:
    """What a worker reports of a lease in which its process lost the GPU.

    The unit in hand is dealt again, in another process, and this one ends. One before it, whose
    result could not be written meanwhile, has failed by itself.
    """
    report, failure = replace(report, cuda_error=error, leaving=True), report.failure
    if failure and failure.step == "write_record" and not is_poisoned(failure.exception):
        return report
    return replace(report, failure=None, poisoned=failure)
