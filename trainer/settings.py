"""A configuration as a table of plain values, and as the TOML file that people write."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from shards import UsageError
from trainer.config.run import TrainConfig


def config_of(table: Mapping[str, Any], base: TrainConfig | None = None) -> TrainConfig:
    """A configuration with the values that a table names, by the names of the options.

    Args:
        base: has all others; by default the defaults.

    Raises:
        UsageError: there is no such setting, or a value of another kind.
    """
    return _changed(TrainConfig() if base is None else base, table, "")


def read_config(path: str, base: TrainConfig) -> TrainConfig:
    """What a TOML file says, on top of `base`; UsageError for anything that it cannot say."""
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error
    try:
        return config_of(table, base)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def to_toml(config: TrainConfig) -> str:
    """All settings, as `read_config` takes them; those that are unset are comments."""
    table = asdict(config)
    lines = [_line(name, value) for name, value in table.items() if not isinstance(value, dict)]
    for name, inner in table.items():
        if isinstance(inner, dict):
            lines += ["", f"[{name}]", *(_line(key, value) for key, value in inner.items())]
    return "\n".join(lines) + "\n"


def _changed(part: Any, table: Mapping[str, Any], prefix: str) -> Any:
    """A dataclass with the values of a table."""
    kinds, known = get_type_hints(type(part)), [field.name for field in fields(part)]
    changes = {}
    for written, value in table.items():
        name = written.replace("-", "_")
        if name not in known:
            listed = ", ".join(known)
            raise UsageError(f"there is no setting {prefix}{written}; there are {listed}")
        inner = getattr(part, name)
        if is_dataclass(inner):
            if not isinstance(value, Mapping):
                raise UsageError(f"{prefix}{name} is a table of settings, got {value!r}")
            changes[name] = _changed(inner, value, f"{prefix}{name}.")
        else:
            changes[name] = _fitted(value, kinds[name], f"{prefix}{name}")
    return replace(part, **changes)


def _fitted(value: Any, kind: Any, name: str) -> Any:
    """A value as its annotation has it: a list may stand for a tuple, a whole number for a float.

    Raises:
        UsageError: it is of another kind.
    """
    if isinstance(kind, UnionType):  # optional
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else _fitted(value, options[0], name)
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_fitted(item, arguments[0], name) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if value in arguments if arguments else type(value) is kind:
        return value
    wanted = f"one of {', '.join(map(repr, arguments))}" if arguments else f"a {kind.__name__}"
    raise UsageError(f"{name} must be {wanted}, got {value!r}")


def _line(name: str, value: Any) -> str:
    return f"# {name} is unset" if value is None else f"{name} = {_written(value)}"


def _written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple() | list():
            return f"[{', '.join(map(_written, value))}]"
        case str():
            return '"' + "".join(_escaped(character) for character in value) + '"'
    return repr(value)  # numbers, inf and nan are the same in TOML


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
