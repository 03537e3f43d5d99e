"""The excerpt of AN4: how it is made and how it is read."""

from .builder import MiniAn4Builder as DatasetBuilder
from .dataset import MiniAn4Dataset as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
