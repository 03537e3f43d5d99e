"""The backend that the page on writing one has, as it stands there."""

import re
import sys
from pathlib import Path

import pytest
from workloads import Lines, Provider, lines_of, tell

from espnet3.errors import ConfigError
from espnet3.parallel import clusters, config_check
from espnet3.parallel.backends import modules, watch
from espnet3.parallel.parallel import parallel_session

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-backend.md"


@pytest.fixture
def backend(tmp_path, monkeypatch):
    text = PAGE.read_text()
    for name, body in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)^```", text, re.M | re.S):
        (tmp_path / name).write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    entry = modules.Backend("processes_options", "processes")
    assert 'BACKENDS["processes"] = Backend("processes_options", "processes")' in text
    monkeypatch.setitem(modules.BACKENDS, "processes", entry)
    for module in (clusters, config_check):
        monkeypatch.setattr(module, "ENVS", (*config_check.ENVS, "processes"))
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(watch, "SETTLE", 0.0)
    yield
    for name in ("processes", "processes_options"):
        sys.modules.pop(name, None)


def test_it_does_a_run_of_which_a_worker_is_killed(backend, log, out):
    tell(log, 7, "kill once")
    block = {"env": "processes", "n_workers": 2, "options": {"cores": 1}}
    with parallel_session(block, {"lease_seconds": 1e-6}):
        assert Lines(Provider(log), output_dir=out)(range(20)) == lines_of(range(20))


def test_its_options_are_checked(backend):
    with pytest.raises(ConfigError, match="processes has no such option; did you mean cores"):
        parallel_session({"env": "processes", "options": {"core": 1}}).__enter__()
