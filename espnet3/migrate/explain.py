"""Words of ESPnet2's parallel set-up: what replaces them, and what that means differently."""

from __future__ import annotations

from espnet3.errors import ConfigError
from espnet3.parallel.config_check import REPLACED
from espnet3.parallel.wording import nearest

_PIECES = (
    "nj is how many pieces a file is cut into, each a job; parallel.n_workers is how many "
    "processes exist. Work is dealt in short ranges as workers become free, so the number need not "
    "fit the data, may change when a run goes on, and does not change the results."
)
_COMMANDS = (
    "such a command is put before another one and runs it once for each piece. Here nothing is put "
    "before anything: workers are started from the block, build their model once, and take items "
    "until none is left."
)
_GPUS = (
    "it is how many GPUs each job gets. Here n_workers counts workers, each with one GPU; on a "
    "cluster the GPU of a job is asked for in its options (Slurm: job_extra_directives: "
    '["--gres=gpu:1"]).'
)
_SCHEDULER = (
    "it submits one array job, and each task of it reads one piece. Here each worker is a job of "
    "its own, which takes ranges until none is left; one that is lost is replaced, and loses "
    "what it had not committed."
)


def _env(env: str, conf: str) -> str:
    return f"write parallel.env: {env}, and under parallel.options what {conf} asked for"


