"""The command line as it is typed, made what Hydra's grammar takes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from kernelexp.engine.checks import refuse

_FORM = "must be KEY=VALUE; --help lists the keys"
# Between items of a list, not within brackets of one.
_COMMA = re.compile(r",(?![^\[({]*[\])}])")
_OVERRIDE = re.compile(r"(\+{0,2}[A-Za-z_][\w./@-]*=)(.*)", re.ASCII | re.DOTALL)


def understood(arguments: list[str]) -> list[str]:
    """The arguments, options first, with quotes around values that are plainly text to a person.

    So names in other scripts and paths with brackets work as they are typed. What parses stays as it
    is, sweeps ``a,b`` included. Of a group that is swept a setting with one value is swept too.

    Raises:
        ValueError: for what is neither an option nor KEY=VALUE, or several presets.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parsed, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        near = difflib.get_close_matches(unknown[0], parser._option_string_actions, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; {_FORM}"
        raise ValueError(f"{unknown[0]}: no such option{hint}")
    options = list(arguments)
    for override in parsed.overrides:
        options.remove(override)
    grammar = OverridesParser.create()
    return options + _swept_with_group(grammar, [_understood(grammar, o) for o in parsed.overrides])


def as_typed(overrides: Iterable[object]) -> str:
    """Overrides as a person types them: ``solver.epochs=3`` of choice(3), ``log:1..9`` of a search's interval."""
    text = " ".join(map(str, overrides))
    text = re.sub(r"=choice\(([^,()]*)\)", r"=\1", text)
    return re.sub(r"(tag\((log),)?interval\(([^,()]*),([^,()]*)\)(?(1)\))", _range, text)


def _range(found: re.Match[str]) -> str:
    return f"{'log:' if found[2] else ''}{found[3]}..{found[4]}"


def _swept_with_group(grammar: OverridesParser, typed: list[str]) -> list[str]:
    """With ``solver.epochs=choice(3)`` for ``solver.epochs=3`` beside ``solver=a,b``.

    Hydra composes a sweep once without what is swept, to check it: the setting, if it stayed, would be
    held against the default solver, which need not have it. Null, which ``choice`` refuses, stays, and
    text in quotes, which it takes off.
    """
    overrides = [grammar.parse_override(argument) for argument in typed]
    groups = tuple(f"{o.key_or_group}." for o in overrides if o.is_sweep_override())
    return [
        re.sub(r"\A([^=]+)=([^'\"].*)", r"\1=choice(\2)", argument, flags=re.DOTALL)
        if o.key_or_group.startswith(groups) and not o.is_sweep_override() and o.value() is not None
        else argument
        for argument, o in zip(typed, overrides, strict=True)
    ]


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _understood(grammar: OverridesParser, argument: str) -> str:
    """One KEY=VALUE."""
    typed = _OVERRIDE.fullmatch(argument)
    try:
        override = grammar.parse_override(argument)
    except HydraException:
        if typed is None:
            letters = "" if argument.isascii() else ", a key in letters a to z"
            raise ValueError(f"{argument}: {_FORM}{letters}") from None
        key, value = typed.groups()
        quoted = key + _quoted_items(grammar, value)
        try:
            grammar.parse_override(quoted)
        except HydraException:
            listed = re.fullmatch(r"\s*\[(.*)\]\s*", value)
            text = QuotedString(listed[1] if listed else value, Quote.single).with_quotes()
            text = f"[{text}]" if listed else text
            raise ValueError(
                f'{argument}: not understood; as text it is typed in two pairs of quotes, "{key}{text}"'
            ) from None
        return quoted
    if override.is_delete() and not override.key_or_group.startswith("hydra"):
        raise ValueError(f"{argument}: nothing can be left out; {_FORM}")
    if not override.key_or_group:
        raise ValueError(f"{argument}: {_FORM}")
    if override.key_or_group == "experiment" and override.is_sweep_override():
        # Each is a sweep of its own, which Hydra composes before it knows what is swept.
        presets = override.get_value_string()
        raise refuse("experiment", presets, "one preset at a time; type a command for each")
    return argument


def _quoted_items(grammar: OverridesParser, value: str) -> str:
    """A value, a sweep or a list with quotes around what is no value by itself, there."""
    if listed := re.fullmatch(r"\s*\[(.*)\]\s*", value):
        items = [_quoted(grammar, item.strip(), "key=[{}]") for item in _COMMA.split(listed[1])]
        return f"[{','.join(items)}]"
    return ",".join(_quoted(grammar, item, "key={}") for item in value.split(","))


def _quoted(grammar: OverridesParser, item: str, place: str) -> str:
    """In quotes, unless it parses in its place, is nothing, or begins as a list, a quotation or, outside of one, a call does."""
    try:
        grammar.parse_override(place.format(item))
        return item
    except HydraException:
        pass
    begins = r"[\[{('\"]"
    if "[" not in place:
        begins += rf"|({'|'.join(grammar.functions.functions)})\s*\("
    if not item.strip() or re.match(rf"\s*({begins})", item):
        return item
    return str(QuotedString(item, Quote.single).with_quotes())
