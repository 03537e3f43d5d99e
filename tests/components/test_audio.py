"""Reading audio: formats, stretches, channels, rates, and what is wrong with a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from espnet3.components.data.audio.read import AudioInfo, audio_info, read_audio
from espnet3.errors import ConfigError, DataError

RATE = 16000


def speech(seconds: float = 1.0, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A sweep with noise, as int16."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 300, len(time))
    return (12000 * np.sin(2 * np.pi * (200 + 300 * time) * time) + noise).astype(np.int16)


def encode(path: Path, samples: Any, codec: str, container: str, rate: int = RATE) -> Path:
    """Write by PyAV what soundfile cannot."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64"])
def test_sixteen_bits_come_through_exactly_whole_or_in_part(suffix: str, tmp_path: Path) -> None:
    path, samples = tmp_path / f"a.{suffix}", speech()
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    read, rate = read_audio(path)
    assert (read.dtype, read.shape, rate) == (np.float32, (RATE,), RATE)
    assert np.array_equal(read * 32768, samples)
    part, _ = read_audio(path, 0.25, 0.5)
    assert np.array_equal(part * 32768, samples[4000:8000])
    assert audio_info(path) == AudioInfo(RATE, 1, 1.0, suffix.upper())


def test_raw_g722_is_known_by_its_suffix(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.g722", speech(), "g722", "g722")
    read, rate = read_audio(path)
    assert rate == RATE
    assert len(read) == RATE
    like = np.corrcoef(read[100:], speech()[100 - 22 : -22])[0, 1]  # the codec delays by 22
    assert like > 0.99
    part, _ = read_audio(path, 0.5, 0.75)
    assert np.array_equal(part, read[8000:12000])
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.format) == (RATE, 1, "g722")
    assert info.seconds == pytest.approx(1.0, abs=0.1)


def test_what_soundfile_cannot_read_pyav_reads(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mka", speech(), "pcm_s16le", "matroska")
    read, rate = read_audio(path)
    assert rate == RATE
    assert np.array_equal(read * 32768, speech())
    assert audio_info(path).channels == 1


def test_channels(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    left, right = speech(seed=1), speech(seed=2)
    soundfile.write(path, np.stack([left, right], axis=1), RATE)
    assert np.array_equal(read_audio(path, channel=1)[0] * 32768, right)
    mean = (left.astype(np.float64) + right) / 2
    assert np.array_equal(read_audio(path, channel="mean")[0] * 32768, mean)
    with pytest.raises(DataError, match="two.wav: has 2 channels; choose one"):
        read_audio(path)
    with pytest.raises(DataError, match="two.wav: has 2 channels .*none is 2"):
        read_audio(path, channel=2)


def test_resampling_keeps_what_is_heard(tmp_path: Path) -> None:
    path, time = tmp_path / "a.flac", np.arange(44100) / 44100
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time), 44100, subtype="PCM_24")
    read, rate = read_audio(path, sample_rate=RATE)
    assert (rate, len(read), read.dtype) == (RATE, RATE, np.float32)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert np.abs(read - expected)[500:-500].max() < 1e-3
    assert np.array_equal(read, read_audio(path, sample_rate=RATE)[0])


def test_a_segment_may_end_a_little_late_as_in_kaldi(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, speech(), RATE)
    assert len(read_audio(path, 0.5, 1.4)[0]) == 8000
    with pytest.raises(DataError, match=r"a.wav: ends at 1 s, and the segment at 1.6 s"):
        read_audio(path, 0.5, 1.6)
    with pytest.raises(DataError, match=r"a.wav: ends before the segment begins, at 1.2 s"):
        read_audio(path, 1.2, 1.4)
    with pytest.raises(DataError, match="no segment goes from 0.5 to 0.5"):
        read_audio(path, 0.5, 0.5)


def write_bad(path: Path) -> None:
    """A file that is wrong in the way that its name says."""
    if path.stem == "text":
        path.write_text("no audio\n" * 100)
    elif path.stem == "empty":
        path.touch()
    elif path.stem == "subtitles":
        path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n\n")
    elif path.stem == "silent":
        soundfile.write(path, np.zeros(0, np.int16), RATE)
    elif path.stem == "nan":
        samples = np.zeros(RATE, np.float32)
        samples[77] = np.nan
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    elif path.stem == "half":
        soundfile.write(path, speech(), RATE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gone.wav", "cannot be read: No such file or directory"),
        ("empty.wav", r"is empty \(0 bytes\)"),
        ("empty.g722", r"is empty \(0 bytes\)"),
        ("text.wav", "no audio format that soundfile or PyAV knows"),
        ("subtitles.srt", "has no audio stream"),
        ("silent.wav", "holds no samples"),
        ("nan.wav", "sample 77 is nan"),
        ("half.flac", "damaged or cut short"),
        ("half.mp3", "cut short"),
        ("text.raw", ".raw has no header"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(name: str, problem: str, tmp_path: Path) -> None:
    write_bad(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: .*{problem}"):
        read_audio(tmp_path / name)


def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, speech(), RATE)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ConfigError, match=r"needs soxr: pip install 'espnet3\[data\]'"):
        read_audio(path, sample_rate=8000)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"a.g722: .*needs av: pip install 'espnet3\[data\]'"):
        read_audio(path.rename(tmp_path / "a.g722"))
