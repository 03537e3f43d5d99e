"""Damaged recipes of ESPnet2's source distribution; not part of the default run, as beside."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from espnet3.migrate.recipe import migrate
from espnet3.migrate.report import report

ROOT = os.environ.get("ESPNET2", "")
pytestmark = [
    pytest.mark.espnet2,
    pytest.mark.skipif(not ROOT, reason="ESPNET2 names no source distribution of ESPnet2"),
]
EGS = Path(ROOT) / "egs2"
PIECES = b"' ` $( ${ ) } \\ \n \r \xff \0 (( <<EOF\n | ;; && # ${a[@] $(( { * [ ~ ! = +=(".split(
    b" "
)
WORDS = [b"case x in\n", b"if ", b"for i in ", b"done\n", b"fi\n", b"esac\n", b"\xef\xbb\xbf"]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Bytes that are cut, doubled, replaced and in another order."""
    held = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        at = draw.randrange(len(held) + 1)
        what = draw.choice(["leave out", "double", "cut", "insert", "flip", "shuffle"])
        if what == "leave out":
            del held[at : at + draw.choice([1, 3, 50])]
        elif what == "double":
            held[at:at] = held[at : at + draw.choice([1, 10, 300])]
        elif what == "cut":
            del held[at:]
        elif what == "insert":
            held[at:at] = draw.choice([b'"', *PIECES, *WORDS])
        elif what == "flip" and at < len(held):
            held[at] ^= 1 << draw.randrange(8)
        elif what == "shuffle":
            lines = bytes(held).split(b"\n")
            draw.shuffle(lines)
            held = bytearray(b"\n".join(lines))
    return bytes(held)


@pytest.mark.timeout(900)
def test_damaged_recipes_are_reported(tmp_path, record_property):
    recipes = sorted({p.parent for p in EGS.glob("*/*/run.sh") if (p.parent / "cmd.sh").exists()})
    for seed in range(300):
        draw = random.Random(seed)
        recipe = tmp_path / str(seed)
        shutil.copytree(draw.choice(recipes), recipe)
        names = ["cmd.sh", *(path.name for path in sorted(recipe.glob("run*.sh")))]
        others = [path for path in sorted(recipe.rglob("*")) if path.suffix in (".sh", ".conf")]
        chosen = [recipe / name for name in names] + draw.sample(others, min(2, len(others)))
        for path in draw.sample(chosen, draw.randint(1, len(chosen))):
            path.write_bytes(damaged(path.read_bytes(), draw))
        assert report(migrate(recipe)), seed
        shutil.rmtree(recipe)
    record_property("damaged", 300)
