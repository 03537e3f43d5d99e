"""What each task script decodes with: classes, arguments, inputs, test sets and workers."""

import pytest
import yaml

from espnet3.migrate.findings import Fate
from espnet3.migrate.recipe import migrate

CMD = 'decode_cmd="slurm.pl --mem 1G"\ncuda_cmd="slurm.pl --mem 8G"\ntrain_cmd="slurm.pl"\n'
SETS = '--train_set t --valid_set v --test_sets "a b"'
SLURM = "command sbatch\noption mem=* --mem $0\ndefault gpu=0\noption gpu=0\noption gpu=* -G $0\n"


@pytest.fixture
def migrated(recipe):
    """Migrate a recipe with one call; the defaults are those of the table."""

    def of(call, cmd=CMD, **files):
        recipe.write("cmd.sh", cmd)
        recipe.write("conf/slurm.conf", SLURM)
        recipe.write("run.sh", f"{call}\n")
        for name, text in files.items():
            recipe.write(f"conf/{name}.yaml", text)
        return migrate(recipe.path)

    return of


def config(done, name="inference"):
    return yaml.safe_load(done.files[f"conf/{name}.yaml"])


def fates(done, setting):
    return [(f.fate, f.went_to) for f in done.findings if f.setting.startswith(setting)]


@pytest.mark.parametrize(
    ("call", "target", "inputs"),
    [
        ("asr.sh --use_maskctc true", "asr_inference_maskctc.Speech2Text", "speech"),
        ("asr.sh --use_k2 true --use_streaming true", "asr_inference_k2.k2Speech2Text", "???"),
        ("asr.sh --asr_task asr_transducer --use_streaming true",
         "asr_transducer_inference.Speech2Text", "speech"),
        ("asvspoof.sh", "asvspoof_inference.SpeechAntiSpoof", "speech"),
        ("s2t.sh --s2t_ctc true", "s2t_inference.Speech2Text", "speech"),
        ("st.sh --use_streaming true", "st_inference_streaming.Speech2TextStreaming", "speech"),
        ("slu.sh --use_transcript true", "slu_inference.Speech2Understand",
         ["speech", "transcript"]),
        ("enh.sh --is_tse_task true --ref_num 2", "enh_tse_inference.SeparateSpeech",
         ["speech_mix", "enroll_ref1", "enroll_ref2"]),
        ("tts.sh --use_spk_embed true --use_sid true", "tts_inference.Text2Speech",
         ["text", "spembs", "sids"]),
        ("tts2.sh --teacher_dumpdir exp/t", "tts2_inference.Text2Speech", ["text", "durations"]),
        ("svs2.sh", "svs_inference.SingingGenerate", ["text", "discrete_token"]),
        ("aqa.sh --use_ref_wav true --use_ref_text false", "aqa_inference.AqaInference",
         ["audio", "ref_audio"]),
        ("spk.sh", "spk_inference.Speech2Embedding", "speech"),
        ("speechlm.sh", None, "???"),
        ("lid.sh", None, "speech"),
    ],
)  # fmt: skip
def test_class_and_inputs(migrated, call, target, inputs):
    got = config(migrated(f"./{call} {SETS}"))
    assert got["model"]["_target_"] == (f"espnet2.bin.{target}" if target else "???")
    assert got["input_key"] == inputs


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("enh_asr.sh --asr_inference_args '--beam_size 3'", {"enh_s2t_task": True, "beam_size": 3}),
        ("enh_st.sh --st_inference_args '--nbest 2'", {"enh_s2t_task": True, "nbest": 2}),
        ("enh.sh --inference_enh_config conf/enh.yaml",
         {"inference_config": "conf/enh.yaml", "normalize_output_wav": True}),
        ("svs.sh --vocoder_file v.pkl --svs_task gan_svs",
         {"vocoder_checkpoint": "v.pkl", "svs_task": "gan_svs"}),
        ("svs2.sh --mix_type sequence",
         {"mix_type": "sequence", "discrete_token_layers": "???"}),
        ("tts.sh --vocoder_file v.pkl", {"vocoder_file": "v.pkl"}),
        ("asr.sh --use_ngram true", {"ngram_file": "???"}),
        ("asr.sh --use_k2 true --k2_ctc_decoding false --k2_config conf/k2.yaml",
         {"is_ctc_decoding": False, "lattice_weight": 0.5}),
        ("st.sh --use_src_lm true", {"src_lm_train_config": "???", "src_lm_file": "???"}),
        ("lm.sh --lm_inference_asr_config conf/lm.yaml", {"lm_file": "???", "maxlen": 9}),
    ],
)  # fmt: skip
def test_arguments_that_the_script_gives_the_class(migrated, call, arguments):
    done = migrated(f"./{call} {SETS}", k2="lattice_weight: 0.5\n", lm="maxlen: 9\n", enh="a: 1\n")
    model = config(done)["model"]
    assert {key: model.get(key) for key in arguments} == arguments


def test_arguments_that_the_script_does_not_give_the_class(migrated):
    call = f"./asr.sh --use_lm true --use_word_lm true --use_ngram false {SETS}"
    done = migrated(call)
    assert not {"lm_file", "lm_train_config", "ngram_file"} & {*config(done)["model"]}
    ((fate, why),) = fates(done, "--use_lm true")
    assert fate is Fate.UNMAPPED
    assert "use_word_lm" in why


