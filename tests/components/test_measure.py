"""The measure stage on inference directories, hand-made and written by a real run."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from espnet3.errors import ConfigError, DataError, RunFailed
from espnet3.parallel.base_runner import BaseRunner, concatenate_shard_files
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import reset_parallel, set_parallel
from espnet3.systems.base.metric import measure, summary_table
from espnet3.utils.scp import write_scp

PROVIDER = """
ITEMS = {
    "clean": {"a": "ONE TWO", "b": "THREE", "c": ""},
    "other": {"d": "FOUR FIVE"},
}

class Items:
    def __init__(self, items):
        self.items = list(items.items())
        self.reads = 0
    def __len__(self):
        return len(self.items)
    def __getitem__(self, i):
        self.reads += 1
        return {"utt_id": self.items[i][0], "text": self.items[i][1], "number": i}
    def durations(self):
        return [2.0] * len(self.items)

class WithColumns(Items):
    def __getitem__(self, i):
        raise RuntimeError("this would read audio")
    def column(self, name):
        return [{"utt_id": utt, "text": text}[name] for utt, text in self.items]

class Provider:
    @staticmethod
    def build_dataset(config):
        kind = WithColumns if config.get("with_columns") else Items
        return kind({**ITEMS, **config.get("more", {})}[config.test_set])
"""
WER = "espnet3.components.metrics.wer.WER"
CER = "espnet3.components.metrics.cer.CER"


@pytest.fixture
def inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An inference config over two test sets, whose hypotheses are all there, with one error."""
    (tmp_path / "measure_provider.py").write_text(PROVIDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "measure_provider", raising=False)
    hypotheses = {"clean": {"a": "ONE TOO", "b": "THREE", "c": "UH"}, "other": {"d": "FOUR FIVE"}}
    for name, texts in hypotheses.items():
        (tmp_path / "inference" / name).mkdir(parents=True)
        write_scp(tmp_path / "inference" / name / "text.scp", texts)
    return OmegaConf.create(
        {
            "inference_dir": str(tmp_path / "inference"),
            "dataset": {"test": [{"name": "clean"}, {"name": "other"}]},
            "provider": {"_target_": "measure_provider.Provider"},
        }
    )


def metrics(*targets: str, **more: Any) -> Any:
    inputs = {"ref": "dataset:text", "hyp": "text"}
    entries = [{"metric": {"_target_": t, "clean_types": None}, "inputs": inputs} for t in targets]
    return OmegaConf.create({"metrics": entries, **more})


def test_results_over_two_test_sets(inference: Any, tmp_path: Path) -> None:
    results = measure(metrics(WER, CER), inference)
    assert results[WER]["clean"]["WER"] == 66.67
    assert results[WER]["other"] == {
        "WER": 0.0,
        "counts": {"words": 2, "hits": 2, "substitutions": 0, "deletions": 0, "insertions": 0},
    }
    total = results["summary"]["total"]
    assert total["metrics"][WER]["WER"] == 40.0
    assert total["metrics"][WER]["counts"]["insertions"] == 1
    assert (total["utterances"], total["scored"], total["audio_seconds"]) == (4, 4, 8.0)
    assert json.loads((tmp_path / "inference/metrics.json").read_text()) == results
    written = {path.name for path in (tmp_path / "inference/clean").iterdir()}
    assert written >= {"wer_alignment.txt", "cer_alignment.txt", "ref.trn", "hyp.trn"}


def test_the_table(inference: Any, tmp_path: Path) -> None:
    results = measure(metrics(WER, CER), inference)
    rows = [
        [c.strip() for c in line.split("│")[1:-1]] for line in summary_table(results).split("\n")
    ]
    assert [row for row in rows if row] == [
        ["clean", "3/3", "3", "66.67", "1/0/1", "25.00", "-", "6.0"],
        ["other", "1/1", "2", "0.00", "0/0/0", "0.00", "-", "2.0"],
        ["total", "4/4", "5", "40.00", "1/0/1", "14.29", "-", "8.0"],
    ]
    markdown = (tmp_path / "inference/metrics.md").read_text()
    assert "| test set | scored | words | WER | S/D/I | CER | RTF | audio [s] |" in markdown
    assert "| total | 4/4 | 5 | 40.00 | 1/0/1 | 14.29 | - | 8.0 |" in markdown


def test_columns_are_used_where_the_data_set_has_them(inference: Any) -> None:
    expected = measure(metrics(WER), inference)
    inference.with_columns = True
    assert measure(metrics(WER), inference) == expected


def test_a_missing_hypothesis_counts_as_deletions_unless_asked_otherwise(inference: Any) -> None:
    write_scp(Path(inference.inference_dir, "clean", "text.scp"), {"b": "THREE", "c": ""})
    results = measure(metrics(WER), inference)
    assert results[WER]["clean"]["counts"]["deletions"] == 2
    assert "clean: scored 2/3 utterances; 1 without a hypothesis counted as" in summary_table(
        results
    )
    results = measure(metrics(WER, missing="ignore"), inference)
    assert results[WER]["clean"] == {
        "WER": 0.0,
        "counts": {"words": 1, "hits": 1, "substitutions": 0, "deletions": 0, "insertions": 0},
    }
    assert "scored 2/3 utterances; 1 without a hypothesis left out" in summary_table(results)


def test_an_entry_may_have_a_name_and_files_of_its_own(inference: Any, tmp_path: Path) -> None:
    config = metrics(WER, WER)
    with pytest.raises(ConfigError, match=r"metrics\[1\].*is taken; give it a `name`"):
        measure(config, inference)
    config.metrics[1].name = "again"
    results = measure(config, inference)
    assert results["again"] == results[WER]
    assert (tmp_path / "inference/clean/again/wer_alignment.txt").is_file()
    assert "again WER" in summary_table(results)