_MEANINGS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("nj", "inference_nj"), (REPLACED["nj"], _PIECES)),
    "ngpu": (
        REPLACED["ngpu"],
        f"{_GPUS} For training it stays a matter of the training config.",
    ),
    "gpu_inference": (
        REPLACED["gpu_inference"],
        "true chose cuda_cmd with --gpu 1 instead of decode_cmd for the same jobs. Here another "
        "file is laid over the config, conf/parallel_local_gpu.yaml or that of your cluster.",
    ),
    **dict.fromkeys(("train_cmd", "decode_cmd", "cuda_cmd"), (REPLACED["train_cmd"], _COMMANDS)),
    "cmd.sh": (
        "write conf/parallel_<backend>.yaml, one for each place to run at: "
        "`espnet3 migrate <recipe>` does",
        "cmd_backend is edited in the script; here a file is laid over the config: "
        "--inference_config conf/inference.yaml conf/parallel_slurm.yaml.",
    ),
    "queue.pl": (_env("sge", "conf/queue.conf"), _SCHEDULER),
    "slurm.pl": (_env("slurm", "conf/slurm.conf"), _SCHEDULER),
    "pbs.pl": (_env("pbs", "conf/pbs.conf"), _SCHEDULER),
    "run.pl": (
        "write parallel.env: local, and parallel.n_workers",
        "it starts one process for each piece, at most as many at once as there are cores or "
        "--max-jobs-run says. Here n_workers processes live for the whole run, and share the "
        "cores; with 1, items are done in the program itself.",
    ),
    "ssh.pl": (
        "write parallel.env: ssh and parallel.options.hosts, the lines of .queue/machines",
        "it starts each piece on the next host. Here n_workers are dealt out over the hosts, and "
        "take ranges until none is left.",
    ),
    "split_scp.pl": (
        "write nothing: the runner shares out the items",
        "it cuts a file into nj files before anything starts, so the slowest piece decides. Here "
        "no file is cut; a worker gets the next range when it is free.",
    ),
    "JOB": (
        "write forward(idx, **env): the runner calls it for each index",
        "JOB is the number of a piece, and part of file names. Here forward gets the index of an "
        "item; no result may depend on which worker did it, and merge joins the parts in order.",
    ),
    "max_jobs_run": (
        REPLACED["nj"],
        "it is how many of the nj jobs run at once, so that n_workers is this number and not nj.",
    ),
    "queue.conf": (
        "write parallel.options: `espnet3 migrate <recipe>` translates the file",
        "it says what an option such as --mem 4G means to the scheduler. Here the options are "
        "those of dask-jobqueue's cluster class, and whatever else a job needs stands in "
        "job_extra_directives as the scheduler writes it.",
    ),
}
_STAGES = (
    "write the names of stages: run.py --stages create_dataset infer measure",
    "stages had numbers, and stage to stop_stage, without what is skipped, were run again each "
    "time. Here they have names, and a stage that was interrupted goes on where it was; what is "
    "complete is not done again.",
)
_MEANINGS |= {
    **dict.fromkeys(("stage", "stop_stage", "skip_stages"), _STAGES),
    **dict.fromkeys(("skip_data_prep", "skip_train", "skip_eval"), _STAGES),
    "test_sets": (
        "write dataset.test of conf/inference.yaml, a list with a name for each",
        "it named directories below dump/. Here each entry has a name, that of its output "
        "directory, and arguments of the recipe's own Dataset; workers stay up from one test set "
        "to the next.",
    ),
    **dict.fromkeys(
        ("train_set", "valid_set"),
        (
            "write dataset.train and dataset.valid of conf/training.yaml",
            "they named directories below data/ and dump/. Here entries name data sets, whose "
            "class is that of dataset/, and collect_stats reads both.",
        ),
    ),
    "inference_config": (
        "write its keys under model: of conf/inference.yaml: `espnet3 migrate <recipe>` does",
        "it was read by the decoding command, whose options were the model's and its own. Here "
        "they are arguments of the class that model._target_ names, and of nothing else.",
    ),
    "inference_args": (
        "write its options under model: of conf/inference.yaml, or a file laid over it",
        "they won over inference_config, and became part of the output directory's name. Here the "
        "later file wins, and another name is another exp_tag or inference_dir.",
    ),
    "inference_tag": (
        "write exp_tag or inference_dir of conf/inference.yaml",
        "the directory was put together from configs and arguments. Here it is "
        "<exp_dir>/<name of the config>, and a changed config refuses to go on in an old one.",
    ),
    "batch_size": (
        "write batch_size of conf/inference.yaml, only for a model that takes lists",
        "for decoding it was 1 in nearly all recipes. Here the model then gets lists of inputs and "
        "returns one dict for each item.",
    ),
    "run.sh": (
        "write conf/inference.yaml and conf/metrics.yaml: `espnet3 migrate <recipe>` does",
        "it called the task script with its options. Here run.py takes stages and configs.",
    ),
    **dict.fromkeys(
        ("dumpdir", "expdir"),
        (
            "write exp_dir of the configs; there is no dump/",
            "dumpdir held data as the stages wanted it, which dataset/builder.py makes where it "
            "likes; expdir held experiments, each of which is exp/<exp_tag> here.",
        ),
    ),
    **dict.fromkeys(
        ("audio_format", "fs", "min_wav_duration", "max_wav_duration"),
        (
            "write format_audio and its filters into build of dataset/builder.py",
            "stages 3 and 4 did it for each data set, by nj jobs. Here it is a step of the "
            "builder, on the same workers as all else, and only what is missing is made again.",
        ),
    ),
}
_SAME = {
    "slurm.conf": "queue.conf",
    "pbs.conf": "queue.conf",
    "cmd_backend": "cmd.sh",
    "stdout.pl": "run.pl",
    "max-jobs-run": "max_jobs_run",
    "JOB=1:nj": "JOB",
    "queue-freegpu.pl": "queue.pl",
    "num_nodes": "ngpu",
    "skip_packing": "skip_eval",
    "test_set": "test_sets",
    "asr.sh": "run.sh",
    "decode_config": "inference_config",
}
WORDS = tuple(_MEANINGS)


def explain(word: str) -> str:
    """What replaces a word, and what is different about it.

    Raises:
        ConfigError: if it is none of those known, with the nearest.
    """
    name = word.strip().lstrip("-").rpartition("/")[2]
    name = _SAME.get(name, name)
    if name not in _MEANINGS:
        known = {known.lower(): known for known in (*WORDS, *_SAME)}
        name = known.get(name.lower(), name)
        name = _SAME.get(name, name)
    if name not in _MEANINGS:
        hint = nearest(name, WORDS)
        raise ConfigError(f"--explain {word}: {hint}; known are {', '.join(WORDS)}")
    instead, meaning = _MEANINGS[name]
    return f"{word}: {instead}\n  {meaning}"
