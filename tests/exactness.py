"""Writes docs/exactness.md: each operation and data type, ours and its peers, on the same chunks.

    make table, or python -m tests.exactness

`tests/test_exactness.py` compares what is found with the page.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import math
import re
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.ndimage
import skimage.data
import skimage.filters
import skimage.util
from dask_image import ndfilters, ndinterp, ndmeasure, ndmorph

import daskimg as di
from daskimg import measure
from daskimg.errors import ParameterError
from daskimg.operation import ALL_DTYPES
from daskimg.testing.checks import allowed_deviation, deviation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "exactness.md"
COMMAND = "make table"
SIZE = (163, 201)
CHUNKS = (61, 47)
DEPTH = 32  # that scikit-image gets where no depth suffices
EXACT, NONE = "bit-exact", "–"
LAST_DIGITS = 1e-5  # below that part of the largest value, deviations are roundings, which depend on the processor
DTYPES = [*ALL_DTYPES.split(), "int32", "bool"]


@functools.cache
def photo(dtype: str, channels: int | None = None) -> Any:
    """Return a photograph at half its size, so that 16 bits and floats have values between those of 8 bits."""
    color = (
        skimage.data.astronaut().astype(np.float64).reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))[: SIZE[0], : SIZE[1]]
        / 255
    )
    image = color @ [0.299, 0.587, 0.114] if channels is None else color[:, :, :channels]
    if dtype == "bool":
        return image > np.median(image)
    if dtype.startswith("float"):
        return image.astype(dtype)
    least, most = (0, 255) if dtype == "int32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.rint(least + image * (most - least)).astype(dtype)


def mask(image: Any) -> Any:
    """Return what is brighter than the median, in white."""
    if image.dtype == bool:
        return image
    white = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1
    return np.where(image > np.median(image), white, 0).astype(image.dtype)


def maps(image: Any) -> dict[str, Any]:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return {"map_x": x + 3 * np.sin(y / 20, dtype=np.float32), "map_y": y + 3 * np.cos(x / 25, dtype=np.float32)}


TURN = [[0.96, -0.17, 12.5], [0.15, 1.02, -8.25]]
ON_MASKS = {"connected_components", "distance_transform", "fill_holes", "remove_small_objects"}

# What operations are given of an image, where they need more than their defaults. "image" stands for another image.
PARAMETERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "adaptive_threshold": lambda image: {"method": "gaussian", "ksize": 21},
    "blend": lambda image: {"other": image[::-1].copy()},
    "convert_color": lambda image: {"to": "hsv"},
    "crop": lambda image: {"left": 20, "top": 30, "width": 150, "height": 110},
    "draw_text": lambda image: {"text": "the same pixels"},
    "flood_fill": lambda image: {
        "row": 5,
        "column": 5,
        "low_diff": 0.01 * span(image),
        "high_diff": 0.01 * span(image),
    },
    "gaussian_blur": lambda image: {"sigma": 2.0},
    "filter2d": lambda image: {"kernel": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]},
    "in_range": lambda image: {"low": float(np.quantile(image, 0.3)), "high": float(np.quantile(image, 0.7))},
    "lut": lambda image: {"table": [value * value // 255 for value in range(256)]},
    "match_histograms": lambda image: {"reference": image[::2, ::2] // 2},
    "match_template": lambda image: {"template": image[60:75, 80:99].copy()},
    "morphological_reconstruction": lambda image: {"image": np.minimum(image, np.roll(image, 25, 1)), "mask": image},
    "overlay": lambda image: {"mark": image[50:90, 70:130].copy()},
    "pad": lambda image: {"top": 10, "left": 7, "border": "reflect"},
    "remap": maps,
    "resize": lambda image: {"scale": 0.7},
    "rotate": lambda image: {"angle": 17.0},
    "sep_filter2d": lambda image: {"kernel_x": [1, 4, 6, 4, 1], "kernel_y": [-1, 0, 1]},
    "threshold": lambda image: {"value": float(np.median(image))},
    "undistort": lambda image: {"camera": [[200, 0, 125], [0, 200, 111], [0, 0, 1]], "distortion": [-0.2, 0.05, 0, 0]},
    "warp_affine": lambda image: {"matrix": TURN},
    "warp_perspective": lambda image: {"matrix": [*TURN, [2e-4, -1e-4, 1]]},
    "watershed": lambda image: {"markers": seeds(image), "tile": 64},
}


def seeds(image: Any) -> Any:
    """Return markers: squares of 4 pixels, every 40 pixels."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    numbers = 1 + y // 40 * 100 + x // 40
    return np.where((y % 40 < 4) & (x % 40 < 4), numbers, 0).astype(np.int32)


