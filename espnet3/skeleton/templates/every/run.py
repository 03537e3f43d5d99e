"""Run the stages of this recipe."""

from espnet3.systems.base.system import BaseSystem
from espnet3.systems.launch import launch

if __name__ == "__main__":
    launch(BaseSystem)
