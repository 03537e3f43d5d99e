"""One call of a task script, as a config for inference and one for scoring."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet3.migrate.findings import Fate, Finding
from espnet3.migrate.run.inference_file import inference_text, metrics_text
from espnet3.migrate.run.meanings import meaning
from espnet3.migrate.run.model_block import ModelBlock, make_model_block
from espnet3.migrate.run.options import Option, read_options
from espnet3.migrate.run.script import Call
from espnet3.migrate.run.tasks import TASKS, Task, inputs_of
from espnet3.migrate.run.weights import MISSING
from espnet3.migrate.run.workers import Blocks, parallel_of

_OUTPUT_FN = (
    "DECIDE: a function that makes a dict such as {'text': ...} of what the model returns; see "
    "docs/from-espnet2.md"
)
_SETS = {"train_set": "train", "valid_set": "valid", "test_sets": "test", "test_set": "test"}
_SET = re.compile(r"[\w.-]+")


@dataclass
class Runs:
    """What became of a recipe's run scripts.

    Attributes:
        files: Names of files to write, and their texts.
        about: Per file, the call that it replaces.
        decisions: Per file, keys that are marked in it, and what a person must decide.
        defaults: Per task script the defaults that no option of its calls changes.
        findings: What became of each setting.
        read: The run scripts.
        data_sets: The names of data sets by what they are for: train, valid, test.
    """

    files: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, dict[str, str]] = field(default_factory=dict)
    defaults: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    data_sets: dict[str, list[str]] = field(default_factory=dict)


class CallMigration:
    """One call of a task script.

    Args:
        recipe: the recipe's directory.
        call: the call.
        name: the run script that it stands in.
        number: how many calls stand before it there.
        blocks: the files of parallel blocks.
    """

    def __init__(
        self,
        recipe: Path,
        call: Call,
        name: str,
        number: int,
        blocks: Blocks,
    ) -> None:
        self.call = call
        ending = name.removeprefix("run").removesuffix(".sh")
        ending += f"_{number + 1}" if number else ""
        self.file = f"conf/inference{ending}.yaml"
        self.metrics = f"conf/metrics{ending}.yaml"
        self.options = read_options(recipe, call)
        self.model: ModelBlock = make_model_block(recipe, call.script, self.options, self.file)
        self.blocks = blocks
        self.findings: list[Finding] = [*self.options.findings, *self.model.findings]
        self.decided = set(self.model.decided)

    def write(self, done: Runs) -> None:
        """Add its files and findings."""
        call = self.call
        about = f"./{call.script} ({call.place})"
        task = TASKS.get(call.script)
        if call.under:
            why = f"it is called under `{call.under[-1]}`; what differs there is marked ???"
            ask = f"one {self.file} for each of its turns, if there are several"
            self.findings.append(Finding(f"./{call.script}", call.place, Fate.MAPPED, why, ask))
        if task is None or task.module:
            fields = self._fields(task)
            parallel = parallel_of(
                call.script, self.model.module, self.options, self.blocks, self.file, self._tell
            )
            done.files[self.file] = inference_text(
                f"For the infer stage, instead of {about}",
                self._exp_tag(),
                self._test_sets(),
                self.model.lines,
                fields,
                parallel,
            )
            done.about[self.file] = about
            marked = {f"model.{key}": line for key, line in self.model.lines.items()} | fields
            done.decisions[self.file] = {
                key: why.removeprefix("DECIDE: ")
                for key, (value, why) in marked.items()
                if value == MISSING or why.startswith("DECIDE")
            }
        else:
            why = f"{call.script} does not decode, so there is no {self.file}"
            self.findings.append(Finding(f"./{call.script}", call.place, Fate.UNMAPPED, why))
        if task and task.also:
            ask = f"a second config like {self.file}, if it is wanted"
            setting = f"also decoded by {call.script}"
            finding = Finding(setting, call.place, Fate.UNMAPPED, task.also, ask)
            self.findings.append(finding)
        self._scores(done, about)
        self._rest(done)
        self._data_sets(done)
        done.findings += self.findings

    def _fields(self, task: Task | None) -> dict[str, tuple[Any, str]]:
        """What goes into the model, and what comes out."""
        inputs = inputs_of(self.call.script, self.options)
        input_key: Any = inputs[0] if len(inputs) == 1 else inputs
        why = "of the data set's items; the model's argument"
        if self.model.module == "asr_inference_k2":
            input_key, why = MISSING, "DECIDE: its class takes a whole batch, a dict"
        elif not input_key:
            input_key, why = MISSING, "DECIDE: the fields of the data set's items for your model"
        elif task and task.note:
            why += f": {task.note}"
        fields = {"input_key": (input_key, why), "output_fn": (MISSING, _OUTPUT_FN)}
        if task and task.error_rates:
            fields["output_keys"] = (["text"], "of that dict")
        kwargs: dict[str, int] = {}
        places = []
        for name in task.of_the_call if task else ():
            option = self.options.get(name)
            match = re.fullmatch(r"(\d+)(k?)", option.value or "") if option else None
            if option is not None and match:
                kwargs[name] = int(match[1]) * (1000 if match[2] else 1)
                places.append(str(option.place))
        if kwargs:
            held = {"params": {"model_kwargs": kwargs}}
            fields["provider"] = (held, f"of each call of the model: {', '.join(places)}")
        return fields

    def _tell(
        self, option: Option, fate: Fate, went_to: str, ask: str = "", file: str = ""
    ) -> None:
        files = (file,) if file else ()
        self.decided.add(option.name)
        finding = Finding(option.written, option.place, fate, went_to, ask, files)
        if finding not in self.findings:
            self.findings.append(finding)

    def _exp_tag(self) -> tuple[str, str]:
        for option in reversed(self.options.given):
            if re.fullmatch(r"(\w+_)?tag", option.name) and "inference" not in option.name:
                if option.name.startswith(("lm_", "score_", "scoring_")) or not option.value:
                    continue
                self._tell(option, Fate.MAPPED, f"exp_tag: {option.value}", "", self.file)
                return option.value, str(option.place)
        tag = self.options.get("inference_tag")
        if tag is not None and tag.value:
            self._tell(tag, Fate.MAPPED, f"exp_tag: {tag.value}", "", self.file)
            return tag.value, str(tag.place)
        name = self.call.script.removesuffix(".sh")
        return name, "outputs go to exp/<exp_tag>; no tag is set in the run script"

    def _test_sets(self) -> list[tuple[str, str]]:
        names: dict[str, str] = {}
        option = self.options.get("test_sets") or self.options.get("test_set")
        if option is not None and option.value is not None:
            where = str(option.place)
            given = [name.strip("/") for name in option.value.split() if name.strip("/")]
            # They become names of directories.
            names = {name: where for name in given if ".." not in name.split("/")}
            if len(names) < len({*given}):
                ask = f"the names of those, in {self.file}"
                why = "a data set outside of the data directory"
                self._tell(option, Fate.UNMAPPED, why, ask, self.file)
            if names:
                went = f"dataset.test: {', '.join(names)}"
                self._tell(option, Fate.MAPPED, went, "", self.file)
        valid, also = self.options.get("valid_set"), self.options.get("eval_valid_set")
        if valid is not None and valid.value:
            if also is not None and also.value == "true":
                names.setdefault(valid.value.strip("/"), str(also.place))
                self._tell(also, Fate.MAPPED, f"dataset.test: {valid.value}", "", self.file)
            elif self.call.script in TASKS and TASKS[self.call.script].valid_too:
                where = f"{valid.place}; {self.call.script} decodes it, too"
                names.setdefault(valid.value.strip("/"), where)
        if names:
            return list(names.items())
        if option is not None:
            why = option.why or "it is empty"
            self._tell(option, Fate.UNMAPPED, why, f"the test sets, in {self.file}", self.file)
        return [(MISSING, "DECIDE: the test sets")]

    def _data_sets(self, done: Runs) -> None:
        for name, role in _SETS.items():
            for one in self.options.value(name).split():
                held = done.data_sets.setdefault(role, [])
                if _SET.fullmatch(one.strip("/")) and one.strip("/") not in held:
                    held.append(one.strip("/"))

    def _scores(self, done: Runs, about: str) -> None:
        task = TASKS.get(self.call.script)
        if task is not None and not task.module:
            return
        setting, place = f"scoring of {self.call.script}", self.call.place
        if task is None or not task.error_rates:
            scores = task.scores if task and task.scores else "what is not known here"
            why = f"it is {scores}; the metrics here are WER and CER"
            ask = f"write {self.metrics} with metric classes of your own"
            self.findings.append(Finding(setting, place, Fate.UNMAPPED, why, ask))
            return
        cleaners = [self.options.value(name) for name in ("cleaner", "hyp_cleaner")]
        used = [name for name in cleaners if name not in ("", "none")]
        note = f"DECIDE: ESPnet2 cleaned with {', '.join(dict.fromkeys(used))}" if used else ""
        done.files[self.metrics] = metrics_text(f"For the measure stage, instead of {about}", note)
        done.about[self.metrics] = f"{about}: {task.scores}"
        ask = "whether tokens in brackets (nlsyms_txt) are to be removed; sclite did not count them"
        if self.options.value("nlsyms_txt") in ("", "none"):
            ask = ""
        went = "WER and CER; the token error rate (TER) of BPE tokens has no metric here"
        self.findings.append(Finding(setting, place, Fate.MAPPED, went, ask, (self.metrics,)))

    def _rest(self, done: Runs) -> None:
        """Everything else that the run script says, and what it leaves to the task script."""
        for option in self.options.given:
            if option.name in self.decided:
                if option is not self.options.get(option.name):
                    why = "a later option of this name wins"
                    finding = Finding(option.written, option.place, Fate.UNUSED, why)
                    self.findings.append(finding)
                continue
            fate, went, ask = meaning(option.name)
            if option.name not in self.options.defaults and self.options.defaults:
                fate = Fate.UNMAPPED
                went = f"{self.call.script} has no such option and would have refused it"
                ask = "what was meant"
            if option.value is None:
                fate, went = Fate.UNMAPPED, f"{went}; its value: {option.why}"
            self.findings.append(Finding(option.written, option.place, fate, went, ask))
        given = {option.name for option in self.options.given}
        left = [one.written for name, one in self.options.defaults.items() if name not in given]
        source = self.options.source
        before = done.defaults.get(source, left)
        if source:
            done.defaults[source] = [one for one in left if one in before]
