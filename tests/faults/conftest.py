"""The way to the kit's own modules."""

import sys
from pathlib import Path

# Test modules are imported one by one (import-mode=importlib), so a helper needs its path said.
sys.path.insert(0, str(Path(__file__).parent))
