"""The prompts: how they are made and how they are read."""

from .builder import PromptsBuilder as DatasetBuilder
from .dataset import PromptsDataset as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
