"""The log file of a stage: its header, its end, and no traces left in the process."""

from __future__ import annotations

import logging

import pytest

from espnet3.errors import ConfigError
from espnet3.utils.logging import console_log, stage_header, stage_log


def test_each_stage_has_its_own_appended_file(tmp_path):
    before = list(logging.getLogger().handlers)
    logger = logging.getLogger("src.recipe")
    for text in ("first", "second"):
        with console_log(), stage_log(tmp_path / "exp" / "infer.log", f"# header {text}\n"):
            logger.info("%s message", text)
            logger.debug("noise")
    with stage_log(tmp_path / "exp" / "measure.log", ""):
        logger.info("third message")
    logger.info("after")

    log = (tmp_path / "exp" / "infer.log").read_text()
    assert log.count("header") == log.count("message") == 2
    assert log.index("header first") < log.index("first message") < log.index("header second")
    assert "noise" not in log
    assert "third" not in log
    assert "after" not in log
    assert logging.getLogger().handlers == before


def test_traceback_goes_to_the_file_and_not_to_the_console(tmp_path, capsys):
    level = logging.getLogger().level
    with pytest.raises(KeyError), console_log(), stage_log(tmp_path / "x.log", ""):
        raise KeyError("odd one")
    assert "Traceback" in (tmp_path / "x.log").read_text()
    assert "Traceback" not in capsys.readouterr().err
    assert logging.getLogger().level == level


def test_unwritable_log_is_a_config_error(tmp_path):
    (tmp_path / "file").write_text("")
    log = stage_log(tmp_path / "file" / "x.log", "")
    with pytest.raises(ConfigError, match="log cannot be written"), log:
        pass


def test_full_disk_does_not_hide_what_ended_the_stage(tmp_path, capsys):
    log = tmp_path / "x.log"
    log.symlink_to("/dev/full")
    with pytest.raises(KeyError, match="odd one"), console_log(), stage_log(log, ""):
        raise KeyError("odd one")
    console = capsys.readouterr().err
    assert f"{log} is not complete: No space left on device" in console
    assert "Traceback" not in console


def test_header_holds_versions_command_and_masked_configs():
    header = stage_header(
        "stage infer of ASR",
        ["run.py", "--stages", "infer", "inference.hf_token=hf_abcdef"],
        {"inference": {"hf_token": "hf_abcdef", "text": "${not_me}"}},
        "0123abc-dirty",
    )
    assert "hf_abcdef" not in header
    for part in ("espnet3 ", "python 3.", "dask ", "numpy ", "pid ", "0123abc-dirty", "${not_me}"):
        assert part in header
    assert all(line.startswith("# ") for line in header.splitlines())