def span(image: Any) -> float:
    return float(np.ptp(image.astype(np.float64)))


def in_order(labels: Any) -> Any:
    """Return labels numbered by where they first occur, so that only the regions matter."""
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first[found > 0])
    numbers = np.zeros(len(found), np.int32)
    numbers[np.flatnonzero(found)[order]] = np.arange(1, len(order) + 1)
    return numbers[inverse].reshape(labels.shape)


def pair(name: str, *arguments: Any, module: Any = ndfilters, whole: Any = scipy.ndimage, **more: Any) -> Any:
    """Return a function of dask-image's, its name, and the same of the library that it carries to chunks."""
    return (
        name,
        lambda image: getattr(module, name)(image, *arguments, **more),
        lambda image: getattr(whole, name)(image, *arguments, **more),
    )


AFFINE = np.array([[1.0213, 0.1507, -8.2519], [-0.1711, 0.9637, 12.5143], [0, 0, 1]])  # rows first

# What dask-image has for the same purpose. Its results are compared with those of the whole image in the library that
# it carries to chunks: SciPy, and scikit-image for the local threshold.
DASK_IMAGE: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "adaptive_threshold": pair("threshold_local", 21, whole=skimage.filters),
    "box_blur": pair("uniform_filter", 3),
    "closing": pair("binary_closing", module=ndmorph),
    "connected_components": (
        "label",
        lambda image: da.map_blocks(in_order, ndmeasure.label(image)[0].rechunk(-1), dtype=np.int32),
        lambda image: in_order(scipy.ndimage.label(image)[0]),
    ),
    "dilate": pair("maximum_filter", 3),
    "erode": pair("minimum_filter", 3),
    "filter2d": pair("correlate", np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])),
    "gaussian_blur": pair("gaussian_filter", 2),
    "laplacian": pair("laplace"),
    "median_blur": pair("median_filter", 3),
    "opening": pair("binary_opening", module=ndmorph),
    "rotate": (
        "rotate",
        lambda image: ndinterp.rotate(image, 17.0, order=1, output_chunks=CHUNKS),
        lambda image: scipy.ndimage.rotate(image, 17.0, order=1),
    ),
    "sobel": pair("sobel", 1),
    "warp_affine": (
        "affine_transform",
        lambda image: ndinterp.affine_transform(image, AFFINE, order=1, output_chunks=CHUNKS),
        lambda image: scipy.ndimage.affine_transform(image, AFFINE, order=1),
    ),
}
DASK_IMAGE_ON_MASKS = {"closing", "connected_components", "opening"}


def sampled(operation: Any, dtype: str) -> tuple[Any, Any]:
    """Return an operation's step and image for one data type."""
    takes = operation.declaration.accepts
    mixes = operation.declaration.channels != "each" and operation.topic in ("color", "contrast", "quantize")
    channels = 3 if 3 in takes and (mixes or 1 not in takes) else None
    image = photo(dtype, channels)
    if operation.name in ON_MASKS:
        image = mask(image)
    given = PARAMETERS.get(operation.name, lambda image: {})(image)
    image = given.pop("image", image)
    return operation.step(given), image


def computed(lazy: Any) -> Any:
    return lazy.compute(scheduler="synchronous")


