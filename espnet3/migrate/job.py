"""The options of one kind of job, as they are collected from flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from espnet3.migrate.findings import Fate, Finding
from espnet3.migrate.flags import Flag
from espnet3.parallel.backends import walltime

NO_MEMORY = "4GB"
NO_WALLTIME = "24:00:00"


@dataclass
class Job:
    """What one job asks for.

    Attributes:
        env: The backend.
        options: For `parallel.options`.
        origin: Where each option comes from.
        findings: What became of each flag.
    """

    env: str
    options: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    n_workers: int | None = None
    findings: list[Finding] = field(default_factory=list)

    def put(self, key: str, value: Any, flag: Flag, decide: str = "") -> None:
        """Set an option; a later flag wins, as it does where jobs are submitted."""
        before = self.options.get(key)
        if before not in (None, value):
            self._replaced(f"options.{key}: {before}", flag)
        self.options[key] = value
        self.origin[key] = str(flag.piece.place)
        self.tell(flag, Fate.MAPPED, f"options.{key}: {value}", decide)

    def put_walltime(self, flag: Flag, units: walltime.Units, form: str) -> None:
        """Set the walltime, if it is one; `form` says in words how it is written here."""
        try:
            walltime.as_text(flag.value, units)
        except ValueError:
            self.tell(flag, Fate.UNMAPPED, f"no time {form}", "options.walltime")
        else:
            self.put("walltime", flag.value, flag)

    def _replaced(self, went_to: str, flag: Flag) -> None:
        by = f"`{flag.text}` ({flag.piece.place})"
        for i, finding in enumerate(self.findings):
            if finding.fate is Fate.MAPPED and finding.went_to == went_to:
                why = f"{by} stands behind it, and counts"
                if "option " in finding.setting and "option " in flag.piece.setting:
                    why = f"{by} counts here; the script writes the two in no fixed order"
                ask = "which of the two is meant"
                self.findings[i] = replace(finding, fate=Fate.UNMAPPED, went_to=why, decide=ask)

    def add_directive(self, flag: Flag, decide: str = "") -> None:
        """Pass a flag on as it is."""
        directives = self.options.setdefault("job_extra_directives", [])
        if flag.text not in directives:
            directives.append(flag.text)
        self.also_from("job_extra_directives", flag)
        self.tell(flag, Fate.MAPPED, f"options.job_extra_directives: {flag.text}", decide)

    def also_from(self, key: str, flag: Flag) -> None:
        """A list, or what is like one, comes from several places."""
        places = self.origin.get(key, "").split(", ")
        new = dict.fromkeys([*filter(None, places), str(flag.piece.place)])
        self.origin[key] = ", ".join(new)

    def add_resource(self, flag: Flag, item: str) -> None:
        """Ask for a resource, `name` or `name=amount`; a later amount of the same wins."""
        name = item.partition("=")[0]
        kept = []
        for one in filter(None, self.options.get("resource_spec", "").split(",")):
            if one.partition("=")[0] != name:
                kept.append(one)
            elif one != item:
                self._replaced(f"options.resource_spec: {one}", flag)
        self.options["resource_spec"] = ",".join([*kept, item])
        self.also_from("resource_spec", flag)
        self.tell(flag, Fate.MAPPED, f"options.resource_spec: {item}")

    def tell(self, flag: Flag, fate: Fate, went_to: str, decide: str = "") -> None:
        """Say what became of a flag."""
        setting = flag.text
        if flag.piece.setting != flag.text:
            setting = f"{flag.text}  (of {flag.piece.setting})"
        self.findings.append(Finding(setting, flag.piece.place, fate, went_to, decide))


def whole(text: str) -> int | None:
    """A whole number, 1 or more."""
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None
