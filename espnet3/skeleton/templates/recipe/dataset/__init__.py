"""The data of @corpus@: how they are made and how they are read."""

from .builder import Builder as DatasetBuilder
from .dataset import Dataset

__all__ = ["Dataset", "DatasetBuilder"]