def test_references_that_infer_wrote_need_no_inference_config(inference: Any) -> None:
    directory = Path(inference.inference_dir)
    write_scp(directory / "clean" / "ref.scp", {"a": "ONE TWO", "b": "THREE", "c": ""})
    config = metrics(WER, inference_dir=str(directory), dataset={"test": [{"name": "clean"}]})
    config.metrics[0].inputs = {"ref": "ref", "hyp": "text"}
    assert measure(config)[WER]["clean"]["WER"] == 66.67
    config.metrics[0].inputs.ref = "dataset:text"
    with pytest.raises(DataError, match=r"`dataset:text`.*give it as well"):
        measure(config)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("clean/text.scp", None, "clean/text.scp is missing: run the infer stage"),
        ("clean/text.scp", "a ONE\nz TEN\n", "clean/text.scp: 1 utterances.*first is 'z'"),
        ("other/text.scp", "d A\nd B\n", "other/text.scp, line 2: .*'d' is already on line 1"),
    ],
)
def test_hypotheses_that_do_not_fit_are_refused(
    inference: Any, file: str, content: str | None, message: str
) -> None:
    path = Path(inference.inference_dir, file)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        measure(metrics(WER), inference)
    assert not Path(inference.inference_dir, "metrics.json").exists()


def test_references_that_do_not_fit_are_refused(inference: Any) -> None:
    config = metrics(WER)
    config.metrics[0].inputs.ref = "dataset:words"
    with pytest.raises(DataError, match="'clean', item 0 has no 'words'; it has utt_id, text"):
        measure(config, inference)
    config.metrics[0].inputs.ref = "dataset:number"
    with pytest.raises(DataError, match="ref of utterance 'a' is int, not text"):
        measure(config, inference)
    inference.idx_key = "text"
    with pytest.raises(ValueError, match="'clean', item 0: utterance id 'ONE TWO' holds ' '"):
        measure(metrics(WER), inference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": []}, "`metrics` is to be a list"),
        ({"metrics": [{"inputs": {}}]}, r"metrics\[0\]: it has `metric`, `inputs`"),
        ({"metrics": [{"metric": {"_target_": "builtins.dict"}}]}, r"metrics\[0\].*no BaseMetric"),
        ({"metrics": [{"metric": {"_target_": WER}, "inputs": ["ref"]}]}, "where ref, hyp come"),
        ({"missing": "skip"}, "`deletions` or `ignore`, not 'skip'"),
        ({"inference_dir": "/nowhere/at/all"}, "does not exist; run the infer stage"),
    ],
)
def test_a_wrong_config_is_refused(inference: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure({**metrics(WER), **change}, inference)


class Echo(BaseRunner):
    """Writes text.scp; an item below zero fails."""

    @staticmethod
    def forward(idx: int) -> str:
        if idx < 0:
            raise RuntimeError("cannot decode this")
        return f"{'abc'[idx]} ONE TWO\n"

    @staticmethod
    def open_writers(shard_dir: Path) -> dict[str, Any]:
        return {"text": (shard_dir / "text.scp").open("w")}

    @staticmethod
    def write_record(writers: dict[str, Any], result: str, state: dict[str, Any]) -> None:
        writers["text"].write(result)

    def merge(self, shard_dirs: list[Path]) -> None:
        concatenate_shard_files(shard_dirs, "text.scp", self.run_dir / "text.scp")


class NoEnv(EnvironmentProvider):
    """Builds nothing."""

    def build_env_local(self) -> dict[str, Any]:
        return {}


def test_the_rtf_is_that_of_the_run(inference: Any) -> None:
    Echo(NoEnv({}), output_dir=inference.inference_dir, shard_subdir="clean")(range(3))
    del inference.dataset  # the run's directory is then found by itself
    results = measure(metrics(WER), inference)
    assert list(results[WER]) == ["clean"]
    figures = results["summary"]["test_sets"]["clean"]
    assert figures["audio_seconds"] == 6.0
    assert figures["RTF"] == round(figures["forward_seconds"] / 6.0, 4)


def test_a_run_with_failed_items_is_not_scored(inference: Any) -> None:
    runner = Echo(NoEnv({}), output_dir=inference.inference_dir, shard_subdir="clean")
    with pytest.raises(RunFailed):
        runner([0, 1, -1])
    with pytest.raises(DataError, match=r"clean: the run is not finished \(2 of 3 .* 1 have fail"):
        measure(metrics(WER), inference)


def test_references_from_a_run_that_skipped_items_are_not_trusted(inference: Any) -> None:
    set_parallel({"env": "local", "n_workers": 1}, run={"on_error": "skip"})
    try:
        Echo(NoEnv({}), output_dir=inference.inference_dir, shard_subdir="clean")([0, 1, -1])
    finally:
        reset_parallel()
    inference.dataset.test = [{"name": "clean"}]
    assert measure(metrics(WER), inference)["summary"]["total"]["scored"] == 2
    config = metrics(WER)
    config.metrics[0].inputs = ["ref", "hyp"]
    for name in ("ref", "hyp"):
        write_scp(Path(inference.inference_dir, "clean", f"{name}.scp"), {"a": "X", "b": "Y"})
    with pytest.raises(DataError, match="1 items have failed, and their references are missing"):
        measure(config, inference)
    config.missing = "ignore"
    assert measure(config, inference)[WER]["clean"]["WER"] == 0.0
