"""What OME-Zarr says of an image: its axes, where each level lies in space, and how its channels are shown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from daskimg.errors import ArrayError
from daskimg.io.sink import Target

__all__ = ["json_value", "ome_attributes", "ome_order"]

_TYPES = {
    "t": "time",
    "c": "channel",
    "channel": "channel",
    "band": "channel",
    "z": "space",
    "y": "space",
    "x": "space",
}
_ORDER = ("time", "channel", "", "space")  # as the specification wants them
_RGB = {"Red": "FF0000", "Green": "00FF00", "Blue": "0000FF", "Alpha": "FFFFFF"}
_COLORS = ("00FF00", "FF0000", "0000FF", "FF00FF", "00FFFF", "FFFF00")  # of channels that are no colors
_PLACED = (
    "pixel_size",
    "unit",
    "origin",
    "channel_names",
    "downsample",
    "z_step",
    "t_step",
)  # what OME-Zarr has its own words for


def ome_order(dims: tuple[str, ...]) -> tuple[int, ...]:
    """Return the axes in the order of OME-Zarr: time, channels (those of RGB too), then space.

    Raises
    ------
    ArrayError
        OME-Zarr has no room for such axes.

    Examples
    --------
    >>> ome_order(("y", "x", "channel")), ome_order(("z", "c", "y", "x"))
    ((2, 0, 1), (1, 0, 2, 3))
    """
    types = [_TYPES.get(name, "") for name in dims]
    if len(dims) > 5 or types.count("channel") + types.count("") > 1:
        raise ArrayError(
            f"OME-Zarr holds at most t, one more axis such as c, z, y and x, with the channels of RGB as c; the image "
            f"has {', '.join(dims)}. Select along one of them, or write plain Zarr."
        )
    return tuple(sorted(range(len(dims)), key=lambda axis: (_ORDER.index(types[axis]), dims[axis] in "yx", axis)))


def ome_attributes(target: Target, version: str, name: str) -> dict[str, Any]:
    """Return the attributes of the group that holds the levels, as arrays named 0, 1, 2, ...

    What OME-Zarr has no words for is said under `daskimg`: `color` where the axis `c` is the colors of one picture,
    `nodata`, `transform`, `crs`.

    Parameters
    ----------
    target : Target
        What the levels hold.
    version : str
        ``"0.4"`` or ``"0.5"``.
    name : str
        What the image is called.
    """
    axes = [_axis(target, axis) for axis in ome_order(target.dims)]
    levels = [_dataset(target, level) for level in range(len(target.levels))]
    multiscale: dict[str, Any] = {"name": name, "axes": axes, "datasets": levels}
    if "downsample" in target.attrs:
        multiscale["type"] = target.attrs["downsample"]
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    channels = _channels(target)
    if channels:
        model = "color" if len(channels) > 1 else "greyscale"
        ome["omero"] = {"channels": channels, "rdefs": {"model": model}}
    rest = {key: value for key, value in target.attrs.items() if key not in _PLACED}
    if target.channels:
        rest["color"] = True
    ours = {"daskimg": json_value(rest)} if rest else {}
    if version == "0.5":
        return {"ome": {"version": version, **ome}, **ours}
    multiscale["version"] = version
    if channels:
        ome["omero"]["version"] = version
    return {**ome, **ours}


def json_value(value: Any) -> Any:
    """Return a value as JSON has it: tuples are lists, and numbers without end are words, as in Zarr's fill values.

    >>> json_value({"nodata": np.float32("nan"), "pixel_size": (0.5, 0.5)})
    {'nodata': 'NaN', 'pixel_size': [0.5, 0.5]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, str | int | float | None) else str(value)


def _axis(target: Target, axis: int) -> dict[str, str]:
    name = target.dims[axis]
    found = {"name": "c" if name == "channel" else name}
    if _TYPES.get(name):
        found["type"] = _TYPES[name]
    unit = target.attrs.get("unit")
    if unit and (name in "yx" or (name == "z" and "z_step" in target.attrs)):
        found["unit"] = str(unit)
    return found


def _dataset(target: Target, level: int) -> dict[str, Any]:
    """Return where a level lies: a mean of two by two pixels has its center between theirs, the first one has not."""
    height, width = target.attrs.get("pixel_size") or (1.0, 1.0)
    sizes = {"y": float(height), "x": float(width)}
    origin = dict(zip("yx", target.attrs.get("origin", (0.0, 0.0)), strict=True))
    shift = 0.0 if target.attrs.get("downsample") == "nearest" else (2**level - 1) / 2
    scale, translation = [], []
    for axis in ome_order(target.dims):
        name = target.dims[axis]
        size = sizes.get(name)
        scale.append(float(target.attrs.get(f"{name}_step", 1.0)) if size is None else size * 2**level)
        translation.append(0.0 if size is None else float(origin[name]) + size * shift)
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(translation):
        steps.append({"type": "translation", "translation": translation})
    return {"path": str(level), "coordinateTransformations": steps}


def _channels(target: Target) -> list[dict[str, Any]]:
    """Return how each channel is shown, where the names of all are known."""
    axis = next((axis for axis, name in enumerate(target.dims) if _TYPES.get(name) == "channel"), None)
    count = 1 if axis is None else target.shape[axis]
    names = target.attrs.get("channel_names") or []
    if target.channels in (3, 4):
        names, colors = names if len(names) == count else list(_RGB), list(_RGB.values())
    else:
        colors = ["FFFFFF"] if count == 1 else [_COLORS[number % len(_COLORS)] for number in range(count)]
    if not names or len(names) < count:
        return []
    low, high = 0, 1
    if target.dtype.kind in "iu":
        low, high = int(np.iinfo(target.dtype).min), int(np.iinfo(target.dtype).max)
    return [
        {
            "label": str(name),
            "color": color,
            "window": {"min": low, "max": high, "start": low, "end": high},
            "active": True,
        }
        for name, color, _ in zip(names, colors, range(count), strict=False)
    ]
