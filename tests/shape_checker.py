"""Checks the shapes and types of arrays that annotations promise, and nothing else.

Everything else that annotations say is mypy's to check, and tests may hand in stand-ins for it.
"""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from beartype import beartype
from jaxtyping import AbstractArray

Function = TypeVar("Function", bound=Callable[..., Any])


def checked(function: Function) -> Function:
    """The function, raising jaxtyping's TypeCheckError for arrays that it does not expect."""
    hints = function.__annotations__
    function.__annotations__ = {name: h for name, h in hints.items() if _holds_arrays(h)}
    try:
        return beartype(function)
    finally:
        function.__annotations__ = hints


def _holds_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_holds_arrays(part) for part in get_args(hint))
