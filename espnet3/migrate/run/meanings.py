"""Options of ESPnet2's task scripts: where each goes, by what it is for."""

from __future__ import annotations

import re

from espnet3.migrate.findings import Fate

_TRAINING = "for conf/training.yaml, whose training stage comes later"
_PREPARATION = "for `build` in dataset/builder.py (the create_dataset stage)"

# The first pattern that matches a whole name counts.
_MEANINGS: tuple[tuple[str, Fate, str, str], ...] = (
    (
        r"nj|.*_nj",
        Fate.UNMAPPED,
        "`parallel.n_workers` of the config of that stage: how many processes exist, not how many "
        "pieces a file is cut into",
        "how many workers data preparation and statistics get",
    ),
    (
        r"(|discrete_|clustering_|score_)(stage|stop_stage)|skip_.*|no_asr_eval",
        Fate.NEEDLESS,
        "stages are named when they are started: `run.py --stages infer measure`; what is done "
        "already is not done again",
        "",
    ),
    (
        r"ngpu|num_nodes|nodes|gpu_id",
        Fate.LATER,
        f"GPUs of training are {_TRAINING}; here n_workers counts workers, each with one GPU",
        "",
    ),
    (
        r"gpu_.*|use_gpu_.*|spk_embed_gpu_inference",
        Fate.UNMAPPED,
        "a config file with GPUs laid over that of the stage: conf/parallel_<backend>_gpu.yaml",
        "whether that stage needs GPUs",
    ),
    (r"train_set|valid_set|train_sets|train_jsons|valid_jsons|tsne_set|cohort_set", Fate.MAPPED,
     "`dataset.train` and `dataset.valid` of conf/training.yaml, or a data set of the recipe's own "
     "dataset/", ""),
    (r"expdir", Fate.UNMAPPED, "`exp_dir` of the configs; left out, it is exp/<exp_tag>",
     "where outputs go"),
    (r"dumpdir|datadir|feature_dir|teacher_dumpdir|storage_save_mode", Fate.NEEDLESS,
     "there is no dump/: dataset/builder.py says where its output lies", ""),
    (r"python", Fate.NEEDLESS, "workers run the interpreter of the driver", ""),
    (r"hf_repo|skip_upload.*", Fate.NEEDLESS, "packing and publishing are no stages here", ""),
    (r"local_data_opts|post_process_local_data_opts|auxiliary_data_tags", Fate.UNMAPPED,
     f"{_PREPARATION}: arguments under `create_dataset:` of conf/training.yaml",
     "which of them your builder takes"),
    (r"fs|audio_format|feats_type|(min|max)_wav_duration|multi_columns_.*", Fate.UNMAPPED,
     f"{_PREPARATION}: `format_audio` and the duration filters of espnet3.components.data",
     "write it there"),
    (r"speed_perturb_factors|remove_silence|silence_trim|.*vad.*|sil_.*|n_rirs|noise_type_num",
     Fate.UNMAPPED, f"{_PREPARATION} or of training", "where it is done"),
    (r"(use_|)(spk_embed|xvector|sid|lid).*|use_(speech|text|ref_wav|ref_text)", Fate.UNMAPPED,
     f"{_PREPARATION}, or a field of your data set's items", "whether the model needs it"),
    (r"(inference_|enh_inference_|st_inference_|asr_inference_)args", Fate.UNMAPPED,
     "arguments of the model block of conf/inference.yaml", "which"),
    (r"(score_|local_score_|scoring_|versa_|collar|metric2|ref_wav_scp|score_|frame_shift).*"
     r"|hyp_cleaner|qmf_func|perplexity",
     Fate.UNMAPPED, "conf/metrics.yaml: scoring is by metric classes", "whether a metric needs it"),
    (r"(lang|src_lang|tgt_lang|src_case|tgt_case|token_case)", Fate.LATER,
     f"a label of the experiment, and {_TRAINING}", ""),
    (r".*nbpe|.*bpe.*|.*token.*|.*nlsyms.*|.*cleaner|.*g2p|oov|blank|sos_eos|so[sp]|eos|pad"
     r"|word_vocab_size|reduce_vocab|hugging_face_model_name_or_path|text_classes|multi_token",
     Fate.LATER, f"tokens and text: {_TRAINING}; at inference they are part of the trained model",
     ""),
    (r"(use_|src_|)(lm|word_lm|ngram|src_lm|src_word_lm|src_ngram).*|lm_.*|num_splits_lm|use_.*prompt",
     Fate.LATER, f"language models: {_TRAINING}", ""),
    (r".*(inference|decode|decoding|vocoder|two_pass|k2|nbest|num_paths|use_streaming|use_maskctc"
     r"|batch_size|download_model|ref_channel|nll_batch|s2t_ctc|output_all).*|ngram_.*",
     Fate.UNMAPPED,
     "an argument of the model under `model:` of conf/inference.yaml, or nothing",
     "whether the model takes it"),
    (r".*", Fate.LATER, f"the model and its features: {_TRAINING}", ""),
)  # fmt: skip


def meaning(name: str) -> tuple[Fate, str, str]:
    """What becomes of an option: its fate, where it goes, and what a person must decide."""
    for pattern, fate, went_to, decide in _MEANINGS:
        if re.fullmatch(pattern, name):
            return fate, went_to, decide
    raise AssertionError("the last pattern matches every name")
