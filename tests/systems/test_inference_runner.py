"""`InferenceRunner`: what a model's output becomes, in one process."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet3.errors import ConfigError, DataError, RecordRejected, RunFailed
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_session
from espnet3.systems.base.inference_runner import InferenceRunner
from espnet3.utils.scp import read_scp


class Items(list):
    """A dataset whose items know no id of their own."""


class ItemsWithIds(Items):
    """A dataset that knows its ids."""

    def utt_id(self, index):
        return f"known-{index}"


class Provider(EnvironmentProvider):
    """Gives an env that was made before."""

    def __init__(self, dataset, model, **params):
        super().__init__()
        self.env = {"dataset": dataset, "model": model, "input_key": "x", **params}

    def build_env_local(self):
        return dict(self.env)


def items(n, **fields):
    return Items({"utt_id": f"u{i}", "x": i, **fields} for i in range(n))


def decode(out, dataset, model, batch_size=None, runner=InferenceRunner, hyp_key=(), **params):
    provider = Provider(dataset, model, **params)
    run = runner(provider, output_dir=out, batch_size=batch_size, hyp_key=hyp_key)
    return run(range(len(dataset)))


def hook_env(tmp_path, **env):
    return {"output_dir": str(tmp_path / "out"), "shard_subdir": "", "input_key": "x", **env}


def write_shard(tmp_path, name, records, **env):
    """Write a shard through the hooks, as the engine does."""
    shard_dir = tmp_path / name
    shard_dir.mkdir(parents=True)
    env = hook_env(tmp_path, **env)
    writers = InferenceRunner.open_writers(shard_dir, **env)
    try:
        for record in records:
            InferenceRunner.write_record(writers, record, {"first": 0}, **env)
    finally:
        InferenceRunner.close_writers(writers, {}, **env)
    return shard_dir


def merge(tmp_path, *shard_dirs, hyp_key=()):
    runner = InferenceRunner(Provider([], None), output_dir=tmp_path / "out", hyp_key=hyp_key)
    return runner.merge(list(shard_dirs))


def refusal(tmp_path, record, error=RecordRejected, **env):
    """Write a record that is refused; return the message, having checked that nothing is left."""
    with pytest.raises(error) as caught:
        write_shard(tmp_path, "shard", [record], **env)
    left = [path.name for path in (tmp_path / "shard").rglob("*") if path.is_file()]
    assert left == ["fields.json"]
    return str(caught.value)


# forward


def test_item_and_batch_give_the_same_records():
    env = {"dataset": items(3), "input_key": "x", "output_fn": None}

    def model(x):
        return [{"hyp": str(v)} for v in x] if isinstance(x, list) else {"hyp": str(x)}

    single = [InferenceRunner.forward(i, model=model, **env) for i in range(3)]
    assert InferenceRunner.forward([0, 1, 2], model=model, **env) == single
    assert single[1] == {"hyp": "1", "utt_id": "u1"}


def test_several_inputs_and_model_kwargs_are_passed_by_name():
    env = {"input_key": ["a", "b"], "model_kwargs": {"beam": 3}}
    dataset = Items([{"a": 1, "b": 2, "c": 9}])
    got = InferenceRunner.forward(0, dataset, lambda **kw: {"hyp": str(kw)}, **env)
    assert got["hyp"] == "{'a': 1, 'b': 2, 'beam': 3}"


@pytest.mark.parametrize(
    ("dataset", "output", "idx_key", "utt_id"),
    [
        (Items([{"x": 1, "utt_id": "item"}]), {"h": "a", "utt_id": "output"}, "utt_id", "output"),
        (ItemsWithIds([{"x": 1, "utt_id": "item"}]), {"h": "a"}, "utt_id", "item"),
        (ItemsWithIds([{"x": 1}]), {"h": "a"}, "utt_id", "known-0"),
        (Items([{"x": 1}]), {"h": "a"}, "utt_id", "0"),
        (Items([{"x": 1, "uid": "item", "utt_id": "other"}]), {"h": "a"}, "uid", "item"),
    ],
)
def test_where_the_utterance_id_comes_from(dataset, output, idx_key, utt_id):
    env = {"input_key": "x", "idx_key": idx_key}
    assert InferenceRunner.forward(0, dataset, lambda x: output, **env)[idx_key] == utt_id


def test_prepare_output_fn_and_format_output_are_called_in_this_order():
    class Mine(InferenceRunner):
        @staticmethod
        def prepare_model_inputs(inputs):
            return {"speech": inputs["x"] + 1}

        @staticmethod
        def format_output(result, *, batched):
            return {"hyp": f"{result} {batched}"}

    def output_fn(*, data, model_output, idx):
        return f"{data['utt_id']} {model_output} {idx}"

    got = Mine.forward(1, items(2), lambda speech: speech * 10, input_key="x", output_fn=output_fn)
    assert got == {"hyp": "u1 20 1 False", "utt_id": "u1"}


def test_plain_string_is_taken_where_there_is_one_field():
    env = {"input_key": "x", "output_keys": ["hyp"]}
    got = InferenceRunner.forward(0, items(1), lambda x: "a b", **env)
    assert got == {"hyp": "a b", "utt_id": "u0"}
    with pytest.raises(TypeError, match="utterance 'u0': the model's output is str, not a dict"):
        InferenceRunner.forward(0, items(1), lambda x: "a b", input_key="x")


@pytest.mark.parametrize("output", [{"hyp": ["a", "b"]}, [{"hyp": "a"}], ("a", "b", "c")])
def test_batch_without_one_dict_per_item_says_so(output):
    with pytest.raises(TypeError, match="batch of 2 items.*one dict for each item.*batch_size"):
        InferenceRunner.forward([0, 1], items(2), lambda x: output, input_key="x")


def test_missing_input_names_item_and_what_is_there():
    with pytest.raises(DataError, match="dataset item 0 has no 'speech'.*utt_id, x"):
        InferenceRunner.forward(0, items(1), None, input_key="speech")
    with pytest.raises(ConfigError, match="input_key: is not set"):
        InferenceRunner.forward(0, items(1), None)


# what may stand in a record


def test_scalars_stand_in_the_line(tmp_path):
    record = {
        "utt_id": "u", "s": " a  b ", "e": "", "i": 3, "f": 0.1, "b": True,
        "n": np.float64(0.5), "z": np.array(7), "t": np.str_("é 😀"),
    }  # fmt: skip
    merge(tmp_path, write_shard(tmp_path, "split.1", [record]))
    lines = {p.stem: p.read_text("utf-8") for p in (tmp_path / "out").glob("*.scp")}
    assert lines == {
        "s": "u  a  b \n", "e": "u \n", "i": "u 3\n", "f": "u 0.1\n", "b": "u True\n",
        "n": "u 0.5\n", "z": "u 7\n", "t": "u é 😀\n",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is None"),
        (["a"], "a list is no single value"),
        (("a",), "a tuple is no single value"),
        (object(), r"\{type: pickle\}"),
        (1j, "type complex is not stored"),
        ("a\nb", "U\\+000A"),
        ("a\u2028u2 b", "U\\+2028"),
        ("a\x85b", "U\\+0085"),
        ("a\r", "U\\+000D"),
        ("a\x00", "U\\+0000"),
        ("\ud800", "U\\+D800"),
    ],
)
def test_values_that_are_refused_name_utterance_and_field(tmp_path, value, message):
    text = refusal(tmp_path, {"utt_id": "u1", "first": "fine", "hyp": value})
    assert "utterance 'u1', field 'hyp'" in text
    assert re.search(message, text)


@pytest.mark.parametrize("utt_id", ["", "a b", "../x", "a/b", "a\n", "..", "\ud800", 7])
def test_ids_that_could_be_something_else_are_refused(tmp_path, utt_id):
    assert "utterance id" in refusal(tmp_path, {"utt_id": utt_id, "hyp": "a"})


@pytest.mark.parametrize(
    "name", ["a/b", "..", "logs", "manifest", "split.0", "hyp.trn", "é", "", 3, "x.scp", "done"]
)
def test_field_names_that_could_be_something_else_are_refused(tmp_path, name):
    assert "'u': " in refusal(tmp_path, {"utt_id": "u", name: "a"})


def test_record_without_id_or_fields_or_of_another_type(tmp_path):
    assert "no utterance id under 'utt_id'" in refusal(tmp_path / "1", {"hyp": "a"})
    assert "no field beside its id" in refusal(tmp_path / "2", {"utt_id": "u"})
    assert "returned str, not a dict" in refusal(tmp_path / "3", "text")


def test_output_keys_select_and_what_is_missing_is_named(tmp_path):
    record = {"utt_id": "u", "hyp": "a", "score": 1.0, "odd": object()}
    shard = write_shard(tmp_path, "split.1", [record], output_keys=["hyp"])
    assert sorted(p.name for p in shard.iterdir()) == ["fields.json", "hyp.scp"]
    text = refusal(tmp_path, record, output_keys=["hyp", "text"])
    assert text == (
        "utterance 'u': output_keys names 'text', but the output has only 'utt_id', 'hyp', "
        "'score', 'odd'"
    )


def test_refused_batch_writes_nothing_of_any_item(tmp_path):
    good = {"utt_id": "a", "hyp": "a", "feats": np.zeros(3)}
    text = refusal(tmp_path, [good, {"utt_id": "b", "hyp": None, "feats": np.zeros(3)}])
    assert "utterance 'b'" in text


def test_records_after_a_refused_one_are_written(tmp_path):
    shard_dir = tmp_path / "split.1"
    shard_dir.mkdir()
    env = hook_env(tmp_path)
    writers = InferenceRunner.open_writers(shard_dir, **env)
    for value in ("a", None, "b"):
        try:
            InferenceRunner.write_record(writers, {"utt_id": f"u{value}", "hyp": value}, {}, **env)
        except RecordRejected:
            assert value is None
    InferenceRunner.close_writers(writers, {}, **env)
    assert (shard_dir / "hyp.scp").read_text() == "ua a\nub b\n"
    assert json.loads((shard_dir / "fields.json").read_text())["fields"]["hyp"]["lines"] == 2


# files


AUDIO = {"wav": {"type": "wav", "sample_rate": 8000}}


def test_files_are_published_under_the_path_that_the_line_names(tmp_path):
    records = [
        {"utt_id": f"sp0.9-u{i}", "wav": np.zeros(8), "meta": {"i": i}, "post": np.ones((1, i))}
        for i in range(2)
    ]
    shards = [
        write_shard(tmp_path / "out", f"split.{i}", [record], output_artifacts=AUDIO,
                    output_dir=str(tmp_path / "out"))
        for i, record in enumerate(records)
    ]  # fmt: skip
    assert merge(tmp_path, *shards) is True
    out = tmp_path / "out"
    wav, meta = read_scp(out / "wav.scp"), read_scp(out / "meta.scp")
    assert wav["sp0.9-u1"] == (out / "wav" / "sp0.9-u1.wav").as_posix()
    assert soundfile.info(wav["sp0.9-u0"]).samplerate == 8000
    assert json.loads(Path(meta["sp0.9-u1"]).read_text("utf-8")) == {"i": 1}
    assert np.load(out / "post" / "sp0.9-u1.npy").shape == (1, 1)
    assert not (out / "text").exists()
    before = sorted((p, p.stat().st_ino) for p in (out / "wav").iterdir())
    merge(tmp_path, *shards)
    assert sorted((p, p.stat().st_ino) for p in (out / "wav").iterdir()) == before


def test_files_are_copied_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError("not supported")

    monkeypatch.setattr("os.link", no_links)
    shard = write_shard(tmp_path, "split.1", [{"utt_id": "u", "post": np.ones(2)}])
    merge(tmp_path, shard)
    assert np.load(tmp_path / "out" / "post" / "u.npy").tolist() == [1.0, 1.0]
    assert [p.name for p in (tmp_path / "out" / "post").iterdir()] == ["u.npy"]


@pytest.fixture
def custom(tmp_path, monkeypatch):
    (tmp_path / "my_writers.py").write_text(
        "from pathlib import Path\n"
        "def write(value, output_path):\n"
        "    Path(f'{output_path}.extra').write_text('beside')\n"
        "    path = Path(f'{output_path}.lab')\n"
        "    path.write_text(str(value))\n"
        "    if value == 'bad': raise ValueError('no good')\n"
        "    return path\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return {"lab": {"writer": {"_target_": "my_writers.write"}}}


def test_custom_writer_is_published_with_what_lies_beside(tmp_path, custom):
    records = [{"utt_id": "u1", "lab": "x"}, {"utt_id": "u2", "lab": {"a": 1}}]
    shard = write_shard(tmp_path, "split.1", records, output_artifacts=custom)
    merge(tmp_path, shard)
    out = tmp_path / "out"
    assert read_scp(out / "lab.scp")["u1"] == (out / "lab" / "u1.lab").as_posix()
    assert sorted(p.name for p in (out / "lab").iterdir()) == [
        "u1.extra", "u1.lab", "u2.extra", "u2.lab",
    ]  # fmt: skip
    assert not (shard / ".staging").exists()


def test_custom_writer_that_fails_leaves_nothing(tmp_path, custom):
    text = refusal(tmp_path, {"utt_id": "u", "lab": "bad"}, output_artifacts=custom)
    assert "my_writers.write failed: ValueError: no good" in text


def test_field_called_text_cannot_hold_files(tmp_path):
    assert "name it otherwise" in refusal(tmp_path, {"utt_id": "u", "text": {"a": 1}})


# merge


def test_kaldi_and_sclite_files(tmp_path):
    records = [
        {"utt_id": "u1", "hyp": "HELLO WORLD", "ref": "HELLO", "score": 1.0},
        {"utt_id": "u2", "hyp": "", "ref": "A", "score": 2.0},
    ]
    merge(tmp_path, *(write_shard(tmp_path, f"split.{i}", [r]) for i, r in enumerate(records)))
    out = tmp_path / "out"
    assert (out / "text").read_text() == "u1 HELLO WORLD\nu2 \n"
    assert (out / "hyp.trn").read_text() == "HELLO WORLD (u1)\n (u2)\n"
    assert (out / "ref.trn").read_text() == "HELLO (u1)\nA (u2)\n"
    assert (out / "score.scp").read_text() == "u1 1.0\nu2 2.0\n"


@pytest.mark.parametrize(
    ("fields", "declared", "expected"),
    [
        ({"hyp": "h", "text": "t"}, (), "h"),
        ({"text": "t"}, (), "t"),
        ({"lang": "en", "sent": "s"}, "sent", "s"),
        ({"lang": "en", "hyp": "h"}, ["lang", "hyp"], "h"),
        ({"score": 1.0}, ["score"], None),
        ({"lang": "en", "sent": "s"}, (), None),
    ],
)
def test_which_field_is_the_hypothesis(tmp_path, fields, declared, expected):
    shard = write_shard(tmp_path, "split.1", [{"utt_id": "u", **fields}])
    merge(tmp_path, shard, hyp_key=declared)
    text = tmp_path / "out" / "text"
    assert (text.read_text() if text.exists() else None) == (expected and f"u {expected}\n")


def published(folder):
    return sorted(p.name for p in folder.rglob("*")) if folder.exists() else []


def test_field_missing_in_some_items_names_the_first(tmp_path):
    def record(i, *names):
        return {"utt_id": f"u{i}", "hyp": "a", **dict.fromkeys(names, "x")}

    both = write_shard(tmp_path, "split.1", [record(0, "nbest"), record(1, "nbest"), record(2)])
    none = write_shard(tmp_path, "split.2", [record(3), record(4)])
    late = write_shard(tmp_path, "split.3", [record(5), record(6, "nbest")])
    for shards, culprit in (
        ((both, none), "'u2' (position 2); 2 of 5"),
        ((none, both), "'u3' (position 0); 2 of 5"),
        ((late,), "'u5' (position 0); 1 of 2"),
    ):
        with pytest.raises(DataError) as caught:
            merge(tmp_path, *shards)
        assert f"field 'nbest' is missing for utterance {culprit}" in str(caught.value)
    assert published(tmp_path / "out") == []


def test_id_that_comes_twice_names_both_positions(tmp_path):
    shards = [
        write_shard(tmp_path, f"split.{i}", [{"utt_id": u, "hyp": "a"} for u in ids])
        for i, ids in enumerate((["a", "b"], ["c"], ["d", "b"]))
    ]
    with pytest.raises(DataError, match="utterance id 'b' comes twice, at positions 1 and 4"):
        merge(tmp_path, *shards)
    # With skipped items, positions are those of the engine's records.
    for shard, first in zip(shards, (0, 5, 9), strict=True):
        n = len((shard / "hyp.scp").read_text().splitlines())
        (shard / "done").write_text(json.dumps({"first": first, "last": first + n - 1}))
    with pytest.raises(DataError, match="at positions 1 and 10"):
        merge(tmp_path, *shards)
    assert published(tmp_path / "out") == []


def test_shard_with_other_than_one_record_per_item_is_refused(tmp_path):
    shard = write_shard(tmp_path, "split.1", [{"utt_id": u, "hyp": "a"} for u in "ab"])
    (shard / "done").write_text('{"first": 7, "last": 7}')
    with pytest.raises(DataError, match="2 records for 1 items"):
        merge(tmp_path, shard)


def test_shard_without_records_counts_nothing(tmp_path):
    empty = write_shard(tmp_path, "split.1", [])
    assert json.loads((empty / "fields.json").read_text())["fields"] == {}
    merge(tmp_path, empty, write_shard(tmp_path, "split.2", [{"utt_id": "u", "hyp": "a"}]))
    assert (tmp_path / "out" / "hyp.scp").read_text() == "u a\n"


# whole runs


def model(x):
    if isinstance(x, list):
        return [model(one) for one in x]
    return {"hyp": f"TEXT {x}", "post": np.full(2, x), "meta": {"x": x}}


def content(out):
    """Bytes of everything published, by name below the run directory."""
    return {
        str(path.relative_to(out)): path.read_bytes().replace(str(out).encode(), b"OUT")
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix in (".scp", ".trn", ".npy", ".json", "")
        and not path.relative_to(out).parts[0].startswith(("split.", "manifest", "lock", "logs"))
    }  # fmt: skip


def test_same_bytes_for_single_items_and_batches(tmp_path):
    dataset = items(7)
    assert decode(tmp_path / "one", dataset, model) is True
    assert decode(tmp_path / "three", dataset, model, batch_size=3) is True
    one, three = content(tmp_path / "one"), content(tmp_path / "three")
    assert one == three
    assert one["hyp.scp"] == b"".join(b"u%d TEXT %d\n" % (i, i) for i in range(7))
    assert {"text", "hyp.trn", "post/u3.npy", "meta/u3.json"} < one.keys()


def test_limited_run_is_completed_by_the_next(tmp_path):
    with parallel_session(run={"limit": 3}):
        assert decode(tmp_path / "out", items(5), model) is None
    assert not (tmp_path / "out" / "hyp.scp").exists()
    calls = []

    def counting(x):
        calls.append(x)
        return model(x)

    decode(tmp_path / "out", items(5), counting)
    assert calls == [3, 4]
    decode(tmp_path / "all", items(5), model)
    assert content(tmp_path / "out") == content(tmp_path / "all")


def test_bad_record_costs_its_utterance_alone(tmp_path):
    def odd(x):
        return {"hyp": "a\nb"} if x == 2 else {"hyp": f"TEXT {x}"}

    with pytest.raises(RunFailed, match=r"(?s)1 of 5 items failed.*\n.*'u2', field 'hyp'"):
        decode(tmp_path / "out", items(5), odd)
    assert not (tmp_path / "out" / "hyp.scp").exists()
    with parallel_session(run={"on_error": "skip"}):
        decode(tmp_path / "out", items(5), odd)
    assert list(read_scp(tmp_path / "out" / "hyp.scp")) == ["u0", "u1", "u3", "u4"]


def test_bad_item_of_a_batch_stands_alone(tmp_path):
    def odd(x):
        return [{"hyp": None if v == 2 else f"TEXT {v}"} for v in x]

    with parallel_session(run={"on_error": "skip"}):
        decode(tmp_path / "out", items(8), odd, batch_size=4)
    assert list(read_scp(tmp_path / "out" / "hyp.scp")) == [f"u{i}" for i in range(8) if i != 2]


def test_forward_of_ones_own_works_with_the_writers(tmp_path):
    class Mine(InferenceRunner):
        @staticmethod
        def forward(idx, dataset, model, **env):
            return {"utt_id": dataset[idx]["utt_id"], "hyp": "own"}

    decode(tmp_path / "out", items(2), None, runner=Mine)
    assert (tmp_path / "out" / "hyp.scp").read_text() == "u0 own\nu1 own\n"
