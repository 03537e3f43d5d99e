"""A test set that has every utterance several times, under ids of their own."""

from typing import Any

from omegaconf import DictConfig

from espnet3.systems.base.inference_provider import InferenceProvider


class RepeatedProvider(InferenceProvider):
    """Builds the test set of the config ``config.repeat`` times."""

    @staticmethod
    def build_dataset(config: DictConfig) -> Any:
        """Build the test set."""
        return Repeated(InferenceProvider.build_dataset(config), config.repeat)


class Repeated:
    """`times` copies of a data set, one behind the other."""

    def __init__(self, dataset: Any, times: int) -> None:
        self._dataset = dataset
        self._times = times

    def __len__(self) -> int:
        return len(self._dataset) * self._times

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._dataset[index % len(self._dataset)]
        return {**item, "utt_id": self.utt_id(index)}

    def utt_id(self, index: int) -> str:
        """The utterance's own id, and which copy it is."""
        again, inner = divmod(index, len(self._dataset))
        return f"{self._dataset.utt_id(inner)}.{again}"

    def durations(self) -> list[float]:
        """Seconds of every utterance."""
        return list(self._dataset.durations()) * self._times
