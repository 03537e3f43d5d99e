"""The configs of one launch, by role: loading them, their defaults, and what flows between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.errors import ConfigError
from espnet3.systems.command_line import Request
from espnet3.utils.config import LoadedConfig, load_files, resolved_container
from espnet3.utils.overrides import Override, has_key, nearest_keys, parse_override

_PATHS: dict[str, Any] = {"recipe_dir": ".", "exp_tag": None, "exp_dir": None}
# With these blocks there, an override sets a key of theirs without a +.
_WHERE: dict[str, Any] = {
    "parallel": {"env": "local", "n_workers": 1, "options": {}},
    "run": {},
}
# ESPnet3 has these in its template configs; None is filled in below.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "training": {
        **_PATHS,
        **_WHERE,
        "data_dir": "${recipe_dir}/data",
        "stats_dir": "${recipe_dir}/exp/stats",
    },
    "inference": {
        **_PATHS,
        **_WHERE,
        "data_dir": "${recipe_dir}/data",
        "inference_dir": None,
        "provider": {"_target_": "espnet3.systems.base.inference_provider.InferenceProvider"},
        "runner": {"_target_": "espnet3.systems.base.inference_runner.InferenceRunner"},
    },
    "metrics": {**_PATHS, "inference_dir": None},
}
_CONTEXT = ("exp_tag", "exp_dir", "inference_dir")
_EXP_DIR = "${recipe_dir}/exp/${exp_tag}"


def load_role_configs(request: Request) -> dict[str, LoadedConfig]:
    """Load every config that was given, with overrides, defaults and what flows between them.

    Args:
        request: The command line.

    Returns:
        Role -> config, unresolved.

    Raises:
        ConfigError: listing every file that cannot be loaded and every override that cannot be set.
    """
    configs: dict[str, LoadedConfig] = {}
    problems: list[str] = []
    for role, files in request.files.items():
        try:
            configs[role] = load_files(files, _DEFAULTS.get(role, _PATHS))
        except ConfigError as error:
            problems.append(f"--{role}_config: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    for text in request.overrides:
        try:
            override = parse_override(text)
            roles, override = _roles_of(override, configs)
            for role in roles:
                configs[role].override(override)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    _share_context(configs)
    return configs


def _roles_of(
    override: Override, configs: Mapping[str, LoadedConfig]
) -> tuple[list[str], Override]:
    """Return the roles that an override is for, and the override without a role's prefix.

    Without a prefix it is for every config that has the key.
    """
    first, _, rest = override.key.partition(".")
    if first in configs or first in _DEFAULTS:
        if first not in configs:
            raise ConfigError(f"override {override.text!r}: no --{first}_config was given")
        config = configs[first].config
        without = Override(rest, override.value, override.add, override.text)
        # metrics.0.inputs=... means the key `metrics` of the metrics config.
        if rest and (has_key(config, without) or not has_key(config, override)):
            return [first], without
    if override.add:
        if len(configs) == 1:
            return list(configs), override
        choices = ", ".join(f"+{role}.{override.text.lstrip('+')}" for role in configs)
        raise ConfigError(f"override {override.text!r}: say to which config: {choices}")
    having = [role for role, loaded in configs.items() if has_key(loaded.config, override)]
    if not having:
        near = nearest_keys(override.key, [loaded.config for loaded in configs.values()])
        choices = " or ".join(f"+{role}.{override.text}" for role in configs) or "give a config"
        raise ConfigError(
            f"override {override.text!r}: no config has such a key{near}; to add it: {choices}"
        )
    return having, override


def part_for(request: Request, role: str) -> Request:
    """Return a request with no more files and overrides than a stage of ``role`` needs.

    Another config stays only if this one takes something over from it.

    Args:
        request: One whose configs can be loaded.
        role: One of its configs.
    """
    configs = load_role_configs(request)
    sources = [source for key in _CONTEXT for source in _sources(role, key)]
    part = request
    for roles in ({role}, {role, *sources}):
        part = _restricted(request, configs, roles)
        if _loads_alike(part, role, configs[role]):
            break
    return part


def _restricted(request: Request, configs: Mapping[str, LoadedConfig], roles: set[str]) -> Request:
    files = {role: files for role, files in request.files.items() if role in roles}
    overrides = tuple(
        text
        for text in request.overrides
        if not roles.isdisjoint(_roles_of(parse_override(text), configs)[0])
    )
    return dataclasses.replace(request, files=files, overrides=overrides)


def _loads_alike(request: Request, role: str, expected: LoadedConfig) -> bool:
    try:
        loaded = load_role_configs(request)[role].config
        return bool(resolved_container(loaded) == resolved_container(expected.config))
    except (ConfigError, OmegaConfBaseException):
        return False


def disagreements(configs: Mapping[str, LoadedConfig]) -> list[str]:
    """Return a sentence per path that differs from the one that would have been taken over."""
    found = []
    for role, loaded in configs.items():
        for key in _CONTEXT:
            own = _value(loaded.config, key)
            for source in _sources(role, key):
                value = _value(configs[source].config, key) if source in configs else None
                if own is not None and value is not None and str(own) != str(value):
                    found.append(
                        f"{loaded.where(key)} is {own} and is kept; the {source} config has {value}"
                    )
    return found


def _share_context(configs: Mapping[str, LoadedConfig]) -> None:
    """Fill in where an experiment lies: from the other configs first, then by rule.

    A config's own value is never replaced. What is still unknown is removed, so that a
    ``${exp_dir}`` fails by name instead of becoming ``None/...``.
    """
    order = [role for role in ("training", "inference") if role in configs]
    order += [role for role in configs if role not in order]
    for role in order:
        loaded = configs[role]
        # exp_dir is looked at before exp_tag is filled: ./exp/${exp_tag} without a tag is no place
        # of its own, and comes with the tag from where the tag comes from.
        own_tag = _value(loaded.config, "exp_tag")
        for keys in (("exp_tag", "exp_dir"), ("inference_dir",)):
            for key in [key for key in keys if _lacks(loaded.config, key)]:
                for source in [name for name in _sources(role, key) if name in configs]:
                    if key == "exp_dir" and _is_another(configs[source].config, own_tag):
                        continue  # its directory is another experiment's
                    value = _value(configs[source].config, key)
                    if value is not None:
                        loaded.config[key] = value
                        break
            _fill_by_rule(loaded, role)
        for key in _CONTEXT:
            if key in loaded.config and _lacks(loaded.config, key):
                del loaded.config[key]


def _is_another(config: DictConfig, own_tag: Any) -> bool:
    """Whether a config is of another experiment than the one with this tag; None is no other."""
    tag = _value(config, "exp_tag")
    return own_tag is not None and tag is not None and str(tag) != str(own_tag)


def _sources(role: str, key: str) -> tuple[str, ...]:
    """Return the roles whose value a config takes over where it has none, nearest first."""
    if key == "inference_dir":
        return ("inference",) if role == "metrics" else ()
    return {"training": (), "metrics": ("inference", "training")}.get(role, ("training",))


def _fill_by_rule(loaded: LoadedConfig, role: str) -> None:
    config = loaded.config
    if role == "training" and _lacks(config, "exp_tag"):
        config["exp_tag"] = loaded.name
    if _lacks(config, "exp_dir") and not _lacks(config, "exp_tag"):
        config["exp_dir"] = _EXP_DIR
    if role == "inference" and _lacks(config, "inference_dir") and not _lacks(config, "exp_dir"):
        config["inference_dir"] = "${exp_dir}/" + loaded.name


def _lacks(config: DictConfig, key: str) -> bool:
    """Return whether a path key has no value, or one made of an ``exp_tag`` that has none."""
    plain = OmegaConf.to_container(config, resolve=False)
    value = plain.get(key) if isinstance(plain, dict) else None
    if value is None or not str(value).strip():
        return True
    for part in ("exp_tag", "exp_dir"):
        if part != key and "${" + part + "}" in str(value) and _lacks(config, part):
            return True
    return False


def _value(config: DictConfig, key: str) -> Any:
    """Return the resolved value, None if there is none or it does not resolve."""
    if _lacks(config, key):
        return None
    try:
        return config[key]
    except OmegaConfBaseException:
        return None  # reported when the config is checked
