"""``parallel:`` and ``run:``: what is accepted, and what every refusal says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from omegaconf import OmegaConf

from espnet3.errors import ConfigError
from espnet3.parallel.config import ParallelConfig, RunConfig, parse_parallel
from espnet3.parallel.config_check import ENVS, LOCAL, RULES


def refusal(block: Any, run: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_parallel(block, run, source="conf/inference.yaml")
    return str(caught.value)


@pytest.mark.parametrize("block", [None, {}, OmegaConf.create({}), ParallelConfig()])
def test_nothing_given_means_one_process_here(block: Any) -> None:
    assert parse_parallel(block) == (ParallelConfig("local", 1, {}), RunConfig())


def test_a_block_of_the_published_template_is_accepted() -> None:
    block = OmegaConf.create({"env": "local", "n_workers": 1, "allow_overwrite_lock": True})
    assert parse_parallel(block) == (ParallelConfig(), RunConfig(allow_overwrite_lock=True))


def test_run_keys_may_stand_in_either_block() -> None:
    block = {"n_workers": 2, "on_error": "skip", "limit": 5, "lease_seconds": 10}
    run = {"on_error": "skip", "max_failures": 0}
    assert parse_parallel(block, run) == (
        ParallelConfig(n_workers=2),
        RunConfig(on_error="skip", limit=5, lease_seconds=10.0, max_failures=0),
    )
    assert refusal({"on_error": "skip"}, {"on_error": "raise"}) == (
        "conf/inference.yaml: parallel.on_error and run.on_error differ ('skip' and 'raise'): "
        "keep one of them"
    )


def test_dataclasses_go_through_the_same_checks() -> None:
    where, how = ParallelConfig(n_workers=3), RunConfig(max_kills=4)
    assert parse_parallel(where, how) == (where, how)
    assert parse_parallel({"max_kills": 4}, RunConfig())[1] == how
    assert "parallel.n_workers: must be" in refusal(ParallelConfig(n_workers=0))


def test_what_is_returned_shares_nothing_with_what_was_given() -> None:
    block: dict[str, Any] = {"options": {"memory_limit": 0, "resources": {"slot": 1}}}
    where, _ = parse_parallel(block)
    block["options"]["resources"]["slot"] = 2
    assert where.options["resources"] == {"slot": 1}
    with pytest.raises(dataclasses.FrozenInstanceError):
        where.n_workers = 5  # type: ignore[misc]


def test_interpolations_are_resolved_and_missing_values_are_named() -> None:
    config = OmegaConf.create({"n": 3, "parallel": {"n_workers": "${n}"}})
    assert parse_parallel(config.parallel)[0].n_workers == 3
    config = OmegaConf.create({"parallel": {"n_workers": "???"}})
    assert "n_workers" in refusal(config.parallel)
    inner = OmegaConf.create({"memory_limit": 0})
    assert parse_parallel({"options": inner})[0].options == {"memory_limit": 0}


def test_every_problem_is_reported_at_once() -> None:
    message = refusal(
        {"env": "slurrm", "n_worker": 4, "n_workers": 0, "nj": 8, "max_kills": True},
        {"env": "local", "leas_seconds": 3},
    )
    first, *lines = message.splitlines()
    assert first == "conf/inference.yaml: 7 problems"
    for start, part in {
        "parallel.env": "unknown env 'slurrm'; did you mean slurm?",
        "parallel.n_worker:": "did you mean n_workers?",
        "parallel.n_workers": "must be a whole number, 1 or more, not 0 (int)",
        "parallel.nj": "write parallel.n_workers",
        "parallel.max_kills": "must be a whole number, 1 or more, not true",
        "run.env": "belongs in parallel:",
        "run.leas_seconds": "did you mean lease_seconds?",
    }.items():
        assert any(line.startswith(f"  - {start}") and part in line for line in lines), start


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("n_workers", value) for value in (0, -1, True, 2.0, "8", None, [1])],
        *[("env", value) for value in (1, None, ["local"])],
        *[("options", value) for value in ("queue", ["queue"], {1: 2})],
        *[("on_error", value) for value in ("stop", True, None)],
        *[("max_failures", value) for value in (-1, 0.01, "1%", False)],
        *[("max_kills", value) for value in (0, "2", None)],
        *[("lease_seconds", value) for value in (0, -1, "60", None, float("inf"), float("nan"))],
        *[("unit_timeout", value) for value in (0, "1h", True)],
        *[("limit", value) for value in (0, True, "10")],
        *[("accept_changes", value) for value in (1, "yes", None)],
        *[("allow_overwrite_lock", value) for value in (0, "false")],
        *[("prefetch", value) for value in (2, "auto")],
        *[("adaptive", value) for value in (True, 4)],
        *[("security", value) for value in ("none", 0)],
        *[("worker_start_timeout", value) for value in (-5, "1m")],
    ],
)
def test_wrong_kinds_and_ranges_are_refused(key: str, value: Any) -> None:
    message = refusal({key: value})
    assert message.startswith(f"conf/inference.yaml: parallel.{key}: must be {RULES[key][0]}, not ")


def test_a_number_in_quotes_is_told_how_to_become_one() -> None:
    assert "take the quotes away" in refusal({"n_workers": "8"})


def test_a_block_that_is_no_mapping_is_refused() -> None:
    assert "`parallel: {...}`, not the text 'slurm'" in refusal("slurm")
    assert "run: must be a block of keys" in refusal(None, [1])


@pytest.mark.parametrize("env", ENVS)
def test_connections_are_secure_unless_somebody_says_otherwise(env: str) -> None:
    needed: dict[str, Any] = {"ssh": {"hosts": ["node1"]}, "local": {}, "local_gpu": {}}
    needed["kube"] = {"image": "espnet3:1", "memory": "4GB"}
    options = needed.get(env, {"memory": "4GB"})
    for security, secure in ((None, True), (True, True), (False, False)):
        block = {"env": env, "options": options, "security": security}
        assert parse_parallel(block)[0].secure is secure
    assert parse_parallel({"env": env, "options": options})[0].secure
    scheduler = "scheduler_kwargs" if env in LOCAL else "scheduler_options"
    block = {"env": env, "options": {**options, scheduler: {"protocol": "tcp"}}}
    assert f"options.{scheduler}.protocol: parallel.security decides it" in refusal(block)


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        *[(key, "parallel.n_workers") for key in ("nj", "inference_nj", "num_workers", "nworkers")],
        *[(key, "parallel.env (") for key in ("train_cmd", "decode_cmd", "cuda_cmd", "cmd")],
        *[(key, "parallel.env: local_gpu") for key in ("ngpu", "gpu_inference")],
        *[(key, "under parallel.options") for key in ("queue", "memory", "walltime")],
    ],
)
def test_the_words_of_espnet2_are_answered_with_what_replaces_them(key: str, answer: str) -> None:
    assert f"parallel.{key}: no such key; " in refusal({key: 8})
    assert answer in refusal({key: 8})


def test_options_are_checked_against_the_cluster_class() -> None:
    options = {"memory_limit": 0, "silence_logs": 30, "lifetime": "1h", "threads_per_worker": 1}
    assert parse_parallel({"options": options})[0].options == options
    assert parse_parallel({"options": None})[0].options == {}
    message = refusal({"options": {"memory_limt": 0, "nj": 3}})
    assert "parallel.options.memory_limt: LocalCluster has no such option" in message
    assert "did you mean memory_limit?" in message
    assert "parallel.options.nj: no such option; write parallel.n_workers" in message


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("n_workers", 4, "set parallel.n_workers"),
        ("processes", False, "workers are processes"),
        ("threads_per_worker", 4, "one item at a time"),
        ("threads_per_worker", True, "one item at a time"),
        ("asynchronous", True, "synchronous"),
    ],
)
def test_options_that_the_engine_sets_are_refused_with_the_reason(
    option: str, value: Any, reason: str
) -> None:
    message = refusal({"options": {option: value}})
    assert f"parallel.options.{option}: " in message
    assert reason in message
