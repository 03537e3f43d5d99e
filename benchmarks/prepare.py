"""Preparing data: audio is resampled and written as 16-bit FLAC, each file on its own."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from benchmarks import peers, tools
from benchmarks.measure import (
    OURS,
    MeasurementFailed,
    Options,
    Sample,
    Table,
    child,
    in_turn,
)
from benchmarks.peers import ours_beside

RATE = "audio h / h"
SECONDS = 10.0
"""Of each file."""

FILES, FILES_QUICK = 800, 100

_EACH = "xargs -n 1 -P 2 sh -c '{}' < list"
TOOLS = {
    "sox, 2 at a time": _EACH.format('sox "$SOURCES/$0.flac" -r 16000 -b 16 "$0.flac"'),
    "ffmpeg, 2 at a time": _EACH.format(
        'ffmpeg -v error -nostdin -i "$SOURCES/$0.flac" -ar 16000 -sample_fmt s16 "$0.flac"'
    ),
}
"""A process for each file."""
LHOTSE = "lhotse, 2 jobs"


def run(options: Options) -> list[Table]:
    """Whole calls: `format_audio` and others, from 44.1 kHz to 16 kHz."""
    n, sources = FILES_QUICK if options.quick else FILES, options.place()
    child("benchmarks.prepare:write_sources", {"directory": sources, "n": n})
    measure = partial(_sample, options, sources, n)
    variants = ours_beside(measure, peers.POOL, peers.JOBLIB)
    table = Table(f"Formatting {n} files of {SECONDS:g} s, 44.1 kHz FLAC to 16 kHz FLAC")
    there, missing = tools.installed(TOOLS)
    variants |= {who: partial(_by_tool, options, sources, n, how) for who, how in there.items()}
    if find_spec("lhotse"):
        variants[LHOTSE] = partial(_by_lhotse, options, sources, n)
    else:
        missing.append("lhotse is not installed")
    table.rows = in_turn(variants, options.repeats)
    table.notes = ["those in Python used soundfile and soxr, and found the same numbers of samples"]
    table.notes += missing
    return [table]


def write_sources(directory: str, n: int) -> None:
    """Runs in a process of its own: a voice-like sound in each file, its pitch by the file."""
    import numpy as np
    import soundfile

    time = np.arange(round(SECONDS * 44100)) / 44100
    noise = np.random.default_rng(0).normal(0, 0.01, len(time))
    for i in range(n):
        pitch = 2 * np.pi * (100 + i % 100) * time
        voice = sum(np.sin(k * pitch) / k for k in range(1, 8)) * np.abs(np.sin(2 * time))
        soundfile.write(f"{directory}/{i}.flac", 0.2 * voice + noise, 44100)


def format_all(sources: str, n: int, workers: int, out: str) -> dict[str, float]:
    """Runs in a measured process."""
    begin = perf_counter()
    from espnet3.components.data.format_audio import format_audio
    from espnet3.parallel.parallel import set_parallel

    set_parallel({"env": "local", "n_workers": workers})
    format_audio([(f"utt{i:06d}", f"{sources}/{i}.flac") for i in range(n)], out)
    return {"seconds": perf_counter() - begin}


def lhotse_all(sources: str, n: int, workers: int, out: str) -> float:
    """Runs in a measured process: the way that lhotse has for this; returns seconds."""
    begin = perf_counter()
    from lhotse import CutSet, Recording, RecordingSet

    recordings = (Recording.from_file(f"{sources}/{i}.flac") for i in range(n))
    cuts = CutSet.from_manifests(recordings=RecordingSet.from_recordings(recordings))
    cuts.resample(16000).save_audios(out, format="flac", num_jobs=workers, progress_bar=False)
    return perf_counter() - begin


def _sample(options: Options, sources: Path, n: int, how: str, workers: int) -> Sample:
    out = options.place()
    if how == OURS:
        kwargs = {"sources": sources, "n": n, "workers": workers, "out": out}
        call, lines = child("benchmarks.prepare:format_all", kwargs), out / "utt2num_samples"
    else:
        lines = out / "lines"
        task = {"task": "convert", "options": {"sources": str(sources), "out": str(out)}}
        call = child(
            "benchmarks.peers:run", {"how": how, "n": n, "workers": workers, "out": lines} | task
        )
    expected = sources / "expected"  # of whoever came first
    if not expected.exists():
        expected.write_bytes(lines.read_bytes())
    if lines.read_bytes() != expected.read_bytes():
        raise MeasurementFailed(f"{how}, {workers} workers: other lengths than before")
    seconds = call.returned["seconds"]
    return {RATE: n * SECONDS / seconds, "seconds": seconds}


def _by_tool(options: Options, sources: Path, n: int, command: str) -> Sample:
    out = options.place()
    (out / "list").write_text("\n".join(map(str, range(n))) + "\n", encoding="ascii")
    seconds = tools.run(command, out, SOURCES=str(sources))
    empty = [i for i in range(n) if not (out / f"{i}.flac").stat().st_size]
    if empty:
        raise MeasurementFailed(f"{command} made empty files: {empty[:10]}")
    return {RATE: n * SECONDS / seconds, "seconds": seconds}


def _by_lhotse(options: Options, sources: Path, n: int) -> Sample:
    out = options.place()
    given = {"sources": sources, "n": n, "workers": 2, "out": out}
    seconds = child("benchmarks.prepare:lhotse_all", given).returned
    made = sum(path.stat().st_size > 0 for path in out.rglob("*.flac"))
    if made != n:
        raise MeasurementFailed(f"lhotse made {made} of {n} files")
    return {RATE: n * SECONDS / seconds, "seconds": seconds}
