"""What ESPnet2's task scripts decode with, and score by.

Each fact is from the stage of the script in ``egs2/TEMPLATE`` that decodes, and from the class in
``espnet2/bin`` that it starts: the names in ``--data_path_and_name_and_type`` that ``__call__``
of the class takes, and what else stands in that command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet3.migrate.run.options import Options

_ERROR_RATES = "WER and CER by sclite"
_BLEU = "BLEU, chrF and TER by sacrebleu"
_VERSA = "versa"
_MCD = "MCD, F0 and versa"


@dataclass(frozen=True)
class Task:
    """A task script.

    Attributes:
        module: Of ``espnet2.bin``, which it decodes with; "" if it does not decode.
        inputs: The names that it gives the model's inputs.
        model: The option that names the file of the model's weights.
        scores: What it scores by, in words.
        error_rates: Whether that is WER and CER.
        configs: Options whose file is ``--config`` of the command.
        arguments: Options whose text is put behind the command.
        passed: Options that are arguments of the class, by their names there.
        fixed: Arguments that it always gives.
        computed: Arguments whose values the script makes, and of what.
        more_inputs: Options that add an input if they are true, and its name.
        valid_too: Whether it decodes the validation set as well.
        of_the_call: Options that are arguments of each call of the model.
        one_job: Whether it decodes in one job of ``cuda_cmd``, with the GPUs of training.
        note: What else to know about the inputs.
        also: What else it decodes.
    """

    module: str = ""
    inputs: tuple[str, ...] = ()
    model: str = ""
    scores: str = ""
    error_rates: bool = False
    configs: tuple[str, ...] = ("inference_config",)
    arguments: tuple[str, ...] = ("inference_args",)
    passed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    computed: Mapping[str, str] = field(default_factory=dict)
    more_inputs: Mapping[str, str] = field(default_factory=dict)
    valid_too: bool = False
    of_the_call: tuple[str, ...] = ()
    one_job: bool = False
    note: str = ""
    also: str = ""


_SPEECH, _TEXT = ("speech",), ("text",)
_SPEAKERS = dict.fromkeys(("use_spk_embed", "use_xvector"), "spembs") | {
    "use_sid": "sids",
    "use_lid": "lids",
}
_VOCODER = {"vocoder_file": "vocoder_file"}
_ENH = "enh_inference writes enhanced speech, by inference_enh_config and enh_inference_args"
_ENH_S2T: dict[str, Any] = {"fixed": {"enh_s2t_task": True}, "also": _ENH}
_TTS: dict[str, Any] = {
    "passed": _VOCODER,
    "more_inputs": _SPEAKERS,
    # `speech` is in the command as well; __call__ asks for it if the model has use_speech.
    "note": "a model with a reference encoder takes speech as well",
}
_SVS: dict[str, Any] = {
    "more_inputs": _SPEAKERS,
    # SingingGenerate.__call__ makes midi, durations and the rest of them.
    "note": "a dict of label and score, as SingingGenerate takes it; some models take singing too",
}
_WHOLE: dict[str, Any] = {"valid_too": True, "of_the_call": ("fs",)}

TASKS: dict[str, Task] = {
    "aqa.sh": Task(
        "aqa_inference", ("audio",), "inference_model", "the tests of aqa.sh",
        more_inputs={"use_ref_wav": "ref_audio", "use_ref_text": "ref_text"},
    ),
    "asr.sh": Task("asr_inference", _SPEECH, "inference_asr_model", _ERROR_RATES, True),
    "asr2.sh": Task("mt_inference", ("src_text",), "inference_asr_model", _ERROR_RATES, True),
    "asvspoof.sh": Task("asvspoof_inference", _SPEECH, "inference_model", "EER", valid_too=True),
    "beats.sh": Task(),
    "cls.sh": Task(
        "cls_inference", _SPEECH, "inference_model", "accuracy and mAP", configs=(),
        valid_too=True,
    ),
    "codec.sh": Task("gan_codec_inference", ("audio",), "inference_model", _VERSA),
    "diar.sh": Task("diar_inference", _SPEECH, "inference_model", "DER", **_WHOLE),
    "enh.sh": Task(
        "enh_inference", ("speech_mix",), "inference_model", "STOI, SDR and their like",
        # `inference_config` is an argument of SeparateSpeech, and there is no `--config`.
        configs=(), passed={"inference_enh_config": "inference_config"}, **_WHOLE,
    ),
    "enh_asr.sh": Task(
        "asr_inference", _SPEECH, "inference_enh_asr_model", _ERROR_RATES, True,
        arguments=("asr_inference_args",), **_ENH_S2T,
    ),
    "enh_diar.sh": Task(
        "diar_inference", _SPEECH, "inference_model", "DER and SDR", of_the_call=("fs",),
    ),
    "enh_st.sh": Task(
        "st_inference", _SPEECH, "inference_enh_st_model", _BLEU,
        arguments=("st_inference_args",), **_ENH_S2T,
    ),
    "hubert.sh": Task(),
    "lid.sh": Task(
        "lid_inference", _SPEECH, "inference_model", "accuracy", configs=(), one_job=True
    ),
    "lm.sh": Task(
        "lm_inference", _TEXT, "inference_lm", "perplexity, and WER of texts",
        configs=("lm_inference_asr_config",), passed={"token_type": "token_type"},
        also="lm_inference continues lm_test_text_tts, by lm_inference_tts_config",
    ),
    "mt.sh": Task("mt_inference", ("src_text",), "inference_mt_model", _BLEU),
    "rst.sh": Task("rst_inference", (), "", _VERSA, configs=("decode_config",)),
    "s2st.sh": Task(
        "s2st_inference", ("src_speech",), "inference_s2st_model", _BLEU,
        passed=_VOCODER, more_inputs=_SPEAKERS,
        note="with teacher forcing tgt_speech as well",
    ),
    "s2t.sh": Task("s2t_inference", _SPEECH, "inference_s2t_model", _ERROR_RATES, True),
    "slu.sh": Task(
        "slu_inference", _SPEECH, "inference_slu_model", _ERROR_RATES, True,
        more_inputs={"use_transcript": "transcript"},
    ),
    "speechlm.sh": Task("speechlm_inference", (), "inference_model", _VERSA),
    # It starts spk_embed_extract, which has no class for one item; this is that of the same task.
    "spk.sh": Task("spk_inference", _SPEECH, "inference_model", "EER and minDCF", one_job=True),
    "ssl.sh": Task(),
    "st.sh": Task("st_inference", _SPEECH, "inference_st_model", _BLEU),
    "svs.sh": Task(
        "svs_inference", _TEXT, "inference_model", _MCD,
        passed={"vocoder_file": "vocoder_checkpoint", "svs_task": "svs_task"}, **_SVS,
    ),
    "svs2.sh": Task(
        "svs_inference", ("text", "discrete_token"), "inference_model", _MCD,
        passed={
            "vocoder_file": "vocoder_checkpoint",
            "mix_type": "mix_type",
        },
        computed={"discrete_token_layers": "it counts RVQ_layers, preset_layer and multi_token"},
        **_SVS,
    ),
    "tts.sh": Task("tts_inference", _TEXT, "inference_model", _MCD, **_TTS),
    "tts2.sh": Task(
        "tts2_inference", _TEXT, "inference_model", "MCD, F0 and their like", **_TTS
    ),
    "uasr.sh": Task("uasr_inference", _SPEECH, "inference_uasr_model", _ERROR_RATES, True),
}  # fmt: skip
_K2 = {
    "k2_ctc_decoding": "is_ctc_decoding",
    "use_nbest_rescoring": "use_nbest_rescoring",
    "num_paths": "num_paths",
    "nll_batch_size": "nll_batch_size",
}
"""What `asr.sh` gives the class for k2."""
VARIANTS = {
    "asr.sh": ("k2", "streaming", "maskctc"),
    "s2t.sh": ("streaming",),
    "st.sh": ("streaming",),
    "uasr.sh": ("k2",),
}
"""Per script the options ``use_...`` that choose another module, the first that is true."""


def module_of(script: str, options: Options) -> str:
    """The module of ``espnet2.bin`` that a call decodes with; "" if it is not known."""
    module = TASKS[script].module if script in TASKS else ""
    if script == "asr.sh" and (task := options.value("asr_task")) not in ("", "asr"):
        return f"{task}_inference"  # which has no variants there
    if script == "enh.sh" and options.is_true("is_tse_task"):
        return "enh_tse_inference"
    if script == "s2t.sh" and options.is_true("s2t_ctc") and not options.is_true("use_streaming"):
        # Its class is deprecated; that of s2t_inference decodes the same.
        return "s2t_inference"
    for name in VARIANTS.get(script, ()):
        if options.is_true(f"use_{name}"):
            return f"{module}_{name}"
    return module


def passed(script: str, module: str) -> Mapping[str, str]:
    """The options that are arguments of the class, by their names there."""
    if module == "asr_inference_k2":
        return _K2
    return TASKS[script].passed if script in TASKS else {}


def inputs_of(script: str, options: Options) -> list[str]:
    """The names of the inputs of a call's model; empty if they are not known."""
    task = TASKS.get(script, Task())
    names = list(task.inputs)
    for option, name in task.more_inputs.items():
        if options.is_true(option) and name not in names:
            names.append(name)
    teacher = options.get("teacher_dumpdir")
    if script in ("tts.sh", "tts2.sh") and teacher is not None and teacher.value != "":
        names.append("durations")  # by which it is forced
    if script == "enh.sh" and options.is_true("is_tse_task"):
        count = options.value("ref_num")
        names += [f"enroll_ref{i + 1}" for i in range(int(count) if count.isdigit() else 1)]
    return names
