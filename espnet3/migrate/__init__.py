"""An ESPnet2 recipe's cluster set-up carried over to ``parallel:`` blocks; nothing of it is run."""
