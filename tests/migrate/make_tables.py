"""Make ``espnet3/migrate/run/espnet2.json`` of ESPnet2's source distribution.

`python tests/migrate/make_tables.py /path/to/espnet-202611 > espnet3/migrate/run/espnet2.json`
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

from espnet3.migrate.run.options import defaults_of


def tables(root: Path) -> dict:
    scripts = {}
    for path in sorted(root.glob("egs2/TEMPLATE/*/*.sh")):
        text = path.read_text(encoding="utf-8")
        if "parse_options.sh" not in text or not re.search("^stage=", text, re.MULTILINE):
            continue
        scripts[path.name] = {
            name: option.value
            for name, option in defaults_of(text, path.name).items()
            if name not in ("SECONDS", "help_message")
        }
    models = {}
    for path in sorted(root.glob("espnet2/bin/*inference*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
            if not {"__init__", "__call__"} <= set(methods) or path.stem in models:
                continue
            # The class for one item is made of what training has written.
            arguments = [one.arg for one in methods["__init__"].args.args[1:]]
            if any(name.endswith(("model_file", "lm_file")) for name in arguments):
                models[path.stem] = {"class": node.name, "arguments": arguments}
    version = (root / "version.txt").read_text().strip()
    return {"version": version, "scripts": scripts, "models": models}


def text_of(made: dict) -> str:
    """One line per script and per model."""
    parts = []
    for key in ("scripts", "models"):
        lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in made[key].items())
        parts.append(f' "{key}": {{\n' + ",\n".join(lines) + "\n }")
    return f'{{"version": {json.dumps(made["version"])},\n' + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    sys.stdout.write(text_of(tables(Path(sys.argv[1]))))