def difference(result: Any, whole: Any, image: Any, edge: int = 0) -> str:
    """Say by how much a result differs from the whole image's; `edge` is how wide the image's border may be called."""
    if result.shape != whole.shape:
        return "fails: other shape"
    if result.dtype != whole.dtype:
        return "fails: other data type"
    most = deviation(result, whole)
    if most == 0:
        return EXACT
    off = np.abs(result.astype(np.float64) - whole)
    if whole.dtype.kind == "f" and most < LAST_DIGITS * np.abs(whole).max():
        return "last digits"
    off = off.reshape(*off.shape[:2], -1).max(axis=2)
    off[off <= LAST_DIGITS * most] = 0
    share = f"{rounded(100 * np.count_nonzero(off) / off.size)} %"
    border = " along the border" if edge and not off[edge:-edge, edge:-edge].any() else ""
    if whole.dtype == bool:
        return share + border
    return f"{rounded(most)}{' levels' if image.dtype.kind in 'iu' else ''}, {share}{border}"


def rounded(value: float) -> str:
    """Return two digits of a number."""
    if value in (0, math.inf):
        return "NaN" if value else "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, digits):.{max(0, digits)}f}"
    return text if abs(value) >= 1e-3 else f"{value:.1e}"


def ours(step: Any, image: Any, whole: Any) -> str:
    result = computed(step(da.from_array(image, chunks=(*CHUNKS, 3)[: image.ndim])))
    allowed = allowed_deviation(step, image, whole.dtype)
    if not 0 < deviation(result, whole) <= allowed:
        return difference(result, whole, image)
    # The bound holds for any processor; which pixels deviate depends on it.
    return f"≤ {allowed:g} level{'s' * (allowed > 1)}" if whole.dtype.kind in "iu" else f"≤ {rounded(allowed)}"


def scikit_image(step: Any, image: Any, whole: Any) -> str:
    """Say what scikit-image's `apply_parallel` makes of the function that does the whole image."""
    operation = step.operation
    if operation.is_aligned or any(operation.parameters[name].image.coordinates for name in operation.images):
        return NONE
    kind = operation.declaration.kind
    reach = operation.reach(step, image.dtype) if kind is None else (DEPTH, DEPTH)
    try:
        result = skimage.util.apply_parallel(
            step,
            image,
            chunks=CHUNKS,
            depth=reach,
            dtype=whole.dtype,
            channel_axis=-1 if image.ndim == 3 else None,
        )
    except Exception:  # the parts of other shapes don't go together: in many ways
        return "fails: other shape"
    if operation.name == "connected_components":
        result, whole = in_order(result), in_order(whole)
    return difference(result, whole, image, 0 if kind else max(reach))


def dask_image(step: Any, image: Any) -> str:
    if step.operation.name not in DASK_IMAGE:
        return NONE
    name, chunked, on_whole = DASK_IMAGE[step.operation.name]
    if step.operation.name in DASK_IMAGE_ON_MASKS:
        image = mask(image) != 0
    whole = on_whole(image)
    try:
        found = difference(computed(chunked(da.from_array(image, chunks=CHUNKS))), whole, image)
    except Exception as error:
        found = f"fails: {type(error).__name__}"
    return f"{found} (`{name}`)"


Row = tuple[str, str, str, str, str, str]  # topic, operation, data type, and a cell for each


def rows() -> list[Row]:
    """Run all operations on all their data types; those without the parameters that they need are left out."""
    found = []
    known = [one for one in di.list_operations().values() if one.is_own]
    with dask.config.set(scheduler="synchronous"):
        for operation in sorted(known, key=lambda one: (one.topic, one.name)):
            with contextlib.suppress(ParameterError):
                dtypes = operation.allowed_dtypes(sampled(operation, "uint8")[0])
                for dtype in sorted(dtypes, key=DTYPES.index):
                    step, image = sampled(operation, dtype)
                    whole = step(image)
                    cells = ours(step, image, whole), scikit_image(step, image, whole), dask_image(step, image)
                    found.append((operation.topic, operation.name, dtype, *cells))
    return found


# Numbers and tables


def regions() -> Any:
    return di.connected_components(mask(photo("uint8")))


def cut(image: Any, chunks: Any) -> Any:
    return da.from_array(image, chunks=chunks)


