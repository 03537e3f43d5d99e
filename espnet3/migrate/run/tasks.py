"""What ESPnet2's task scripts decode with, and score by."""

from __future__ import annotations

from dataclasses import dataclass

from espnet3.migrate.run.options import Options

_ERROR_RATES = "WER and CER by sclite"
_BLEU = "BLEU, chrF and TER by sacrebleu"


@dataclass(frozen=True)
class Task:
    """A task script.

    Attributes:
        module: Of ``espnet2.bin``, which it decodes with; "" if it does not decode.
        inputs: The names that it gives the model's inputs.
        model: The option that names the file of the model's weights.
        scores: What it scores by, in words.
        error_rates: Whether that is WER and CER.
    """

    module: str = ""
    inputs: tuple[str, ...] = ()
    model: str = ""
    scores: str = ""
    error_rates: bool = False


_VERSA = "versa"
TASKS: dict[str, Task] = {
    "aqa.sh": Task("aqa_inference", ("audio",), "inference_model", "the tests of aqa.sh"),
    "asr.sh": Task("asr_inference", ("speech",), "inference_asr_model", _ERROR_RATES, True),
    "asr2.sh": Task("mt_inference", ("src_text",), "inference_asr_model", _ERROR_RATES, True),
    "asvspoof.sh": Task("asvspoof_inference", ("speech",), "inference_model", "EER"),
    "cls.sh": Task("cls_inference", ("speech",), "inference_model", "accuracy and mAP"),
    "codec.sh": Task("gan_codec_inference", ("audio",), "inference_model", _VERSA),
    "diar.sh": Task("diar_inference", ("speech",), "inference_model", "DER"),
    "enh.sh": Task("enh_inference", ("speech_mix",), "inference_model", "STOI, SDR and their like"),
    "enh_asr.sh": Task("asr_inference", ("speech",), "inference_enh_asr_model", _ERROR_RATES, True),
    "enh_diar.sh": Task("diar_inference", ("speech",), "inference_model", "DER and SDR"),
    "enh_st.sh": Task("st_inference", ("speech",), "inference_enh_st_model", _BLEU),
    "lid.sh": Task("lid_inference", ("speech",), "inference_model", "accuracy"),
    "lm.sh": Task("lm_inference", ("text",), "inference_lm", "perplexity, and WER of texts"),
    "mt.sh": Task("mt_inference", ("src_text",), "inference_mt_model", _BLEU),
    "rst.sh": Task("rst_inference", (), "", _VERSA),
    "s2st.sh": Task("s2st_inference", ("src_speech",), "inference_s2st_model", _BLEU),
    "s2t.sh": Task("s2t_inference", ("speech",), "inference_s2t_model", _ERROR_RATES, True),
    "slu.sh": Task("slu_inference", ("speech",), "inference_slu_model", _ERROR_RATES, True),
    "speechlm.sh": Task("speechlm_inference", (), "inference_model", _VERSA),
    "spk.sh": Task("spk_inference", ("speech",), "inference_model", "EER and minDCF"),
    "st.sh": Task("st_inference", ("speech",), "inference_st_model", _BLEU),
    "svs.sh": Task("svs_inference", ("text", "singing"), "inference_model", "MCD, F0 and versa"),
    "svs2.sh": Task("svs_inference", ("text", "singing"), "inference_model", "MCD, F0 and versa"),
    "tts.sh": Task("tts_inference", ("text",), "inference_model", "MCD, F0 and versa"),
    "tts2.sh": Task("tts2_inference", ("text",), "inference_model", "MCD, F0 and their like"),
    "uasr.sh": Task("uasr_inference", ("speech",), "inference_uasr_model", _ERROR_RATES, True),
}


def module_of(script: str, options: Options) -> str:
    """The module of ``espnet2.bin`` that a call decodes with; "" if it is not known."""
    module = TASKS[script].module if script in TASKS else ""
    if script == "asr.sh" and options.value("asr_task") == "asr_transducer":
        module = "asr_transducer_inference"
    elif script == "enh.sh" and options.is_true("is_tse_task"):
        module = "enh_tse_inference"
    elif module:
        for name in ("k2", "streaming", "maskctc"):
            if options.is_true(f"use_{name}"):
                return f"{module}_{name}"
    return module
