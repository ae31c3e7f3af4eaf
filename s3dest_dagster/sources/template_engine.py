"""Templates over a few known values: Jinja's syntax and sandbox, without anything that could run long, grow large or
reach outside.

A template may have expressions, filters, text methods and `{% if %}`, but no loops, macros or imports. Its length
therefore bounds its run time. Errors quote only names from a template. This module imports Jinja, so only users of
templates import it. Must not know: what the texts and values are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from s3dest_dagster.errors import SettingsError

Value = str | int | float
MAX_CHARACTERS = 65_536
"""The maximum length of a template, and of each text that it produces."""

# fmt: off
_FILTERS = (
    "abs", "capitalize", "default", "first", "float", "int", "join", "last", "length", "lower", "replace", "round",
    "string", "title", "trim", "upper", "urlencode",
)
_METHODS = (
    "endswith", "lower", "lstrip", "removeprefix", "removesuffix", "replace", "rstrip", "split", "startswith", "strip",
    "title", "upper",
)
_NODES = {
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Slice,
    nodes.Const, nodes.List, nodes.Tuple, nodes.Call, nodes.Keyword, nodes.Filter, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv,
    nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat,
}
# fmt: on
_VARIABLE = "value_{}"
"""The name of a value within the rendered template. A dotted name becomes one variable."""

_T = TypeVar("_T")


class _Sandbox(SandboxedEnvironment):
    """Jinja's sandbox with only the methods, filters and operations of this module."""

    intercepted_binops = frozenset({"+", "*", "%"})

    def __init__(self, finalize: Callable[[Any], str]) -> None:
        # A text may contain "{#", so the marker of comments is one that no setting contains.
        super().__init__(
            undefined=StrictUndefined,
            finalize=finalize,
            keep_trailing_newline=True,
            comment_start_string="\0#",
            comment_end_string="#\0",
        )
        own = {"int": _int, "float": _float, "replace": _replace, "join": _join}
        self.filters = {name: _bounded(own.get(name, self.filters[name])) for name in _FILTERS}
        self.globals = {}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return isinstance(obj, str) and attr in _METHODS

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator != "+" and not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise TypeError(f"{operator} is for numbers")
        return _check_size(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(__obj, "__name__", "") == "replace":
            return _check_size(_replace(__obj.__self__, *args, **kwargs))
        return _check_size(super().call(__context, __obj, *args, **kwargs))


def _check_length(characters: int) -> None:
    if characters > MAX_CHARACTERS:
        raise ValueError(f"it makes a text of more than {MAX_CHARACTERS:,} characters")


def _check_size(value: _T) -> _T:
    if isinstance(value, str):
        _check_length(len(value))
    return value


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a filter so that `_check_size` checks its result. Keeps the attributes that Jinja set on the filter."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        return _check_size(function(*args, **kwargs))

    bounded.__dict__.update(getattr(function, "__dict__", {}))
    return bounded


def _int(value: Any, default: int | None = None) -> int:
    """The filter `int`. Jinja's own filter returns 0 for a value that is not a number."""
    return _number(int, value, default)  # type: ignore[no-any-return]


def _float(value: Any, default: float | None = None) -> float:
    return _number(float, value, default)  # type: ignore[no-any-return]


def _number(kind: Callable[[Any], Any], value: Any, default: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        if default is None:
            raise ValueError(f"{value!r} is no number") from None
        return default


def _replace(value: Any, old: str, new: str, count: int = -1) -> str:
    text = str(value)
    times = text.count(old) if count < 0 else min(count, text.count(old))
    _check_length(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, count)


def _join(values: Sequence[Any], separator: str = "") -> str:
    texts = [str(value) for value in values]
    _check_length(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _to_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"it puts a {type(value).__name__} into a text")
    return str(value)


# ---------------------------------------------------------------------- a template


@dataclass(frozen=True)
class Template:
    """A parsed template, ready to be rendered."""

    source: str
    names: tuple[str, ...]
    """The names of the values that it uses. A dotted name (`partition_key.region`) counts as one name."""
    _tree: nodes.Template

    def text(self, values: Mapping[str, Value], *, escape: Callable[[str], str] = str) -> str:
        """Renders the template, with `escape` applied to every value. Raises SettingsError if rendering fails."""
        environment = _Sandbox(lambda value: escape(_to_text(value)))
        return _render(lambda: environment.from_string(self._tree).render(self._variables(values)))

    def value(self, values: Mapping[str, Value]) -> Value:
        """The value (which may be a number) of a template that is a single expression; the rendered text of any
        other."""
        expression = self._single_expression()
        if expression is None:
            return self.text(values)
        assignment = nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)
        tree = nodes.Template([assignment], lineno=1)

        def evaluate() -> Value:
            compiled = _Sandbox(_to_text).from_string(tree)
            context = compiled.new_context(self._variables(values))
            for _ in compiled.root_render_func(context):
                pass
            result = context.vars["result"]
            if not isinstance(result, str | int | float):
                raise TypeError(f"it gives a {type(result).__name__}, and a text or a number is needed")
            return result

        return _render(evaluate)

    def _variables(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {_VARIABLE.format(number): values[name] for number, name in enumerate(self.names)}

    def _single_expression(self) -> Any:
        if not (self.source.startswith("{{") and self.source.endswith("}}")):
            return None
        match self._tree.body:
            case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
                return expression
        return None


def _render(render: Callable[[], _T]) -> _T:
    try:
        return render()
    except SettingsError:
        raise
    except RecursionError:
        raise _too_deep() from None
    # Operations on texts and numbers raise errors of any class. Values are not secret: they are keys and times.
    except Exception as error:
        raise SettingsError(f"The template cannot be rendered: {error}.") from None


_syntax = _Sandbox(_to_text)


def parse(source: str) -> nodes.Template:
    """Parses a template. Raises SettingsError if the text is not a template, is too long, or is nested too deeply."""
    if len(source) > MAX_CHARACTERS:
        raise SettingsError(
            f"A template has {len(source):,} characters; {MAX_CHARACTERS:,} are the most. A text that is no template "
            "has neither {{ nor {%."
        )
    try:
        return _syntax.parse(source)
    except TemplateSyntaxError:
        # Jinja's message quotes a part of the text, which may be a secret with braces in it.
        raise SettingsError(
            "The template is not in Jinja's syntax. To have braces as they are, write {% raw %}…{% endraw %} around "
            "them."
        ) from None
    except RecursionError:
        raise _too_deep() from None


@lru_cache(maxsize=256)
def template(source: str) -> Template:
    """Compiles a template. Raises SettingsError as `parse` does, and for anything that is not allowed here."""
    tree = parse(source)
    try:
        names = _Names()
        tree = names.visit(tree)
        _check_nodes(tree)
    except RecursionError:
        raise _too_deep() from None
    return Template(source, tuple(names.numbers), tree)


def split_expressions(source: str) -> Iterator[str] | None:
    """The template's texts and expressions, in order. None if it has blocks, such as `{% if %}`."""
    parse(source)
    parts, part = [], ""
    for _, kind, token in _syntax.lex(source):
        if kind == "block_begin" or kind.startswith("raw"):
            return None
        if kind == "variable_begin" and part:
            parts.append(part)
            part = ""
        part += token
        if kind == "variable_end":
            parts.append(part)
            part = ""
    return iter([*parts, part] if part else parts)


def escape_template(text: str) -> str:
    """A template that renders to this text."""
    return text.replace("{", '{{ "{" }}') if "{{" in text or "{%" in text else text


class _Names(NodeTransformer):
    """Replaces names by variables. A dotted name, or a name with a text in brackets, becomes one variable."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def visit_Call(self, node: nodes.Call) -> Any:
        """Keeps the name of a method, because it is not the name of a value."""
        if not (isinstance(node.node, nodes.Getattr) and node.node.attr in _METHODS):
            raise _not_allowed("calls what is no method of a text that is known here")
        node.node.node = self.visit(node.node.node)
        node.args = [self.visit(argument) for argument in node.args]
        node.kwargs = [self.visit(argument) for argument in node.kwargs]
        return node

    def visit_Name(self, node: nodes.Name) -> Any:
        return self._variable(node.name, node)

    def visit_Getattr(self, node: nodes.Getattr) -> Any:
        if isinstance(node.node, nodes.Name) and not node.attr.startswith("_"):
            return self._variable(f"{node.node.name}.{node.attr}", node)
        raise _not_allowed(f"asks for the attribute {node.attr!r}")

    def visit_Getitem(self, node: nodes.Getitem) -> Any:
        if isinstance(node.node, nodes.Name) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._variable(f"{node.node.name}.{node.arg.value}", node)
        return self.generic_visit(node)

    def _variable(self, name: str, node: nodes.Node) -> nodes.Name:
        number = self.numbers.setdefault(name, len(self.numbers))
        return nodes.Name(_VARIABLE.format(number), "load", lineno=node.lineno)


def _check_nodes(tree: nodes.Node) -> None:
    for node in tree.find_all(nodes.Node):
        if type(node) not in _NODES:
            name = type(node).__name__.lower()
            raise _not_allowed(f"has a {'{% ' + name + ' %}' if isinstance(node, nodes.Stmt) else name}")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise _not_allowed(f"has the filter {node.name!r}")


def _too_deep() -> SettingsError:
    return SettingsError("The template nests too deeply.")


def _not_allowed(reason: str) -> SettingsError:
    return SettingsError(
        f"The template {reason}. There are {{% if %}}, arithmetic, comparisons, the filters "
        f"{', '.join(_FILTERS)}, and the methods {', '.join(_METHODS)} of texts."
    )