# What of each function is compared, and how it is called on chunks; None is the whole image, not lazily.
MEASURES: dict[str, tuple[str, Callable[[Callable[[Any], Any]], Any]]] = {
    "detect_keypoints": ("all columns and descriptors", lambda on: measure.detect_keypoints(on(photo("uint8")))),
    "find_contours": (
        "the polygons, as GeoJSON",
        lambda on: measure.find_contours(on(regions()), to="geojson"),
    ),
    "find_matches": (
        "all columns",
        lambda on: measure.find_matches(on(photo("uint8")), photo("uint8")[60:75, 80:99], threshold=0.6),
    ),
    "histogram": ("the counts", lambda on: measure.histogram(on(photo("uint8")))),
    "otsu_level": ("the level", lambda on: measure.otsu_level(on(photo("uint16")))),
    "phase_correlate": (
        "the shift and the response",
        lambda on: measure.phase_correlate(on(photo("uint8")), on(np.roll(photo("uint8"), (7, -4), (0, 1)))),
    ),
    "region_properties": (
        "all columns, with intensities of uint8",
        lambda on: measure.region_properties(on(regions()), on(photo("uint8"))),
    ),
    "triangle_level": ("the level", lambda on: measure.triangle_level(on(photo("uint16")))),
}


def plain(result: Any) -> Any:
    """Return a result as what can be compared bit by bit: nested lists of plain values."""
    result = result.compute(scheduler="synchronous") if hasattr(result, "compute") else result
    if hasattr(result, "to_dict") and hasattr(result, "columns"):
        return [list(result.columns), result.index.tolist(), *(plain(result[name].to_numpy()) for name in result)]
    if isinstance(result, np.ndarray):
        return [str(result.dtype), *result.reshape(-1).tolist()]
    if isinstance(result, dict):
        return [[key, plain(value)] for key, value in result.items()]
    if isinstance(result, (list, tuple)):
        return [plain(one) for one in result]
    if hasattr(result, "__dataclass_fields__"):
        return [plain(getattr(result, name)) for name in result.__dataclass_fields__]
    return result.item() if hasattr(result, "item") else result


def measured() -> list[tuple[str, str, str]]:
    """Return for each function that measures whether it gives the same for any chunks, and what was compared."""
    found = []
    with dask.config.set(scheduler="synchronous"):
        for name, (what, call) in sorted(MEASURES.items()):
            if not hasattr(measure, name):
                continue
            whole = repr(plain(call(lambda image: image)))
            same = all(
                repr(plain(call(lambda image, chunks=chunks: cut(image, chunks)))) == whole
                for chunks in (CHUNKS, (97, 31), -1, ((1, 100, 0, 62), (200, 1)))
            )
            found.append((name, "yes" if same else "no", what))
    return found


# The page


def merged(table: Iterable[Row]) -> list[Row]:
    """Join lines of the table that differ in nothing but the data type."""
    return [
        (key[0], key[1], " ".join(row[2] for row in group), *key[2:])
        for key, lines in groupby(table, key=lambda row: (row[0], row[1], *row[3:]))
        for group in [list(lines)]
    ]


def tally(table: list[Row]) -> dict[str, list[int]]:
    """Return how many pairs of operation and data type there are of each kind, by column."""
    kinds = {
        "bit-exact": f"{EXACT}.*",
        "within a bound, in the last digits, or along the border only": "≤.*|last digits.*|.*along the border.*",
        "deviates elsewhere": r"\d.* %(?! along).*",
        "fails": "fails.*",
        "there is none": NONE,
    }
    return {
        name: [sum(bool(re.fullmatch(kind, row[column])) for row in table) for column in (3, 4, 5)]
        for name, kind in kinds.items()
    }


def versions() -> str:
    packages = ("opencv-python-headless", "dask", "dask-image", "scikit-image", "scipy", "numpy")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


