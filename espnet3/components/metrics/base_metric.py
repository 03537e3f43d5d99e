"""What a metric is: counts of one test set, and rates made from counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar


class BaseMetric(ABC):
    """Base of every metric. Counts of test sets add up, so the total over all sets is exact.

    ``inputs`` names what `score` reads; the metrics config says where each comes from::

        metrics:
          - metric:
              _target_: espnet3.components.metrics.wer.WER
            inputs:
              ref: dataset:text     # a field of the test set's items
              hyp: text             # text.scp, which the infer stage wrote
    """

    inputs: ClassVar[tuple[str, ...]] = ("ref", "hyp")

    @abstractmethod
    def score(
        self, data: Mapping[str, Mapping[str, Any]], output_dir: Path | None = None
    ) -> dict[str, float]:
        """Count over one test set.

        Args:
            data: For each name in ``inputs`` its values by utterance id. Inputs from the data set
                have all utterances, in its order. An input that infer wrote may lack some: they
                have no hypothesis, and count as the worst that the metric knows.
            output_dir: Where to write per-utterance detail, if anywhere. It exists.

        Returns:
            Counts or sums; those of several test sets are added.
        """

    @abstractmethod
    def rates(self, counts: Mapping[str, float]) -> dict[str, float | None]:
        """Return what is reported for `counts`, such as ``{"WER": 4.55}``; `None` if undefined."""
