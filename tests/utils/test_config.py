"""Loading configs: layers, overrides, resolvers, and what the errors say."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from espnet3.errors import ConfigError
from espnet3.utils.config import load_config, resolve


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def plain(config):
    return OmegaConf.to_container(config, resolve=True)


def test_defaults_merge_in_order_and_self_comes_last(write):
    write("base.yaml", "a: 1\nb: 1\n")
    write("model/small.yaml", "size: 2\ndepth: 2\n")
    main = write(
        "main.yaml",
        "defaults:\n  - base\n  - model: small\n  - optim: null\nb: 2\nmodel: {size: 3}\n",
    )
    assert plain(load_config([main])) == {"a": 1, "b": 2, "model": {"size": 3, "depth": 2}}


def test_self_in_the_middle_of_defaults_is_overlaid_by_what_follows(write):
    write("late.yaml", "a: late\n")
    main = write("main.yaml", "defaults: [_self_, late]\na: own\n")
    assert load_config([main]).a == "late"


def test_defaults_of_defaults_are_relative_to_their_own_file(write):
    write("model/base.yaml", "depth: 1\n")
    write("model/big.yaml", "defaults: [base]\nsize: 9\n")
    main = write("main.yaml", "defaults:\n  - model: big\n")
    assert plain(load_config([main])) == {"model": {"depth": 1, "size": 9}}


def test_default_with_a_slash_is_a_path_beside_the_file(write):
    write("tuning/fast.yaml", "beam: 1\n")
    main = write("main.yaml", "defaults:\n  - decode: tuning/fast\n")
    assert load_config([main]).decode.beam == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: base\n", "must be a list"),
        ("defaults: [main]\n", "circle"),
        ("defaults:\n  - override model: big\n", "no override"),
        ("defaults:\n  - model@x: big\n", "@package"),
        ("defaults: [3]\n", "expected a name"),
        ("defaults: [_self_, _self_]\n", "twice"),
    ],
)
def test_wrong_defaults_are_refused_by_file(write, text, message):
    main = write("main.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config([main])
    assert str(main) in str(caught.value)


def test_overlay_with_another_env_replaces_options(write):
    low = write("low.yaml", "parallel: {env: slurm, n_workers: 4, options: {queue: q, cores: 2}}\n")
    other = write("other.yaml", "parallel: {env: pbs, options: {project: p}}\n")
    bare = write("bare.yaml", "parallel: {env: local}\n")
    same = write("same.yaml", "parallel: {env: slurm, options: {cores: 8}}\n")
    silent = write("silent.yaml", "parallel: {options: {cores: 8}}\n")
    block = {"env": "slurm", "n_workers": 4, "options": {"queue": "q", "cores": 8}}

    assert plain(load_config([low, other]).parallel) == {
        "env": "pbs",
        "n_workers": 4,
        "options": {"project": "p"},
    }
    assert plain(load_config([low, bare]).parallel) == {"env": "local", "n_workers": 4}
    assert plain(load_config([low, same]).parallel) == block
    assert plain(load_config([low, silent]).parallel) == block


def test_defaults_layer_and_override_with_another_env_replace_options_too(write):
    write("parallel/slurm.yaml", "env: slurm\nn_workers: 4\noptions: {queue: q}\n")
    main = write(
        "main.yaml", "defaults:\n  - parallel: slurm\nparallel: {env: local, options: {a: 1}}\n"
    )
    assert plain(load_config([main]).parallel.options) == {"a": 1}
    assert "options" not in load_config([main], ["parallel.env=pbs"]).parallel


def test_overrides_are_typed_as_yaml_and_reach_into_lists(write):
    main = write("main.yaml", "a: 1\nb: {c: x}\ntest: [{name: one}, {name: two}]\n")
    config = load_config(
        [main],
        ["a=2.5", "b.c=[1, yes]", "test.1.name=zwei", "test[0].name=eins", "+b.d={e: null}"],
    )
    assert plain(config) == {
        "a": 2.5,
        "b": {"c": [1, True], "d": {"e": None}},
        "test": [{"name": "eins"}, {"name": "zwei"}],
    }


def test_override_of_unknown_key_names_near_ones_and_the_way_to_add_it(write):
    main = write("main.yaml", "model: {beam_size: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_config([main], ["model.beamsize=4"])
    assert "model.beam_size" in str(caught.value)
    assert "+model.beamsize=4" in str(caught.value)
    with pytest.raises(ConfigError, match="expected key=value"):
        load_config([main], ["beam"])
    with pytest.raises(ConfigError, match="YAML"):
        load_config([main], ["model.beam_size=[1"])


def test_override_errors_do_not_show_secrets(write):
    main = write("main.yaml", "a: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config([main], ["hf_token=abcdef"])
    assert "abcdef" not in str(caught.value)


def test_checked_blocks_take_new_keys_without_plus(write):
    main = write("main.yaml", "run: {}\n")
    assert load_config([main], ["run.on_error=skip"]).run.on_error == "skip"


def test_missing_file_names_the_nearest_files(write):
    written = write("inference.yaml", "a: 1\n")
    with pytest.raises(ConfigError, match=r"no such config file.*there is inference\.yaml"):
        load_config([written.with_name("inferense.yaml")])
    with pytest.raises(ConfigError, match="folder .* does not exist"):
        load_config([written.parent / "nowhere" / "x.yaml"])


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: [1\nc: 2\n", "main.yaml:3", "not valid YAML"),
        ("a: 1\na: 2\n", "main.yaml:2", "duplicate key"),
        ("- 1\n", "main.yaml", "mapping"),
        ("a: ${b\n", "main.yaml", "cannot be read"),
    ],
)
def test_bad_yaml_names_file_and_line(write, text, where, what):
    with pytest.raises(ConfigError, match=what) as caught:
        load_config([write("main.yaml", text)])
    assert where in str(caught.value)


def test_list_over_block_names_the_key(write):
    low = write("low.yaml", "dataset: {test: {name: a}}\n")
    high = write("high.yaml", "dataset: {test: [{name: a}]}\n")
    with pytest.raises(ConfigError, match=r"high\.yaml.*dataset\.test is a list here"):
        load_config([low, high])


def test_config_stays_as_written_until_resolved(write):
    main = write("main.yaml", "a: 1\nb: ${a}\n")
    config = load_config([main])
    assert OmegaConf.to_container(config, resolve=False) == {"a": 1, "b": "${a}"}
    assert OmegaConf.to_container(resolve(config), resolve=False) == {"a": 1, "b": 1}
    assert OmegaConf.is_interpolation(config, "b")


def test_resolve_lists_every_key_that_does_not(write):
    main = write("main.yaml", "exp_dir: x\na: ${exp_dri}/y\nb: [{c: '???'}]\nd: ${nobody:1}\n")
    with pytest.raises(ConfigError) as caught:
        resolve(load_config([main]))
    a, b, d = str(caught.value).splitlines()
    assert a.startswith("a: ")
    assert "exp_dri" in a
    assert "exp_dir?" in a
    assert b.startswith("b.0.c: ???")
    assert d.startswith("d: ")
    assert "nobody" in d


def test_self_name_is_the_first_file_wherever_it_stands(write):
    write("paths.yaml", "exp_tag: ${self_name:}\n")
    main = write("train_big.yaml", "defaults: [paths]\nother: x/${self_name:}\n")
    over = write("over.yaml", "third: ${self_name:}\n")
    assert plain(load_config([main, over])) == {
        "exp_tag": "train_big",
        "other": "x/train_big",
        "third": "train_big",
    }


def test_paths_in_resolvers_are_relative_to_their_file(write, monkeypatch, tmp_path):
    folder = "it's (odd), a=b"
    write(f"{folder}/tokens.txt", " a\r\nb \nc\n")
    main = write(
        f"{folder}/main.yaml",
        "tokens: ${load_line:tokens.txt}\nreadme: ${config_path:../notes.md}\n"
        "whole: 'at ${config_path:\"sub/x.txt\"}!'\n",
    )
    monkeypatch.chdir("/")
    config = plain(load_config([main]))
    assert config["tokens"] == ["a", "b", "c"]
    assert config["readme"] == str(tmp_path / "notes.md")
    assert config["whole"] == f"at {tmp_path / folder}/sub/x.txt!"


def test_path_made_of_an_interpolation_is_left_to_the_working_directory(write, monkeypatch):
    tokens = write("data/tokens.txt", "a\n")
    main = write("conf/main.yaml", "dir: data\ntokens: ${load_line:${dir}/tokens.txt}\n")
    monkeypatch.chdir(tokens.parent.parent)
    assert plain(load_config([main]))["tokens"] == ["a"]


def test_missing_token_file_is_an_error_of_its_key(write):
    main = write("main.yaml", "tokens: ${load_line:nowhere.txt}\n")
    with pytest.raises(ConfigError, match=r"tokens: .*nowhere\.txt"):
        resolve(load_config([main]))


def test_now_is_one_time_per_process(write):
    main = write("main.yaml", "a: ${now:%Y-%m-%d_%H-%M-%S.%f}\nb: ${now:%Y-%m-%d_%H-%M-%S.%f}\n")
    first = plain(load_config([main]))
    assert first["a"] == first["b"] == plain(load_config([main]))["a"]
