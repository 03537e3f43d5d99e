"""What the commands of data preparation are for, and what does the same here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

CODE = "plain code in `build` of dataset/builder.py"


class Kind(Enum):
    """Kinds of commands, the first of which counts where a line has several."""

    DOWNLOAD = "download"
    UNKNOWN = "not recognised"
    JOBS = "split into jobs"
    EXTRACT = "extraction"
    PER_FILE = "per-file loop"
    LOOP = "loop over names"
    CHECKSUM = "checksum"
    AUDIO = "audio"
    KALDI = "Kaldi data directory"
    SCRIPT = "script of the recipe"
    TEXT = "text"
    FILES = "files"
    TOOL = "other tools"
    HOUSEKEEPING = "housekeeping"


REPLACED_BY = {
    Kind.DOWNLOAD: "`download` (espnet3.components.data.download)",
    Kind.UNKNOWN: "decide; nothing here knows this command",
    Kind.EXTRACT: "`extract` (espnet3.components.data.extract)",
    Kind.PER_FILE: f"a Python loop: {CODE}; if each file takes long, a provider and runner",
    Kind.LOOP: f"a Python `for` over these names: {CODE}",
    Kind.CHECKSUM: "`md5` or `sha256` of a target of `download`",
    Kind.AUDIO: "`format_audio` (espnet3.components.data.format_audio): reads what this converts",
    Kind.SCRIPT: f"{CODE}, taking over or calling what the script does",
    Kind.TEXT: f"{CODE}",
    Kind.FILES: f"{CODE}; name files where they are instead of copying them",
    Kind.TOOL: "install it in the environment; the builder does not",
}
JOBS = "a provider and runner (docs/provider-and-runner.md); n_workers of `parallel:` instead of nj"
_DIRECTORY = "(espnet3.components.data.kaldi.directory)"
_WRITE = f"`write_kaldi_dir` {_DIRECTORY}"
KALDI_TOOLS = {
    "fix_data_dir.sh": f"`fix_kaldi_dir` {_DIRECTORY}; what `write_kaldi_dir` writes needs none",
    "validate_data_dir.sh": f"`read_kaldi_dir(path, require=KALDI_REQUIRES)` {_DIRECTORY}",
    "utt2spk_to_spk2utt.pl": f"nothing: {_WRITE} makes spk2utt of utt2spk",
    "spk2utt_to_utt2spk.pl": f"{CODE}: utt2spk is what {_WRITE} takes",
    "subset_data_dir.sh": f"choose ids in Python and write them with {_WRITE}",
    "combine_data.sh": f"join the tables in Python, {_WRITE}; or name several data sets in the "
    "config, which are combined",
    "copy_data_dir.sh": f"`read_kaldi_dir`, change ids in Python, {_WRITE}",
    "filter_scp.pl": "choose ids in Python; `read_scp` (espnet3.utils.scp)",
    "remove_short_utts.sh": "`filter_utterances` (espnet3.components.data.filters)",
    "get_utt2dur.sh": "`utt2num_samples` of `format_audio`",
    "get_reco2dur.sh": "`utt2num_samples` of `format_audio`",
    "get_utt2num_frames.sh": "`utt2num_samples` of `format_audio`",
    "perturb_data_dir_speed.sh": "not carried over: speed perturbation is for training",
    "format_wav_scp.sh": "`format_audio` (espnet3.components.data.format_audio)",
    "trim_silence.sh": "a provider and runner of your own",
    "shuffle_list.pl": f"`random.Random(seed).shuffle`: {CODE}",
    "extract_wav_segments_data_dir.sh": "`format_audio` with the `segments` of a directory",
    "reduce_data_dir.sh": f"choose ids in Python and write them with {_WRITE}",
}


def _table(kinds: dict[Kind, str]) -> dict[str, Kind]:
    return {name: kind for kind, names in kinds.items() for name in names.split()}


_PROGRAMS = _table(
    {
        Kind.DOWNLOAD: "wget curl gdown axel aria2c aac-datasets-download "
        "kaggle youtube-dl yt-dlp gsutil aws azcopy "
        "huggingface-cli hf svn rsync scp ftp lftp download_from_google_drive.sh "
        "espnet_model_zoo_download",
        Kind.CHECKSUM: "md5sum sha1sum sha256sum sha512sum md5 shasum cksum",
        Kind.EXTRACT: "jar unzip gunzip bunzip2 unxz unrar 7z 7za 7zr unar",
        Kind.AUDIO: "sox soxi ffmpeg ffprobe flac sph2pipe lame mpg123 opusdec wav-to-duration "
        "wav-copy extract-segments w_decode play avconv trim_silence.sh format_wav_scp.sh",
        Kind.JOBS: "split_scp.pl split_data.sh run.pl queue.pl slurm.pl pbs.pl ssh.pl stdout.pl",
        Kind.TEXT: "awk gawk mawk sed grep egrep fgrep zgrep cut tr sort uniq paste join comm cat "
        "tac rev head tail wc nl iconv nkf zcat bzcat xzcat perl shuf split jq xmllint "
        "dos2unix fold expand diff cmp csplit column spm_train spm_encode spm_decode tee "
        "text2token.py remove_punctuation.pl tokenizer.perl lowercase.perl "
        "normalize-punctuation.perl detokenizer.perl clean-corpus-n.perl uconv pdftotext",
        Kind.PER_FILE: "xargs parallel",
        Kind.FILES: "cp mv ln install rename",
        Kind.TOOL: "pip pip3 conda apt apt-get make cmake patch brew easy_install installer.sh "
        "bash_installer gcc g++ sclite mfa mex phonetisaurus-align phonetisaurus-arpa2wfst "
        "phonetisaurus-apply lmplz build_binary ngram-count ngram prune-lm nltk "
        "matlab octave java lhotse sudo npm mpiexec",
        Kind.HOUSEKEEPING: "[ [[ test set unset shopt log exit return true false : shift mkdir rm "
        "rmdir touch chmod chown cd pushd popd pwd date local export declare readonly typeset "
        "wait sleep trap read getopts mapfile readarray which command hash type basename "
        "dirname readlink realpath seq hostname whoami id uname let expr bc continue break "
        "exec mktemp ls find du df stat file nproc free umask ulimit eval error_exit error "
        "warning help usage alias source . die info sum kill ps getconf print_args.sh "
        "parse_options.sh path.sh sync nvidia-smi",
        Kind.SCRIPT: "python python2 python3 sh bash",
    }
)
_NO_DATA = re.compile(r"\[\[?\s|\(\(|[\w.]*_(usage|exit|error)$")
_PREFIXES = ("time", "nice", "env", "command", "exec", "sudo", "nohup", "eval")
_UNPACKS = re.compile(r"-?-?\w*x\w*|--extract|--get")


def kind_of(written: Sequence[str], words: Sequence[str | None], jobs: bool) -> tuple[Kind, str]:
    """The kind of a command, and what does the same here.

    Args:
        written: its words as they are written.
        words: what they stand for, None where that is not certain.
        jobs: whether it has a ``JOB=1:N``.
    """
    if jobs:
        return Kind.JOBS, JOBS
    kind, name = _kind(list(written), [w or "" for w in words])
    if kind is Kind.JOBS:
        return kind, JOBS
    return kind, KALDI_TOOLS.get(name, "") or REPLACED_BY.get(kind, "")


def _kind(written: list[str], words: list[str]) -> tuple[Kind, str]:
    while len(words) > 1 and words[0] in _PREFIXES and not words[1].startswith("-"):
        written, words = written[1:], words[1:]
    called = (words[0] if words else "") or written[0].replace('"', "")
    name = called.rpartition("/")[2].strip("${}")
    if name == "tar":
        unpacks = any(_UNPACKS.fullmatch(word) for word in words[1:2] + words[1:])
        return (Kind.EXTRACT if unpacks else Kind.FILES), name
    if name in ("gzip", "bzip2", "xz", "pigz", "zstd", "zip"):
        unpacks = any(re.fullmatch(r"-\w*d\w*|--decompress", word) for word in words)
        return (Kind.EXTRACT if unpacks else Kind.FILES), name
    if name == "git":
        return (Kind.DOWNLOAD if "clone" in words or "lfs" in words else Kind.TOOL), name
    if name == "find":
        loops = any(word.startswith("-exec") for word in words)
        return (Kind.PER_FILE if loops else Kind.TEXT), name
    if name in ("echo", "printf"):
        return Kind.HOUSEKEEPING, name
    if name in _PROGRAMS and _PROGRAMS[name] is not Kind.SCRIPT:
        return _PROGRAMS[name], name
    if name in KALDI_TOOLS or re.search(r"(^|/|\{)(utils|steps|scripts|pyscripts)\}?/", called):
        return Kind.KALDI, name
    if _PROGRAMS.get(name) is Kind.SCRIPT or re.search(r"python[\d.]*\}?$", called):
        return _script(words), name
    if _NO_DATA.match(called):
        return Kind.HOUSEKEEPING, name
    if re.search(r"\.(sh|py|pl|perl|rb|R|m)$", name):
        return Kind.SCRIPT, name
    return _by_variable(called, name), name


def _script(words: list[str]) -> Kind:
    if words[1:3] == ["-m", "pip"]:
        return Kind.TOOL
    return Kind.TEXT if len(words) > 1 and words[1] in ("-c", "-") else Kind.SCRIPT


def _by_variable(called: str, name: str) -> Kind:
    """The kind of `$sph2pipe` and `${remove_archive}`, which are named after what they hold."""
    if not called.startswith("$"):
        return Kind.UNKNOWN
    if name.endswith("cmd"):
        return Kind.JOBS
    plain = name.lower().removesuffix("_bin").removesuffix("_path")
    if plain in _PROGRAMS:
        return _PROGRAMS[plain]
    # A flag that is run as a command: `if $skip; then`.
    return Kind.HOUSEKEEPING if re.fullmatch(r"\w+", name) else Kind.UNKNOWN
