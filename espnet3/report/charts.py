"""The charts, drawn by Bokeh from data that was prepared elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    HoverTool,
    Label,
    LogAxis,
    NumeralTickFormatter,
    Span,
)
from bokeh.plotting import figure

from espnet3.parallel.engine.progress import duration
from espnet3.report import timeline as tl
from espnet3.report.throughput import Throughput
from espnet3.report.unit_times import UnitTimes

if TYPE_CHECKING:
    from bokeh.models import GlyphRenderer

# Okabe and Ito's colours, which colour-blind people can tell; in grey the patterns tell them, too.
COLOURS = {
    tl.WORK: "#0072B2",
    tl.REPEATED: "#56B4E9",
    tl.BUILD: "#E69F00",
    tl.WASTED: "#D55E00",
    tl.IDLE: "#DDDDDD",
}
PATTERNS = {tl.REPEATED: "/", tl.BUILD: ".", tl.WASTED: "x"}
MOST_PAUSES = 5  # more names would cover each other
INK, GRID, OUTLIER = "#222222", "#e6e6e6", "#D55E00"


def unit_of_time(seconds: float) -> tuple[float, str]:
    """What to divide seconds by for an axis that long, and its name."""
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 3 * size:
            return size, name
    return 1.0, "s"


def rows_figure(timeline: tl.Timeline, rows: list[tl.Row]) -> figure:
    """One bar for each worker."""
    size, unit = unit_of_time(timeline.time.total)
    height = 22 if len(rows) <= 20 else 13
    plot = _figure(f"running time [{unit}]", "worker", 90 + height * max(2, len(rows)))
    plot.y_range.start, plot.y_range.end = len(rows) - 0.5, -0.5
    plot.yaxis.ticker = list(range(len(rows)))
    plot.yaxis.major_label_overrides = {i: _plain(row.label) for i, row in enumerate(rows)}
    plot.ygrid.grid_line_color = None
    by_kind: dict[str, list[tuple[int, tl.Span]]] = {kind: [] for kind in tl.KINDS}
    for number, row in enumerate(rows):
        for span in tl.coarse(row, timeline.time.total):
            by_kind[span.kind].append((number, span))
    bars = []
    for kind in (kind for kind in tl.KINDS if by_kind[kind]):
        spans = by_kind[kind]
        source = ColumnDataSource(
            {
                "left": np.array([span.start for _, span in spans]) / size,
                "right": np.array([span.stop for _, span in spans]) / size,
                "top": np.array([n - 0.42 for n, _ in spans]),
                "bottom": np.array([n + 0.42 for n, _ in spans]),
                "worker": [rows[n].label for n, _ in spans],
                "what": [f"{kind}: {span.text}" for _, span in spans],
                "took": [duration(span.stop - span.start) for _, span in spans],
            }
        )
        bars.append(plot.quad(source=source, line_color="white", line_width=0.4, **_look(kind)))
    dead = [(n, row.spans[-1].stop / size) for n, row in enumerate(rows) if row.lost and row.spans]
    if dead:
        plot.scatter(
            x=[at for _, at in dead],
            y=[n for n, _ in dead],
            marker="x",
            size=9,
            line_width=2.5,
            color=INK,
        )
    _hover(plot, bars, [("", "@worker"), ("", "@what"), ("", "@took")])
    return _over_running_time(plot, timeline, size)


def crowd_figure(timeline: tl.Timeline) -> figure:
    """How many workers were at what."""
    total = timeline.time.total
    size, unit = unit_of_time(total)
    plot = _figure(f"running time [{unit}]", "workers", 260)
    counts = tl.at_work(timeline.rows, total)
    edges = np.linspace(0.0, total, len(counts[tl.IDLE]) + 1) / size
    below = np.zeros(len(edges) - 1)
    for kind in tl.KINDS:
        if counts[kind].max(initial=0.0) < 1e-6:
            continue
        above = below + np.maximum(0.0, counts[kind])
        plot.varea_step(edges, _steps(below), _steps(above), step_mode="after", **_look(kind))
        below = above
    plot.y_range.start = 0
    plot.yaxis.ticker = BasicTicker(min_interval=1)
    _name_pauses(plot, timeline, size)
    return _over_running_time(plot, timeline, size)


def throughput_figure(done: Throughput, timeline: tl.Timeline, audio: bool) -> figure:
    """Items per second, or audio per time, over running time."""
    size, unit = unit_of_time(timeline.time.total)
    rates = done.audio if audio and done.audio is not None else done.items
    label = "hours of audio per hour" if audio else "items per second"
    plot = _figure(f"running time [{unit}]", label, 240)
    edges = done.edges / size
    source = ColumnDataSource(
        {"left": edges[:-1], "right": edges[1:], "top": rates, "bottom": np.zeros(len(rates))}
    )
    colour = COLOURS[tl.WORK]
    plot.varea_step(edges, np.zeros(len(edges)), _steps(rates), step_mode="after", color=colour)
    bars = plot.quad(source=source, fill_alpha=0, line_color=None)
    plot.y_range.start = 0
    plot.yaxis.formatter = NumeralTickFormatter(format="0[.]0[00]a")
    _hover(plot, [bars], [("", f"@top{{0.[000]}} {label}"), ("", f"at @left{{0.[00]}} {unit}")])
    return _over_running_time(plot, timeline, size)


def units_figure(times: UnitTimes) -> figure:
    """Time over length, or how many took how long; outliers are numbered as in their table."""
    if not times.with_audio:
        return _times_alone(times)
    plot = _figure("audio [s]", "time in forward [s]", 380, x_axis_type="log", y_axis_type="log")
    units, cells = times.units, times.cells
    if cells is None:
        plot.scatter(units.audio, units.seconds, size=5, alpha=0.5, color=COLOURS[tl.WORK])
    else:
        strength = 0.15 + 0.85 * np.log1p(cells.count) / np.log1p(cells.count.max())
        source = ColumnDataSource(
            {
                "left": cells.left,
                "right": cells.right,
                "bottom": cells.bottom,
                "top": cells.top,
                "count": cells.count,
                "alpha": strength,
            }
        )
        squares = plot.quad(
            source=source, fill_color=COLOURS[tl.WORK], fill_alpha="alpha", line_color=None
        )
        _hover(plot, [squares], [("", "@count units")])
    plot.line(times.usual[:, 0], times.usual[:, 1], color=INK, line_dash="dashed", line_width=1.5)
    if times.outliers:
        _mark(plot, times, np.array([o.audio for o in times.outliers]))
    return plot


def _times_alone(times: UnitTimes) -> figure:
    cells = times.cells
    plot = _figure("time in forward [s]", "units", 260, x_axis_type="log")
    if cells is not None:
        plot.quad(
            left=cells.left,
            right=cells.right,
            bottom=cells.bottom,
            top=cells.top,
            fill_color=COLOURS[tl.WORK],
            line_color="white",
        )
    plot.y_range.start = 0
    return plot


def _mark(plot: figure, times: UnitTimes, x: Any) -> None:
    source = ColumnDataSource(
        {
            "x": x,
            "y": np.array([o.seconds for o in times.outliers]),
            "number": [str(n) for n in range(1, len(times.outliers) + 1)],
            "name": [o.name for o in times.outliers],
            "times": [f"{o.times:.3g}" for o in times.outliers],
        }
    )
    marks = plot.scatter(
        "x",
        "y",
        source=source,
        marker="diamond",
        size=11,
        color=OUTLIER,
        line_color="white",
    )
    plot.text("x", "y", "number", source=source, x_offset=7, y_offset=4, text_font_size="11px")
    _hover(plot, [marks], [("", "@number: @name"), ("", "@times times the usual")])


def _figure(x: str, y: str, height: int, **more: Any) -> figure:
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location="above",
        tools="xpan,xwheel_zoom,box_zoom,reset,save",
        active_scroll=None,
        x_axis_label=x,
        y_axis_label=y,
        **more,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.outline_line_color = None
    for grid in (plot.xgrid, plot.ygrid):
        grid.grid_line_color = GRID
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = INK
        axis.major_label_text_color = INK
        if not isinstance(axis[0], LogAxis):
            axis.minor_tick_line_color = None
    return plot


def _look(kind: str) -> dict[str, Any]:
    return {
        "fill_color": COLOURS[kind],
        "hatch_pattern": PATTERNS.get(kind, " "),
        "hatch_color": "white",
        "hatch_alpha": 0.7,
        "hatch_scale": 6,
    }


def _steps(values: Any) -> Any:
    """One value for each edge: the last one holds up to the last edge."""
    return np.append(values, values[-1:])


def _hover(plot: figure, renderers: list[GlyphRenderer], lines: list[tuple[str, str]]) -> None:
    plot.add_tools(HoverTool(renderers=renderers, tooltips=lines))


def _over_running_time(plot: figure, timeline: tl.Timeline, size: float) -> figure:
    """Show all of it, and where another start begins."""
    plot.x_range.start, plot.x_range.end = 0, max(timeline.time.total / size, 1e-9)
    for at in timeline.time.joints:
        line = Span(location=at / size, dimension="height", line_color=INK, line_dash="dotted")
        plot.add_layout(line)
    return plot


def _name_pauses(plot: figure, timeline: tl.Timeline, size: float) -> None:
    if len(timeline.time.joints) > MOST_PAUSES:
        return
    joints = zip(timeline.time.joints, timeline.time.pauses, strict=True)
    for number, (at, pause) in enumerate(joints, start=2):
        name = Label(
            x=at / size,
            y=6,
            y_units="screen",
            x_offset=4,
            text=f"start {number}, {duration(pause)} later",
            text_font_size="11px",
            background_fill_color="white",
            background_fill_alpha=0.85,
        )
        plot.add_layout(name)


def _plain(label: str) -> str:
    """A name that Bokeh does not take for a formula."""
    return label.replace("$$", "$ $")
