"""What editors and type checkers see of operations."""

import inspect
import os
import pydoc
from pathlib import Path

import pytest

import daskimg as di

ROOT = Path(di.__file__).resolve().parents[1]

SNIPPET = """\
import dask.array as da
import numpy as np
import daskimg as di
from typing import Annotated, Any
from daskimg.parameters import Odd

image = np.zeros((9, 9), np.uint8)
reveal_type(di.gaussian_blur(ksize=5))  # Step
reveal_type(di.gaussian_blur(image, ksize=5))  # ndarray
reveal_type(di.invert())  # Step
reveal_type(di.invert(image))  # ndarray
reveal_type(di.invert() | di.gaussian_blur(ksize=5))  # Pipeline
reveal_type((di.invert() | di.invert())(image))  # ndarray
reveal_type((di.invert() | di.invert())[0])  # Step
reveal_type((di.invert() | di.invert())[:1])  # Pipeline
di.gaussian_blur(kszie=5)  # error: call-overload
di.gaussian_blur(image, kszie=5)  # error: call-overload
di.gaussian_blur(ksize="5")  # error: call-overload
di.box_blur(border="wrap")  # error: call-overload
di.threshold()  # error: call-overload

@di.operation(reach=lambda p, dtype: p.size)
def own(image: np.ndarray[Any, Any], *, size: Annotated[int, Odd(1, 9)] = 3) -> np.ndarray[Any, Any]:
    return image

reveal_type(own(size=5))  # Step
own(sise=5)  # error: call-overload
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """What mypy says about each line of the snippet."""
    api = pytest.importorskip("mypy.api")
    path = tmp_path_factory.mktemp("types") / "snippet.py"
    path.write_text(SNIPPET)
    # A cache for each process of tests, since mypy does not share one.
    cache = ROOT / ".mypy_cache" / os.environ.get("PYTEST_XDIST_WORKER", "tests")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(cache)]
    output, errors, _ = api.run([*options, "--no-pretty", "--hide-error-context", str(path)])
    assert not errors
    found = {}
    for line in output.splitlines():
        if line.startswith(str(path)):
            found.setdefault(int(line.removeprefix(f"{path}:").split(":")[0]), []).append(line)
    return found


EXPECTED = [
    (number, line.rpartition("  # ")[2]) for number, line in enumerate(SNIPPET.splitlines(), 1) if "  # " in line
]


@pytest.mark.parametrize(("line", "expected"), EXPECTED, ids=[SNIPPET.splitlines()[line - 1] for line, _ in EXPECTED])
def test_type_checkers_know(messages, line, expected):
    said = "\n".join(messages.get(line, ["nothing"]))
    if expected.startswith("error: "):
        assert f"[{expected.removeprefix('error: ')}]" in said
    else:
        assert "error" not in said
        assert expected in said.split("Revealed type is")[1]


def test_type_checkers_object_to_nothing_else(messages):
    assert set(messages) == {line for line, _ in EXPECTED}


def test_signature_is_that_of_the_function():
    signature = inspect.signature(di.gaussian_blur)
    assert list(signature.parameters) == ["image", "ksize", "sigma", "sigma_y", "border"]
    assert signature.parameters["ksize"].kind is inspect.Parameter.KEYWORD_ONLY
    assert signature.parameters["ksize"].default is None
    assert signature.parameters["image"].default is None  # so that it may be left out
    assert "where" not in inspect.signature(di.overlay).parameters  # the engine's, not the user's


def test_help_shows_the_signature_and_the_text():
    shown = pydoc.plain(pydoc.render_doc(di.gaussian_blur))
    assert "gaussian_blur(" in shown
    assert "ksize: int | None = None" in shown
    assert "Smooth with a Gaussian kernel." in shown
    assert "Parameters\n" in shown


def test_operations_look_like_functions():
    assert di.gaussian_blur.__name__ == "gaussian_blur"
    assert di.gaussian_blur.__module__ == "daskimg.operations.smooth"
    assert di.gaussian_blur.summary == "Smooth with a Gaussian kernel."
    assert di.gaussian_blur.topic == "smooth"
    assert callable(di.gaussian_blur)
    assert repr(di.invert) == "<operation invert(image=None)>"
