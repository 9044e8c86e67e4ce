"""Checks the shapes and types of arrays that annotations promise, and nothing else.

Everything else that annotations say is mypy's to check, and tests may hand in stand-ins for it.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

Function = TypeVar("Function", bound=Callable[..., Any])


def check_shapes_of(packages: Sequence[str]) -> None:
    """Check what packages that are not yet imported promise of arrays.

    jaxtyping's hook decorates every function there is, and binds the arguments of every call: half
    of the time that tests take. Here functions that promise no arrays stay as they are.
    """
    decorate = jaxtyping.jaxtyped

    def jaxtyped(*given: Any, **options: Any) -> Any:
        if given or "typechecker" not in options:
            return decorate(*given, **options)
        return lambda it: decorate(it, **options) if promises_arrays(it) else it

    jaxtyping.jaxtyped = jaxtyped
    install_import_hook(packages, f"{__name__}.{checked.__name__}")


def promises_arrays(it: Any) -> bool:
    """Whether a function, method, property or dataclass says anything of arrays."""
    if isinstance(it, property):
        return any(map(promises_arrays, filter(None, (it.fget, it.fset))))
    if isinstance(it, type):
        return promises_arrays(it.__init__)  # type: ignore[misc]
    hints = getattr(getattr(it, "__func__", it), "__annotations__", {})
    return any(isinstance(hint, str) or _holds_arrays(hint) for hint in hints.values())


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