def test_a_config_of_the_scoring_is_no_config_of_the_model(migrated):
    call = f"./enh.sh --inference_asr_config conf/asr.yaml --inference_asr_tag x {SETS}"
    done = migrated(call, asr="beam_size: 3\nref_channel: 1\n")
    assert "ref_channel" not in config(done)["model"]
    assert fates(done, "--inference_asr_config")[0][1].startswith("a second decoding")


@pytest.mark.parametrize(
    ("script", "names"),
    [("enh.sh", "a b v"), ("diar.sh", "a b v"), ("cls.sh", "a b v"), ("asvspoof.sh", "a b v"),
     ("enh_diar.sh", "a b"), ("asr.sh", "a b"), ("rst.sh --test_set c", "a b")],
)  # fmt: skip
def test_scripts_that_decode_the_validation_set_as_well(migrated, script, names):
    got = config(migrated(f"./{script} {SETS}"))
    assert [one["name"] for one in got["dataset"]["test"]] == names.split()


def test_the_sampling_rate_is_an_argument_of_each_call(migrated):
    done = migrated(f"./diar.sh --fs 16k {SETS}")
    assert config(done)["provider"] == {"params": {"model_kwargs": {"fs": 16000}}}
    assert "(the create_dataset stage)" in fates(done, "--fs 16k")[0][1]


@pytest.mark.parametrize(
    ("call", "env", "n_workers"),
    [
        ("asr.sh --inference_nj 7", "slurm", 7),
        ("asr.sh --use_k2 true --inference_nj 7", "slurm", 1),
        ("spk.sh --ngpu 2 --nj 7", "slurm", 2),
        ("lid.sh --nj 7", "slurm", 1),
        ("rst.sh --nj 7", "slurm", 1),
    ],
)
def test_workers(migrated, call, env, n_workers):
    got = config(migrated(f"./{call} {SETS}"))["parallel"]
    assert (got["env"], got.get("n_workers", 1)) == (env, n_workers)
    gpu = call.startswith(("spk", "lid"))  # decoded by cuda_cmd
    assert got["options"]["memory"] == ("8GiB" if gpu else "1GiB")


def test_on_one_machine_nothing_says_how_many_models_it_can_hold(migrated):
    done = migrated(f"./asr.sh --inference_nj 32 {SETS}", cmd='decode_cmd="run.pl"\n')
    assert config(done)["parallel"] == {"env": "local", "n_workers": 1}
    assert config(done, "parallel_local")["parallel"] == {"env": "local", "n_workers": 1}
    text = done.files["conf/inference.yaml"]
    assert "inference_nj 32 was how many pieces" in text
    limited = migrated(f"./asr.sh {SETS}", cmd='decode_cmd="run.pl --max-jobs-run 4"\n')
    assert config(limited)["parallel"] == {"env": "local", "n_workers": 4}


def test_blocks_of_a_cluster_start_as_many_workers_as_there_were_jobs(migrated):
    done = migrated(f"./asr.sh --nj 5 --inference_nj 7 {SETS}")
    files = {"parallel_slurm": 7, "parallel_slurm_gpu": 7, "parallel_slurm_data": 5}
    assert {name: config(done, name)["parallel"]["n_workers"] for name in files} == files
    assert (
        "DECIDE: how many workers, each a job; ESPnet2 submitted inference_nj, 7 (run.sh:1)"
        in (done.files["conf/parallel_slurm.yaml"])
    )


@pytest.mark.parametrize("script", ["hubert.sh", "ssl.sh", "beats.sh"])
def test_scripts_that_do_not_decode_get_no_inference_config(migrated, script):
    done = migrated(f"./{script} {SETS}")
    assert "conf/inference.yaml" not in done.files
    assert any("does not decode" in f.went_to for f in done.unmapped)
    ((fate, _),) = fates(done, "--test_sets")
    assert fate is Fate.UNMAPPED


def test_what_else_a_script_decodes_is_told(migrated):
    done = migrated(f"./enh_asr.sh {SETS}")
    assert any("enhanced speech" in f.went_to and f.decide for f in done.unmapped)


def test_all_run_scripts_name_data_sets(recipe, migrated):
    recipe.write("run_b.sh", "./asr.sh --train_set t2 --test_sets $unknown\n")
    got = config(migrated(f"./asr.sh {SETS}"), "training")["dataset"]
    names = {role: [one["name"] for one in got[role]] for role in ("train", "valid", "test")}
    assert names == {"train": ["t", "t2"], "valid": ["v"], "test": ["a", "b"]}


@pytest.mark.parametrize(
    ("option", "fate", "word"),
    [
        ("--inference_tag x", Fate.UNMAPPED, "inference_dir"),
        ("--asr_exp exp/a", Fate.UNMAPPED, "trained model"),
        ("--batch_size 4", Fate.UNMAPPED, "lists of items"),
        ("--eval_valid_set false", Fate.UNMAPPED, "dataset.test"),
        ("--lm_test_text x", Fate.UNMAPPED, "perplexity"),
        ("--num_inf 2", Fate.UNMAPPED, "metrics"),
        ("--use_streaming false", Fate.MAPPED, "_target_"),
        ("--asr_stats_dir exp/s", Fate.LATER, "training"),
    ],
)
def test_where_options_go(migrated, option, fate, word):
    ((its_fate, went),) = fates(migrated(f"./asr.sh --asr_tag t {option} {SETS}"), option)
    assert its_fate is fate
    assert word in went
