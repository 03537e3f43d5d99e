"""An independent implementation of ESPnet3's execution layer for speech recipes."""

from espnet3._conflict import check_single_espnet3

__version__ = "0.1.0"

check_single_espnet3()