INTRODUCTION = """# Exactness

Tests make this page (`{command}` writes it) and fail when it is no longer true.

**How it is made.** A photograph of {size[0]} × {size[1]} pixels is cut into chunks of {chunks[0]} × {chunks[1]}, those
at two sides smaller. Each operation runs on each data type that it takes, with the parameters in `tests/exactness.py`,
and the result is compared with that of the same function on the whole image. For daskimg that function is the operation
on a NumPy array; other tests compare it with OpenCV's own call. The conformance suite (`daskimg.testing`) draws many
other sizes, chunks and parameters; what stands here is one case of each, to look at.

**bit-exact** means that no bit differs. Else there is the largest deviation, in levels for images of integers and as a
number for those of floats, which go from 0 to 1; and how many pixels deviate. "Last digits" are roundings of floats.
"Along the border" means that all that deviates is within reach of the image's own border, so that it comes from how the
border is treated and not from the chunks. "≤" is the bound that holds on any processor. A dash means that there is no
such thing.

**scikit-image** is `apply_parallel` with the very same function as in daskimg's column and on the same chunks. Its
`depth` is the reach that daskimg declares, or {depth} where the result depends on the whole image. Its `mode` is the
default: the image is padded by reflection before the function sees it, which changes the outermost pixels where the
function has a border rule of its own. It takes one image, so operations on several are left out. It is made for
functions that look at a neighbourhood and leave shape and channels as they are; for the others it makes no promise,
and they are here to show what becomes of it.

**dask-image** is the function in brackets, with the same function of SciPy on the whole image to compare with (that
of scikit-image for `threshold_local`): this is what it promises. Borders, roundings and some of the parameters are
SciPy's and not OpenCV's. `binary_opening`, `binary_closing` and `label` get masks. Of labels the regions count and
not their numbers, in both columns of peers. That `sobel`, `laplace` and `correlate` wrap around on integers is SciPy's
own result, and is called exact. [dask-image beside daskimg](dask-image.md) says where each is the better choice.

**What is not exact, and why.** `bilateral_filter` may deviate by one level, because OpenCV switches its inner loop by
the size of the window; so may `filter2d` and `sep_filter2d` with kernels of floats, of which OpenCV takes large ones
through a Fourier transform. `resize` may by one level, and floats in `pyramid_down`, `integral_image` and `laplacian`
within the error of adding the same numbers in another order, which in `integral_image` grows with the image. With the
parameters of this page some of them are exact.
`watershed` gives the same pixels for any chunks; OpenCV's are these on images up to the size of its `tile` only.
"""


def page(table: list[Row], measures: list[tuple[str, str, str]]) -> str:
    """Return the page as Markdown."""
    lines = [INTRODUCTION.format(command=COMMAND, depth=DEPTH, size=SIZE, chunks=CHUNKS)]
    lines += ["| pairs of operation and data type | daskimg | scikit-image | dask-image |", "|---|---|---|---|"]
    lines += [f"| {kind} | {' | '.join(map(str, counts))} |" for kind, counts in tally(table).items()]
    lines += [f"| all | {' | '.join([str(len(table))] * 3)} |", ""]
    lines += [f"With {versions()}.", ""]
    for topic, members in groupby(merged(table), key=lambda row: row[0]):
        lines += [f"## {topic.capitalize()}", ""]
        lines += ["| operation | data types | daskimg | scikit-image | dask-image |", "|---|---|---|---|---|"]
        lines += [f"| `{row[1]}` | {' | '.join(row[2:])} |" for row in members]
        lines += [""]
    lines += ["## Numbers and tables", ""]
    lines += [
        "Four ways to cut the image, one of them with an empty chunk and some of one pixel, against the whole.",
        "",
    ]
    lines += ["| function | the same for any chunks | compared |", "|---|---|---|"]
    lines += [f"| `{name}` | {same} | {what} |" for name, same, what in measures]
    return "\n".join(lines) + "\n"


def cells(text: str) -> list[str]:
    """Return the lines of a page's tables, one for each data type, without its summary."""
    found = []
    for line in re.findall(r"^\| (`.*) \|$", text, re.MULTILINE):
        operation, types, *rest = line.split(" | ")
        found += [" | ".join([operation, one, *rest]) for one in (types.split() if len(rest) == 3 else [types])]
    return found


def main() -> None:
    PAGE.write_text(page(rows(), measured()), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
