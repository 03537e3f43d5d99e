"""`espnet3 report`: what the page says of real runs."""

import json
import re
import sys
from html import unescape

import pytest
from click.testing import CliRunner

from espnet3.commands.main import main
from espnet3.errors import ConfigError
from espnet3.report import write_report
from espnet3.systems.base.metric import measure
from espnet3.utils.scp import write_scp

WER = {"_target_": "espnet3.components.metrics.wer.WER"}


def text_of(page):
    """What a reader sees, without the scripts and styles."""
    html = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_a_finished_run_is_told_and_its_outlier_named(runs):
    runs.misbehave(7, "slow")
    run_dir = runs.do()
    page = write_report(run_dir)
    assert page == run_dir / "report.html"
    text = text_of(page)
    assert "Yes: all 30 items are done and merged." in text
    assert "Nothing: the results are there." in text
    assert "1 worker:" in text
    assert re.search(r"1 utt07 7 3\.00 0\.\d\d [\d.]+", text), "outlier, position, audio, time"
    assert "espnet3" in text
    assert "python" in text
    assert page.stat().st_size < 3_000_000


def test_failures_are_told_with_their_errors_and_what_to_do(runs):
    runs.misbehave(3, "no such speaker")
    runs.misbehave(4, "no such speaker")
    text = text_of(write_report(runs.do()))
    assert "No, it has failed: 28 of 30 items are done, 2 failed." in text
    assert "2 items (2 ValueError). The first is utt03: ValueError: no such speaker." in text
    assert "Mend the cause and run the same command again: it retries just what failed." in text
    assert "in misbehave raise ValueError(what)" in text, "the traceback"


def test_skipped_items_are_told_as_missing_from_the_results(runs):
    runs.misbehave(3, "no such speaker")
    text = text_of(write_report(runs.do(on_error="skip")))
    assert "Yes, but without 1 item that failed: 29 of 30 items are done, and merged." in text


def test_a_run_that_was_killed_and_went_on(runs):
    runs.misbehave(3, "no such speaker")  # what was done before it is committed
    runs.misbehave(20, "die")
    run_dir = runs.do_in_child()
    dead = text_of(write_report(run_dir))
    assert "No, its driver is gone: 3 of 30 items are done, 1 failed." in dead
    assert "Mend the cause and run the same command again" in dead
    runs.mend()
    text = text_of(write_report(runs.do()))
    assert "Yes: all 30 items are done and merged." in text
    assert "in 2 starts" in text
    assert "of the work repeated what was lost" in text
    assert "driver (start 1)" in write_report(run_dir).read_text(), "a bar of each start"


def test_secrets_are_on_no_page(runs, monkeypatch):
    monkeypatch.setenv("CORPUS_TOKEN", "t0ps3cret-env")
    runs.config = {"hf_token": "t0ps3cret-config", "beam": 17}
    runs.misbehave(3, "https://me:t0ps3cret-url@host and t0ps3cret-env")
    page = write_report(runs.do())
    assert "17" in text_of(page).partition("secrets are masked")[2]
    assert "hf_token" in text_of(page)
    assert "t0ps3cret" not in page.read_text()


def test_text_of_others_is_no_markup(runs):
    hostile = "</script><script>alert(1)</script><b title='\"&"
    runs.ids[3], runs.ids[4] = hostile, f"{hostile}$$x$$"
    runs.misbehave(3, hostile)
    runs.misbehave(4, "slow")
    page = write_report(runs.do(hostile.replace("/", "")))
    assert "<script>alert" not in page.read_text()
    assert "<b title" not in page.read_text()
    assert f"ValueError: {hostile}" in text_of(page)
    assert f"1 {hostile}$$x$$ 4" in text_of(page), "the outlier"


def test_several_runs_are_one_page_with_what_was_measured(runs):
    runs.do("clean")
    runs.misbehave(3, "no such speaker")
    runs.do("other", on_error="skip")
    inference = runs.root / "inference"
    for name, hypothesis in (("clean", "ONE TWO"), ("other", "ONE")):
        write_scp(inference / name / "ref.scp", {"utt00": "ONE TWO"})
        write_scp(inference / name / "hyp.scp", {"utt00": hypothesis})
    measure(
        {
            "inference_dir": str(inference),
            "missing": "ignore",
            "metrics": [{"metric": WER, "inputs": {"ref": "ref", "hyp": "hyp"}}],
        }
    )
    page = write_report(inference)
    text = text_of(page)
    assert "clean done 30 30 0" in text
    assert "other done 30 29 1" in text
    assert re.search(r"other 1/1 2 50\.00 0/1/0", text), "the table of measure"
    assert text.count("Is it done?") == 2
    assert "Measured" in text_of(write_report(inference / "clean")), "of its inference_dir"
    assert "measure again" not in text


def test_a_run_without_event_log_says_what_is_not_known(runs):
    run_dir = runs.do()
    (run_dir / "events.jsonl").unlink()
    for path in run_dir.glob("split.*/done"):
        done = json.loads(path.read_bytes())
        del done["units"]
        path.write_text(json.dumps(done))
    text = text_of(write_report(run_dir))
    assert "Not known: what the workers did when, as there is no event log" in text
    assert "the times of single units" in text
    assert "30 of 30 items are done" in text or "all 30 items are done" in text
    assert "What were the workers doing?" not in text


def test_a_damaged_run_does_not_hide_the_others(runs):
    runs.do("good")
    ledger = runs.do("worse") / "ledger.1.jsonl"
    runs.do("worse")  # the next start counts on the bytes of the first
    ledger.write_bytes(ledger.read_bytes()[:40])
    text = text_of(write_report(runs.root / "inference"))
    assert "good done 30 30 0" in text
    assert "worse damaged" in text


def test_the_command_says_what_it_wrote(runs):
    out = runs.root / "pages" / "mine.html"
    out.parent.mkdir()
    done = CliRunner().invoke(main, ["report", str(runs.do()), "--out", str(out)])
    assert (done.exit_code, done.output) == (0, f"wrote {out}\n")
    assert out.read_text().startswith("<!DOCTYPE html>")
    unwritable = CliRunner().invoke(
        main, ["report", str(out.parent.parent), "--out", "/proc/x.html"]
    )
    assert unwritable.exit_code == 1
    assert "--out FILE writes it elsewhere" in unwritable.output


def test_no_run_and_no_bokeh_are_explained(runs, monkeypatch):
    with pytest.raises(ConfigError, match=r"there is no run in .*manifest\.json"):
        write_report(runs.root)
    with pytest.raises(ConfigError, match="there is no directory"):
        write_report(runs.root / "nowhere")
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(ConfigError, match=r"pip install 'espnet3\[report\]'"):
        write_report(runs.do())
