"""The operations that exist, by name: our own, those of plug-ins, and those that a user registers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from daskimg.errors import ParameterError, UnknownNameError, suggest

if TYPE_CHECKING:
    from daskimg.operation import Operation

__all__ = ["get_operation", "list_operations"]

GROUP = "daskimg.operations"  # of entry points, by which installed packages offer operations

_known: dict[str, Operation[Any]] = {}
_plugins_loaded = False


def register(operation: Operation[Any]) -> None:
    """Add an operation under its name; defining it anew in the same module replaces it.

    Raises
    ------
    ParameterError
        If another module's operation has the name.
    """
    other = _known.get(operation.name)
    if other is not None and other.__module__ != operation.__module__:
        raise ParameterError(
            f"an operation {operation.name!r} exists already, from {other.__module__}; "
            f'give yours another name: @operation(name="my_{operation.name}")'
        )
    _known[operation.name] = operation


def _load_plugins() -> None:
    """Import what installed packages offer in the entry point group `daskimg.operations`, once."""
    global _plugins_loaded
    if not _plugins_loaded:
        _plugins_loaded = True
        for entry in entry_points(group=GROUP):
            try:
                entry.load()
            except Exception as error:  # one broken plug-in must not take all other operations away
                warnings.warn(f"the plug-in {entry.name} = {entry.value} does not load: {error}", stacklevel=4)


@functools.cache
def _installed() -> set[str]:
    # From the metadata of packages, without importing any: the answer must not depend on what is loaded already.
    return {"daskimg", *(entry.module.partition(".")[0] for entry in entry_points(group=GROUP))}


def is_installed(module: str) -> bool:
    """Return whether a module is daskimg's or a plug-in's, so that workers have it too."""
    return module.partition(".")[0] in _installed()


def find(name: str) -> Operation[Any] | None:
    """Return the operation registered under a name, if any."""
    return _known.get(name)


def list_operations() -> Mapping[str, Operation[Any]]:
    """Return all operations by name, sorted, plug-ins included.

    >>> "gaussian_blur" in list_operations()
    True
    """
    _load_plugins()
    return MappingProxyType(dict(sorted(_known.items())))


def get_operation(name: str) -> Operation[Any]:
    """Return the operation of that name.

    Raises
    ------
    UnknownNameError
        If there is none; the message names the nearest.

    Examples
    --------
    >>> get_operation("gaussian_blur").name
    'gaussian_blur'
    """
    if name not in _known:
        _load_plugins()
    if name not in _known:
        raise UnknownNameError(
            f"there is no operation {name!r}.{suggest(name, _known)} "
            "All of them: daskimg ops, or daskimg.list_operations()"
        )
    return _known[name]
