"""Options of ESPnet2's task scripts: where each goes, by what it is for.

What an option does was looked up in the task scripts of ``egs2/TEMPLATE``; options that decide
something that is written do not come here (`call`, `model_block`, `weights`, `workers`).
"""

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
    (r"train_set|valid_set", Fate.MAPPED,
     "`dataset.train` and `dataset.valid` of conf/training.yaml", ""),
    (r"(train|valid)_(sets|jsons)|test_sets?|test_jsons|cohort_set|tsne_set", Fate.UNMAPPED,
     "a data set of the recipe's own dataset/, named in the config of the stage that needs it",
     "which stage needs it"),
    (r"eval_valid_set", Fate.UNMAPPED,
     "`dataset.test` of conf/inference.yaml, which may name the validation set as well", ""),
    (r"expdir", Fate.UNMAPPED, "`exp_dir` of the configs; left out, it is exp/<exp_tag>",
     "where outputs go"),
    # asr.sh: `--asr_train_config "${asr_exp}"/config.yaml`, `--lm_file "${lm_exp}/..."`
    (r"\w+_exp", Fate.UNMAPPED,
     "the directory of a trained model: paths under `model:` of conf/inference.yaml",
     "whether they lie there"),
    (r"inference_(lm|ngram)", Fate.UNMAPPED,
     "the weights of a language model: `model.lm_file` or `model.ngram_file`, where it is used",
     "whether it is used"),
    (r"inference_ssl_model", Fate.NEEDLESS, "packing and publishing are no stages here", ""),
    (r"inference_(\w+_|)model", Fate.UNMAPPED,
     "the file of the weights: an argument under `model:` of conf/inference.yaml", "its path"),
    # enh.sh decodes its outputs with an ASR model, and st.sh and s2st.sh score with one.
    (r"lm_test_text_(asr|tts)", Fate.UNMAPPED,
     "texts that lm.sh decodes: a data set of the recipe's own dataset/", "its name"),
    (r"score_with_asr|inference_asr_.*|score_(asr|lm)_.*|lm_inference_\w+_config", Fate.UNMAPPED,
     "a second decoding, of what the first one made, to score it: a config of its own",
     "whether it is wanted"),
    # s2st.sh and lm.sh have no other place for it; its name there was that of the directory.
    (r"inference_tag|inference_enh_tag", Fate.UNMAPPED,
     "the directory of the outputs: `inference_dir`, or another name of conf/inference.yaml",
     "whether the name is needed"),
    (r"dumpdir|datadir|feature_dir|storage_save_mode", Fate.NEEDLESS,
     "there is no dump/: dataset/builder.py says where its output lies", ""),
    # tts.sh: `--data_path_and_name_and_type ${teacher_dumpdir}/.../durations,durations,text_int`
    (r"teacher_dumpdir", Fate.UNMAPPED,
     "durations of a teacher: a field of your data set's items, and of input_key",
     "whether the model needs them"),
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
    (r"(spk_embed|xvector)_.*|use_(spk_embed|xvector|sid|lid|speech|text|ref_wav|ref_text"
     r"|transcript)",
     Fate.UNMAPPED, f"{_PREPARATION}: a field of your data set's items, in input_key if it is true",
     "whether the model needs it"),
    (r"\w*inference_args", Fate.UNMAPPED,
     "arguments of a model block, in a config of its own", "whether that decoding is wanted"),
    # enh_asr.sh, enh.sh: `--ref_channel` is one of their scoring
    (r"(score_|local_score_|scoring_|versa_|collar|metric2|ref_wav_scp|score_|frame_shift).*"
     r"|hyp_cleaner|qmf_func|perplexity|ref_channel|enroll_mode|inf_num|num_inf|num_ref",
     Fate.UNMAPPED, "conf/metrics.yaml: scoring is by metric classes", "whether a metric needs it"),
    # asr.sh: lm_calc_perplexity
    (r"lm_test_.*", Fate.UNMAPPED, "the perplexity of a language model has no metric here",
     "whether it is wanted"),
    (r"(lang|src_lang|tgt_lang|src_case|tgt_case|token_case)", Fate.LATER,
     f"a label of the experiment, and {_TRAINING}", ""),
    (r"tokenizer_.*|external_\w+_model", Fate.LATER,
     f"labels that another model makes for training: {_TRAINING}", ""),
    (r".*nbpe|.*bpe.*|.*token.*|.*nlsyms.*|.*cleaner|.*g2p|oov|blank|sos_eos|so[sp]|eos|pad"
     r"|word_vocab_size|reduce_vocab|hugging_face_model_name_or_path|text_classes",
     Fate.LATER, f"tokens and text: {_TRAINING}; at inference they are part of the trained model",
     ""),
    (r"(use_|src_|)(lm|word_lm|ngram|src_lm|src_word_lm|src_ngram).*|num_splits_lm|use_.*prompt",
     Fate.LATER, f"language models: {_TRAINING}", ""),
    (r"batch_size|inference_batch_size", Fate.UNMAPPED,
     "here `batch_size` gives the model lists of items; ESPnet2's classes take one",
     "whether your model takes batches"),
    # They choose the module that decodes.
    (r"use_(streaming|maskctc|k2)|asr_task|is_tse_task|s2t_ctc", Fate.MAPPED,
     "`model._target_` of conf/inference.yaml", ""),
    (r".*(inference|decode|decoding|vocoder|two_pass|k2|nbest|num_paths|download_model|nll_batch"
     r"|output_all).*|extract_embd|checkpoint_interval|max_utt_per_lang_for_tsne",
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
