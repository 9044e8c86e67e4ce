"""Filters: which clips a stream takes, as an expression over the columns of their index.

    frames >= 33 and (static is None or static < 0.2) and "dog" in lower(caption)

Python's grammar, of which only what is listed in `Where` is known; nothing is ever executed. Arrow
computes it, a column at a time. As in SQL a comparison with a missing value is neither true nor
false, and only what is true is taken.
"""

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from shards import UsageError

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    # Checked: columns are 32 bits wide, and frames * height * width of a 4K clip is more.
    ast.Add: pc.add_checked,
    ast.Sub: pc.subtract_checked,
    ast.Mult: pc.multiply_checked,
    ast.Div: lambda a, b: pc.divide(pc.cast(a, pa.float64()), pc.cast(b, pa.float64())),
}


def _share(values: Any) -> Any:
    """In [0, 1), by the digest of each value: alike in every dataset, whatever stands beside it."""
    if isinstance(values, pa.Scalar):
        return pa.scalar(_digest_share(values.as_py()))
    encoded = pc.dictionary_encode(values).combine_chunks()
    shares = [_digest_share(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(shares, pa.float64()).take(encoded.indices)


def _digest_share(value: Any) -> float:
    return (int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:8]) >> 11) / 2**53


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lower": pc.utf8_lower,
    "len": pc.utf8_length,
    "abs": pc.abs_checked,
    "starts": lambda text, begin: pc.starts_with(text, begin.as_py()),
    "share": _share,
    "matches": lambda text, regex: pc.match_substring_regex(text, regex.as_py()),
}
_KNOWN = (
    "columns, numbers, 'texts', True, False, None, == != < <= > >=, in, is None, and, or, not, "
    f"+ - * /, {', '.join(f'{name}()' for name in _FUNCTIONS)}"
)


@dataclass(frozen=True)
class Where:
    """A filter; the empty one takes everything.

    `column in ("a", "b")` asks for one of several values, `"text" in column` for a part of a text,
    `matches(column, "regex")` for a pattern (RE2), `share(column) < 0.1` for a tenth of the values.

    Raises:
        UsageError: the text is no such expression.
    """

    text: str = ""

    def __post_init__(self) -> None:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) not in _FUNCTIONS:
                raise self._refused(f"{ast.unparse(node.func)}() is no function there")

    def __str__(self) -> str:
        """The expression in one way of writing it, or as much of it as fits a state, and a sum."""
        text = ast.unparse(self._tree) if self.text.strip() else "all"
        if len(text) <= 80:
            return text
        return f"{text[:60]}… {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it looks at."""
        nodes = [node for node in ast.walk(self._tree) if isinstance(node, ast.Name)]
        return tuple(sorted({node.id for node in nodes} - _FUNCTIONS.keys()))

    def places(self, table: pa.Table) -> Int64[np.ndarray, " n"]:
        """Numbers of the rows that it takes; a column that the table lacks is missing in each.

        Raises:
            UsageError: it compares what cannot be compared, or is not true or false.
        """
        if not self.text.strip():
            return np.arange(len(table))
        try:
            taken = self._value(self._tree.body, table)
        except (pa.ArrowException, AttributeError, TypeError, RecursionError) as error:
            raise self._refused(str(error)) from error
        if pa.types.is_null(taken.type):
            return np.arange(0)
        if not pa.types.is_boolean(taken.type):
            raise self._refused(f"it gives {taken.type}, not true or false")
        if isinstance(taken, pa.Scalar):
            return np.arange(len(table) if taken.as_py() else 0)
        return np.flatnonzero(pc.fill_null(taken, False).to_numpy(zero_copy_only=False))

    @cached_property
    def _tree(self) -> ast.Expression:
        try:
            return ast.parse(self.text.strip() or "True", mode="eval")
        except (SyntaxError, ValueError, RecursionError) as error:
            raise self._refused(str(error)) from error

    def _value(self, node: ast.expr, table: pa.Table) -> Any:
        """What a part of the expression is for each row, or for all."""

        def value(part: ast.expr) -> Any:
            return self._value(part, table)

        match node:
            case ast.Constant(value=None | bool() | int() | float() | str()):
                return pa.scalar(node.value)
            case ast.Name(id=name):
                return table[name] if name in table.column_names else pa.nulls(len(table))
            case ast.BoolOp(op=op, values=values):
                join = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
                return reduce(join, [_truth(value(part)) for part in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return pc.invert(_truth(value(operand)))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return pc.negate_checked(value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return _applied(_FUNCTIONS[name], *map(value, args))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                pairs = zip([left, *rights], ops, rights, strict=False)
                links = [self._compared(a, op, b, value) for a, op, b in pairs]
                return reduce(pc.and_kleene, links)
        raise self._refused(f"{ast.unparse(node)} is not known there")

    def _compared(
        self, left: ast.expr, op: ast.cmpop, right: ast.expr, value: Callable[[ast.expr], Any]
    ) -> Any:
        if type(op) in _COMPARE:
            return _COMPARE[type(op)](value(left), value(right))
        if isinstance(op, ast.Is | ast.IsNot) and getattr(right, "value", 0) is None:
            missing = pc.is_null(value(left))
            return missing if isinstance(op, ast.Is) else pc.invert(missing)
        if not isinstance(op, ast.In | ast.NotIn):
            raise self._refused("`is` compares with None only")
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            values = pa.array([value(part).as_py() for part in right.elts])
            asked = value(left)
            known = pc.is_in(asked, value_set=values)
            found = pc.if_else(pc.is_valid(asked), known, pa.scalar(None, pa.bool_()))
        else:
            found = _applied(pc.match_substring, value(right), value(left).as_py())
        return found if isinstance(op, ast.In) else pc.invert(_truth(found))

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"the filter {self.text!r} cannot be used: {why}. It may hold {_KNOWN}")


def _truth(values: Any) -> Any:
    """What is missing in all rows has no type, which logic asks for."""
    return pc.cast(values, pa.bool_()) if pa.types.is_null(values.type) else values


def _applied(function: Callable[..., Any], values: Any, *rest: Any) -> Any:
    """A function of values; of what is missing in all rows, nothing but missing values."""
    return values if pa.types.is_null(values.type) else function(values, *rest)
