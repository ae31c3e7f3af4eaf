"""Templates over a few known values: Jinja's syntax and sandbox, without what could run long, grow large or reach out.

There are expressions, filters and methods of texts, and `{% if %}`; no loops, macros or imports. A template's work is
bounded by its length, and its errors repeat no more of it than names. Jinja is imported with this module, so that it
costs only those who have templates. It knows texts and values; it must not know what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from s3dest_dagster.errors import SettingsError

Value = str | int | float
MOST_CHARACTERS = 65_536
"""Of a template, and of each text that it makes on the way."""

_FILTERS = (
    "abs",
    "capitalize",
    "default",
    "first",
    "float",
    "int",
    "join",
    "last",
    "length",
    "lower",
    "replace",
    "round",
    "string",
    "title",
    "trim",
    "upper",
    "urlencode",
)
_METHODS = (
    "endswith",
    "lower",
    "lstrip",
    "removeprefix",
    "removesuffix",
    "replace",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "title",
    "upper",
)
_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Const,
    nodes.List,
    nodes.Tuple,
    nodes.Call,
    nodes.Keyword,
    nodes.Filter,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Add,
    nodes.Sub,
    nodes.Mul,
    nodes.Div,
    nodes.FloorDiv,
    nodes.Mod,
    nodes.Neg,
    nodes.Pos,
    nodes.Concat,
)
_PLACE = "value_{}"
"""How the values that a template names are called where it is rendered: dotted names are one name."""


class _Sandbox(SandboxedEnvironment):
    """Jinja's sandbox with only the methods, filters and operations of this module."""

    intercepted_binops = frozenset({"+", "*", "%"})

    def __init__(self, finalize: Callable[[Any], str]) -> None:
        # A text may hold "{#": comments begin with what no setting has.
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
        return _checked(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(__obj, "__name__", "") == "replace":
            return _checked(_replace(__obj.__self__, *args, **kwargs))
        return _checked(super().call(__context, __obj, *args, **kwargs))


def _checked(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        raise ValueError(f"it makes a text of more than {MOST_CHARACTERS:,} characters")
    return value


def _bounded(made: Callable[..., Any]) -> Callable[..., Any]:
    """The filter; what it makes is no larger than a text may be. Jinja's marks of a filter are kept."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        return _checked(made(*args, **kwargs))

    bounded.__dict__.update(getattr(made, "__dict__", {}))
    return bounded


def _int(value: Any, default: int | None = None) -> int:
    """Jinja's own gives 0 for what is no number."""
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


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    plain = str(text)
    times = plain.count(old) if count < 0 else min(count, plain.count(old))
    _fits(len(plain) + times * (len(new) - len(old)))
    return plain.replace(old, new, count)


def _join(values: Sequence[Any], separator: str = "") -> str:
    texts = [str(each) for each in values]
    _fits(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _fits(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise ValueError(f"it makes a text of more than {MOST_CHARACTERS:,} characters")


def _text_of(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"it puts a {type(value).__name__} into a text")
    return str(value)


# ---------------------------------------------------------------------- a template


@dataclass(frozen=True)
class Template:
    """A template that may be rendered: `names` are the values that it asks for, dotted (`partition_key.region`)."""

    source: str
    names: tuple[str, ...]
    _tree: nodes.Template

    def text(self, values: Mapping[str, Value], *, escape: Callable[[str], str] = str) -> str:
        """The text, with `escape` applied to whatever is put into it. SettingsError where that cannot be made."""
        environment = _Sandbox(lambda value: escape(_text_of(value)))
        found: str = self._rendered(lambda: environment.from_string(self._tree).render(self._places(values)))
        return found

    def value(self, values: Mapping[str, Value]) -> Value:
        """The value of a template that is nothing but one expression, a number included; the text of any other."""
        expression = self._lone_expression()
        if expression is None:
            return self.text(values)
        assign = nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)
        tree = nodes.Template([assign], lineno=1)

        def evaluate() -> Value:
            compiled = _Sandbox(_text_of).from_string(tree)
            context = compiled.new_context(self._places(values))
            for _ in compiled.root_render_func(context):
                pass
            found = context.vars["result"]
            return found if isinstance(found, bool) else _plain(found)

        found: Value = self._rendered(evaluate)
        return found

    def _places(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {_PLACE.format(number): values[name] for number, name in enumerate(self.names)}

    def _lone_expression(self) -> Any:
        if not (self.source.startswith("{{") and self.source.endswith("}}")):
            return None
        match self._tree.body:
            case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
                return expression
        return None

    def _rendered(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except SettingsError:
            raise
        except RecursionError:
            raise _too_deep() from None
        # Whatever operations of texts and numbers raise; the values are keys and times of partitions, no secrets.
        except Exception as error:
            raise SettingsError(f"The template cannot be rendered: {error}.") from None


def _plain(found: Any) -> Value:
    if not isinstance(found, str | int | float):
        raise TypeError(f"it gives a {type(found).__name__}, and a text or a number is needed")
    return found


_syntax = _Sandbox(_text_of)


def parsed(source: str) -> nodes.Template:
    """The syntax tree of a text. SettingsError for one that is no template, or that is too long or too deep."""
    if len(source) > MOST_CHARACTERS:
        raise SettingsError(
            f"A template has {len(source):,} characters; {MOST_CHARACTERS:,} are the most. A text that is no template "
            "has neither {{ nor {%."
        )
    try:
        return _syntax.parse(source)
    except TemplateSyntaxError:
        # Jinja's own words repeat a part of the text, which may be a secret with braces in it.
        raise SettingsError(
            "The template is not in Jinja's syntax. To have braces as they are, write {% raw %}…{% endraw %} around "
            "them."
        ) from None
    except RecursionError:
        raise _too_deep() from None


@lru_cache(maxsize=256)
def template(source: str) -> Template:
    """The template that a text is. SettingsError for what is none, and for what a template here may not have."""
    tree = parsed(source)
    try:
        names = _Names()
        tree = names.visit(tree)
        _check(tree)
    except RecursionError:
        raise _too_deep() from None
    return Template(source, tuple(names.found), tree)


def segments(source: str) -> Iterator[str] | None:
    """The template's plain texts and expressions, one after another; None where it has blocks, as `{% if %}`."""
    parsed(source)
    texts, text = [], ""
    for _, kind, token in _syntax.lex(source):
        if kind == "block_begin" or kind.startswith("raw"):
            return None
        if kind == "variable_begin" and text:
            texts.append(text)
            text = ""
        text += token
        if kind == "variable_end":
            texts.append(text)
            text = ""
    return iter([*texts, text] if text else texts)


def literal(text: str) -> str:
    """The text so that it stands in a template as it is."""
    return text.replace("{", '{{ "{" }}') if "{{" in text or "{%" in text else text


class _Names(NodeTransformer):
    """Puts places of values where the template names them; a dotted name, or one with a text in brackets, is one."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def visit_Call(self, node: nodes.Call) -> Any:
        """A method's own name is no part of what is named."""
        if not (isinstance(node.node, nodes.Getattr) and node.node.attr in _METHODS):
            raise _refused("calls what is no method of a text that is known here")
        node.node.node = self.visit(node.node.node)
        node.args = [self.visit(each) for each in node.args]
        node.kwargs = [self.visit(each) for each in node.kwargs]
        return node

    def visit_Name(self, node: nodes.Name) -> Any:
        return self._placed(node.name, node)

    def visit_Getattr(self, node: nodes.Getattr) -> Any:
        if isinstance(node.node, nodes.Name) and not node.attr.startswith("_"):
            return self._placed(f"{node.node.name}.{node.attr}", node)
        raise _refused(f"asks for the attribute {node.attr!r}")

    def visit_Getitem(self, node: nodes.Getitem) -> Any:
        if isinstance(node.node, nodes.Name) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._placed(f"{node.node.name}.{node.arg.value}", node)
        return self.generic_visit(node)

    def _placed(self, name: str, node: nodes.Node) -> nodes.Name:
        number = self.found.setdefault(name, len(self.found))
        return nodes.Name(_PLACE.format(number), "load", lineno=node.lineno)


def _check(tree: nodes.Node) -> None:
    for node in tree.find_all(nodes.Node):
        if type(node) not in _NODES:
            what = type(node).__name__.lower()
            raise _refused(f"has a {'{% ' + what + ' %}' if isinstance(node, nodes.Stmt) else what}")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise _refused(f"has the filter {node.name!r}")


def _too_deep() -> SettingsError:
    return SettingsError("The template nests too deeply.")


def _refused(what: str) -> SettingsError:
    return SettingsError(
        f"The template {what}. There are {{% if %}}, arithmetic, comparisons, the filters "
        f"{', '.join(_FILTERS)}, and the methods {', '.join(_METHODS)} of texts."
    )
