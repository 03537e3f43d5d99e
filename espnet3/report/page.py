"""The page: sections of text and charts in one HTML file that needs no network."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import espnet3
from espnet3.parallel.engine.progress import duration
from espnet3.parallel.wording import first_line
from espnet3.report import charts
from espnet3.report import timeline as tl
from espnet3.report.measured import Measured
from espnet3.report.record import RunRecord
from espnet3.report.summary import Summary, kinds_of, summarise
from espnet3.report.throughput import throughput
from espnet3.report.unit_times import FAR, UnitTimes, unit_times

MOST_SECTIONS = 20  # a page of more is too long to be read, and to be loaded
MOST_FAILURES = 30
MOST_TRACEBACK = 4000  # characters, half of them from each end
MOST_CONFIG = 50_000  # characters
MOST_STARTS = 20


@dataclass
class _Section:
    """One run as the template wants it."""

    run: RunRecord
    summary: Summary
    timeline: tl.Timeline
    times: UnitTimes | None
    drawn: bool
    figures: dict[str, Any] = field(default_factory=dict)
    rows_drawn: int = 0


def render(
    title: str, directory: str, runs: Sequence[RunRecord], measured: Sequence[Measured]
) -> str:
    """The page as HTML. Every text in it that is not this package's own is escaped."""
    sections = [_section(run, drawn=i < MOST_SECTIONS) for i, run in enumerate(runs)]
    figures = {
        f"{number}-{name}": figure
        for number, section in enumerate(sections)
        for name, figure in section.figures.items()
    }
    script, places = components(figures) if figures else ("", {})
    environment = Environment(
        loader=PackageLoader("espnet3.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    bokeh = Resources(mode="inline", components=["bokeh"], log_level="warn").render()
    return environment.get_template("page.html").render(
        title=title,
        directory=directory,
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
        version=espnet3.__version__,
        sections=[_told(i, section, places) for i, section in enumerate(sections)],
        not_drawn=max(0, len(sections) - MOST_SECTIONS),
        measured=measured,
        legend=[(kind, charts.COLOURS[kind], charts.PATTERNS.get(kind)) for kind in tl.KINDS],
        most_dead=tl.MOST_ROWS // 3,
        far=f"{FAR:g}",
        # Bokeh's own code, and what it has escaped itself.
        bokeh_js=Markup(bokeh) if figures else "",
        script=Markup(script),
    )


def _section(run: RunRecord, drawn: bool) -> _Section:
    timeline = tl.timeline(run)
    times = unit_times(run)
    section = _Section(run, summarise(run, timeline, times), timeline, times, drawn)
    if not drawn:
        return section
    if any(row.spans for row in timeline.rows):
        rows = tl.choose_rows(timeline.rows)
        section.rows_drawn = len(rows)
        section.figures["crowd"] = charts.crowd_figure(timeline)
        section.figures["rows"] = charts.rows_figure(timeline, rows)
    done = throughput(run, timeline.time)
    if done is not None:
        section.figures["rate"] = charts.throughput_figure(done, timeline, audio=False)
        if done.audio is not None:
            section.figures["audio"] = charts.throughput_figure(done, timeline, audio=True)
    if times is not None:
        section.figures["units"] = charts.units_figure(times)
    return section


def _told(number: int, section: _Section, places: Mapping[str, str]) -> dict[str, Any]:
    run, timeline = section.run, section.timeline
    charts_of_it = {
        name: Markup(places[f"{number}-{name}"]) if name in section.figures else ""
        for name in ("crowd", "rows", "rate", "audio", "units")
    }
    failures = _failures(run)
    busy = timeline.busy
    return {
        "run": run,
        "drawn": section.drawn,
        "summary": section.summary,
        "times": section.times,
        "running": duration(timeline.time.total) if run.starts else "-",
        "busy": "-" if busy is None else f"{100 * busy:.0f} %",
        "rows_drawn": section.rows_drawn,
        "rows_left_out": len(timeline.rows) - section.rows_drawn,
        "failures": failures[:MOST_FAILURES],
        "failures_left_out": max(0, len(failures) - MOST_FAILURES),
        "kinds": kinds_of(run.attempts or run.failed),
        "starts": _starts(run),
        "facts": sorted(run.starts[-1].facts.items()) if run.starts else [],
        "config": _shortened(
            json.dumps(run.config, indent=2, ensure_ascii=False, default=str), MOST_CONFIG
        ),
        **charts_of_it,
    }


def _failures(run: RunRecord) -> list[dict[str, Any]]:
    """Every failed attempt, those that still stand first."""
    stand = {entry.get("position") for entry in run.failed}
    attempts = run.attempts or run.failed
    return [
        {
            "utterance": entry.get("utterance", ""),
            "position": entry.get("position", ""),
            "step": entry.get("step") or "-",
            "error": f"{entry.get('error')}: {first_line(str(entry.get('message', '')))}",
            "again": entry.get("position") not in stand,
            "worker": entry.get("worker", ""),
            "traceback": _shortened(str(entry.get("traceback") or ""), MOST_TRACEBACK),
        }
        for entry in sorted(attempts, key=lambda entry: entry.get("position") not in stand)
    ]


def _starts(run: RunRecord) -> list[dict[str, Any]]:
    return [
        {
            "epoch": start.epoch,
            "began": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start.began)),
            "took": duration(max(0.0, start.ended - start.began)),
            "host": start.host,
            "command": start.command,
        }
        for start in run.starts[-MOST_STARTS:]
    ]


def _shortened(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}\n...\n{text[-half:]}"
