"""The tables of ``docs/settings.md``, made from the models, their docstrings and the shipped defaults.

``python -m tests.settings.reference`` writes them anew; a test fails while they are out of date.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from regrow.breakers.kinds import KINDS
from regrow.settings import VARIABLES, Settings, alerts, checks, maintenance, models, recovery, routes, slo
from regrow.settings.checks import common
from regrow.settings.sources import PROFILES

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
BEGIN, END = "<!-- tables: made by `python -m tests.settings.reference` -->", "<!-- end of tables -->"

Place = tuple[str, ...]


def tables() -> str:
    """Every setting, a table for each section, then for what lists and tables of tables hold."""
    top = [name for name, field in Settings.model_fields.items() if not _is_model(field.annotation)]
    parts = [_table("Everything", Settings, (), [name for name in top if name != "breakers"])]
    for name, field in Settings.model_fields.items():
        if _is_model(field.annotation):
            parts.append(_table(f"`[{name}]`", field.annotation, (name,)))
    parts += [
        _table(
            "`[breakers.default]`, and `[breakers.NAME]` for what is different",
            models.BreakerSettings,
            ("breakers", "default"),
            [name for name in models.BreakerSettings.model_fields if name != "kind"],
        ),
        _table("`[breakers.NAME]` alone", models.BreakerSettings, None, ["kind"]),
        _kinds_of_service(),
        *(
            _table(
                f'`[dead_letters.routes.MESSAGE_TYPE]`, `kind = "{kind}"`', model, None, _own(model, "kind")
            )
            for kind, model in _kinds(routes.RouteSettings).items()
        ),
        _table("`[dead_letters.queues.NAME]`", routes.DeadLetterQueue, None),
        _table("`[brokers.NAME]`", routes.BrokerSettings, None),
        _table("`[dead_letters.services.NAME]`", models.RedriveSettings, None),
        _table("`[recovery.services.NAME]`, every kind", recovery._Handler, None),
        *(
            _table(f'`[recovery.services.NAME]`, `kind = "{kind}"`', model, None, own)
            for kind, model in _kinds(recovery.HandlerSettings).items()
            if (own := _own(model, "kind", *recovery._Handler.model_fields))
        ),
        _table("`[alerts.rules.NAME]`", alerts.RuleSettings, None),
        _table("`[alerts.severities.NAME]`", alerts.SeveritySettings, None),
        _table("`[[alerts.severities.NAME.steps]]`", alerts.StepSettings, None),
        _table("`[alerts.channels.NAME]`, every kind", alerts._Channel, None),
        *(
            _table(f'`[alerts.channels.NAME]`, `kind = "{kind}"`', model, None, own)
            for kind, model in _kinds(alerts.ChannelSettings).items()
            if (own := _own(model, "kind", *alerts._Channel.model_fields))
        ),
        _table("`[maintenance.NAME]`", maintenance.MaintenanceSettings, None),
        _table("`[slo.objectives.NAME]`", slo.ObjectiveSettings, None),
        _table("`[[temp_files.roots]]`", models.TempFileRoot, None),
        _table("`[health.checks.NAME]`, every kind", common.Check, None),
    ]
    for kind, model in _kinds(checks.CheckSettings).items():
        if own := _own(model, "kind", *common.Check.model_fields):
            parts.append(_table(f'`[health.checks.NAME]`, `kind = "{kind}"`', model, None, own))
    parts.append(
        _table("`[[health.checks.NAME.expect_json]]`, of `http`", checks.network.JsonCondition, None)
    )
    return "\n".join(parts)


def page(text: str) -> str:
    """The page with its tables as they should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _table(title: str, model: Any, place: Place | None, names: list[str] | None = None) -> str:
    head = (
        ["setting", "default", "variable", "meaning"]
        if place is not None
        else ["setting", "default", "meaning"]
    )
    rows = [_row(model, name, place) for name in names or list(model.model_fields)]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}\n{body}\n"


def _kinds_of_service() -> str:
    rows = (
        f"| `{kind}` | {', '.join(f'`{name} = {value:g}`' for name, value in given.items())} |\n"
        for kind, given in KINDS.items()
    )
    return f"| kind | brings |\n|---|---|\n{''.join(rows)}"


def _row(model: type[BaseModel], name: str, place: Place | None) -> list[str]:
    field, meaning = model.model_fields[name], docstrings(model)[name]
    if place is None:
        return [f"`{name}`", _default(field), meaning]
    at = (*place, name)
    return [f"`{name}`", _shipped(at, field), _variable(at, field), meaning]


def _variable(place: Place, field: FieldInfo) -> str:
    if get_origin(field.annotation) is dict:
        return "-"
    named = [name for name, at in VARIABLES.items() if at == place]
    return f"`{named[0]}`" if named else f"`REGROW_{'__'.join(place).upper()}`"


# Two settings are needed before defaults are read.
_IN_CODE = {("home",): "var", ("profile",): "production"}


def _shipped(place: Place, field: FieldInfo) -> str:
    """The value in ``defaults.toml``, and where a profile has another one."""
    told = _written(_IN_CODE.get(place) or _find(_defaults(), place), field)
    others = [
        f"{name} {_written(value, field)}"
        for name in PROFILES
        if (value := _find(_defaults().get("profiles", {}).get(name, {}), place)) is not None
    ]
    return f"{told} ({', '.join(others)})" if others else told


def _written(value: Any, field: FieldInfo) -> str:
    match value:
        case None:
            return _default(field)
        case dict() | list() | tuple():
            return ", ".join(str(item) for item in value).replace("*", r"\*") or "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "none"
    if field.default is PydanticUndefined:
        return "-"
    return "-" if field.default is None else _written(field.default, field)


def _find(tables_: Mapping[str, Any], place: Place) -> Any:
    value: Any = tables_
    for name in place:
        value = value.get(name) if isinstance(value, dict) else None
    return value


@cache
def _defaults() -> dict[str, Any]:
    return tomllib.loads(resources.files("regrow").joinpath("defaults.toml").read_text(encoding="utf-8"))


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _own(model: type[BaseModel], *others: str) -> list[str]:
    return [name for name in model.model_fields if name not in others]


@cache
def _kinds(annotated: Any) -> dict[str, type[BaseModel]]:
    """The models of a union by their kind, in the order in which it names them."""
    union = get_args(annotated)[0]
    return {get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(union)}


@cache
def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field in the source, those of base classes with them."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls.__module__.startswith("regrow.settings."):
            found.update(_own_docstrings(cls))
    return {name: found.get(name, "") for name in model.model_fields}


def _own_docstrings(cls: type) -> Iterator[tuple[str, str]]:
    (body,) = [
        node.body
        for node in _module(inspect.getsource(inspect.getmodule(cls))).body  # type: ignore[arg-type]
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    ]
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield field.target.id, " ".join(str(below.value.value).split())


@cache
def _module(source: str) -> ast.Module:
    return ast.parse(source)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
