"""Files that the config of a runner of one's own names are part of what its run is."""

import os
from pathlib import Path

import pytest
from workloads import Provider, Squares, forwards

from espnet3.errors import EnvBuildError, IdentityChanged
from espnet3.parallel.parallel import parallel_session


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "exp" / "model.pth"
    path.parent.mkdir()
    path.write_bytes(b"first")
    return path


def omegaconf(**config):
    from omegaconf import OmegaConf

    return OmegaConf.create(config)


def call(log, out, n=4, limit=None, **config):
    """Do `n` items; the provider's config holds the log and what is given."""
    provider = Provider(log, **config)
    with parallel_session(run={"limit": limit}):
        return Squares(provider, output_dir=out)(range(n))


def retrain(checkpoint):
    """Other bytes, as many, at another time."""
    time = checkpoint.stat().st_mtime_ns + 1
    checkpoint.write_bytes(bytes(reversed(checkpoint.read_bytes())))
    os.utime(checkpoint, ns=(time, time))


WAYS_TO_NAME = {
    "absolute": ("checkpoint", lambda path: {"checkpoint": str(path)}),
    "relative": ("checkpoint", lambda path: {"checkpoint": "exp/model.pth"}),
    "a Path": ("checkpoint", lambda path: {"checkpoint": path}),
    "in a list": ("model.files[1]", lambda path: {"model": {"files": ["exp/none", str(path)]}}),
    "behind a long list": (
        "last",
        lambda path: {"wavs": [f"wav/{i}.wav" for i in range(1000)], "last": str(path)},
    ),
}


@pytest.mark.parametrize("way", WAYS_TO_NAME)
def test_retrained_checkpoint_refuses_to_go_on(log, out, checkpoint, way):
    key, config_for = WAYS_TO_NAME[way]
    config = config_for(checkpoint)
    call(log, out, limit=2, **config)
    call(log, out, limit=3, **config)
    retrain(checkpoint)
    with pytest.raises(IdentityChanged) as refusal:
        call(log, out, **config)
    where, _, change = str(refusal.value).splitlines()[1].partition(": ")
    assert where == f"  config_files.{key}"
    assert change.startswith("model.pth, 5 bytes, modified ")
    assert " -> model.pth, 5 bytes, modified " in change
    assert forwards(log) == [0, 1, 2]


def test_interpolated_path_is_resolved(log, out, checkpoint):
    class Omega(Provider):
        def __init__(self, log, **config):
            super().__init__(log)
            self.config = omegaconf(log=str(log), **config)

        def build_env_local(self):
            return {"log": self.config.log}

    def run(limit):
        with parallel_session(run={"limit": limit}):
            config = {"exp": "exp", "model": "${exp}/model.pth", "same": "${model}", "no": "${x}/a"}
            return Squares(Omega(log, **config), output_dir=out)(range(4))

    run(2)
    retrain(checkpoint)
    with pytest.raises(IdentityChanged, match=r"config_files\.model: model\.pth") as refusal:
        run(4)
    assert "same" not in str(refusal.value)


def test_accepted_checkpoint_is_the_one_that_counts(log, out, checkpoint):
    call(log, out, limit=2, checkpoint=checkpoint)
    other = checkpoint.with_name("other.pth")
    other.write_bytes(b"other one")
    with parallel_session(run={"accept_changes": True, "limit": 3}):
        Squares(Provider(log, checkpoint=other, lm=checkpoint), output_dir=out)(range(4))
    retrain(other)
    retrain(checkpoint)
    with pytest.raises(IdentityChanged) as refusal:
        call(log, out, checkpoint=other, lm=checkpoint)
    assert "config_files.checkpoint: other.pth" in str(refusal.value)
    assert "config_files.lm: model.pth" in str(refusal.value)


def test_checkpoint_that_is_gone_refuses_to_go_on(log, out, checkpoint):
    call(log, out, limit=2, checkpoint=checkpoint)
    checkpoint.unlink()
    with pytest.raises(IdentityChanged, match=r"config_files\.checkpoint: model.*-> \(not set\)"):
        call(log, out, checkpoint=checkpoint)


class Journaling(Squares):
    @staticmethod
    def forward(idx, log, journal):
        with open(journal, "a") as f:
            f.write(f"{idx}\n")
        return Squares.forward(idx, log)


def test_what_the_run_itself_writes_changes_nothing(log, out, tmp_path):
    journal = tmp_path / "journal.txt"
    runner = Journaling(Provider(log, journal=str(journal)), output_dir=out)
    for limit in (1, 2, 3):
        with parallel_session(run={"limit": limit}):
            runner(range(4))
    assert runner(range(4)) == runner(range(4)) == [0, 1, 4, 9]
    assert journal.read_text() == "0\n1\n2\n3\n"


@pytest.mark.parametrize("where", ["in the run's directory", "in a directory", "in a place"])
def test_files_that_decide_nothing(log, out, checkpoint, where):
    out.mkdir()
    written = out / "written.txt" if where == "in the run's directory" else checkpoint
    config = {
        "in the run's directory": {"written": str(written)},
        "in a directory": {"exp": str(checkpoint.parent), "name": "model"},
        "in a place": {"paths": {"exp_dir": str(checkpoint)}},
    }[where]
    Path("model").touch()
    written.write_bytes(b"first")
    call(log, out, limit=2, **config)
    retrain(written)
    retrain(Path("model"))
    assert call(log, out, **config) == [0, 1, 4, 9]


def test_checkpoint_that_came_after_the_first_start_counts(log, out, tmp_path):
    class Loading(Provider):
        def build_env_local(self):
            Path(self.config["checkpoint"]).read_bytes()
            return super().build_env_local()

    checkpoint = tmp_path / "model.pth"
    runner = Squares(Loading(log, checkpoint=str(checkpoint)), output_dir=out)
    with parallel_session(run={"limit": 2}):
        with pytest.raises(EnvBuildError):
            runner(range(4))
        checkpoint.write_bytes(b"first")
        runner(range(4))
    retrain(checkpoint)
    with pytest.raises(IdentityChanged, match=r"config_files\.checkpoint"):
        runner(range(4))
