"""The rooms of the package: imports point down only, and each thing has one home."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daskimg

PACKAGE = Path(daskimg.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)

FLOORS = {
    0: "errors kinds opencv operation parameters pipeline progress registry syntax version",
    1: "operations",
    2: "chunked",
    3: "clusters io measure",
    4: "planning",
    5: "batch compare vision",
    6: "cli demo ingest rest widgets __main__ __init__",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
BESIDE = "testing"  # may import floors 0 to 2, and the package as users see it; nothing imports it

# Beside these, cv2 is used nowhere but in operations/, chunked/, io/ and measure/: no image logic anywhere else.
NO_IMAGE_FUNCTIONS = {"error", "getBuildInformation", "getNumThreads", "setNumThreads", "__file__", "__version__"}

HEAVY = [
    "IPython", "aiobotocore", "anywidget", "bokeh", "boto3", "botocore", "dask_cloudprovider", "dask_kubernetes",
    "distributed", "hypothesis", "ipywidgets", "jupyter_client", "jupyter_core", "kubernetes", "matplotlib", "s3fs",
    "skimage", "tornado", "traitlets",
]  # fmt: skip


def room_of(path):
    """The room that a module is in: `io` for `daskimg/io/probe.py`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path, tree):
    """The rooms that a module imports, wherever in it, with the line of each import."""
    package = ["daskimg", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from daskimg import registry` imports a module, `from daskimg import Pipeline` the face of the package.
            names = [f"{module}.{alias.name}" if module == "daskimg" else module for alias in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            if top == "daskimg":
                yield (rest[0] if rest and is_module(rest[0]) else "__init__"), node.lineno


def is_module(name):
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def may_import(room, other):
    if room == other or room == "__init__":
        return True
    if other == BESIDE:
        return False
    if room == BESIDE:
        return other == "__init__" or FLOOR[other] <= 2
    if room == "clusters":
        return FLOOR[other] == 0
    within = FLOOR[room] in (0, 6)  # the basement and the faces are one room each
    return FLOOR[other] < FLOOR[room] or (within and FLOOR[other] == FLOOR[room])


def test_every_module_has_its_floor():
    unknown = {room_of(path) for path in MODULES} - set(FLOOR) - {BESIDE}
    assert not unknown, f"say in FLOORS where {', '.join(sorted(unknown))} lives"


def test_imports_point_down():
    wrong = []
    for path in MODULES:
        room = room_of(path)
        for other, line in imported_rooms(path, ast.parse(path.read_text(encoding="utf-8"))):
            if not may_import(room, other):
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {other}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "code", "allowed"),
    [
        ("operations/tone.py", "from daskimg.operation import operation", True),
        ("operations/tone.py", "def f():\n    from daskimg.chunked import local", False),
        ("operation.py", "import daskimg.chunked.local", False),
        ("operation.py", "from daskimg import registry", True),
        ("operation.py", "from daskimg import Pipeline", False),
        ("io/probe.py", "from . import color", True),
        ("io/probe.py", "from .. import clusters", False),
        ("io/probe.py", "from ..clusters import start_cluster", False),
        ("clusters/local.py", "from daskimg.io import read_image", False),
        ("clusters/local.py", "from daskimg.errors import DaskimgError", True),
        ("cli/run.py", "import daskimg", True),
        ("batch/task.py", "import daskimg", False),
        ("cli/run.py", "from daskimg.testing import check_operation", False),
        ("testing.py", "from daskimg.io import read_image", False),
    ],
)
def test_the_walk_over_imports_sees_what_points_up(room, code, allowed):
    path = PACKAGE / room
    found = [may_import(room_of(path), other) for other, _ in imported_rooms(path, ast.parse(code))]
    assert found == [allowed]


def test_opencv_works_on_images_in_few_rooms():
    wrong = []
    for path in MODULES:
        if room_of(path) in ("operations", "chunked", "io", "measure"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = None
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cv2":
                name = node.attr
            elif isinstance(node, ast.ImportFrom) and node.module == "cv2":
                name = node.names[0].name
            elif isinstance(node, ast.Import) and any(alias.name == "cv2" and alias.asname for alias in node.names):
                name = "an alias"
            if name and name not in NO_IMAGE_FUNCTIONS:
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{node.lineno} uses cv2.{name}")
    assert not wrong, "\n".join(wrong)


def test_importing_the_package_stays_light():
    code = f"import sys, daskimg; print(*sorted(set(sys.modules) & set({HEAVY})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []


def test_nothing_is_called_utils():
    names = {part for path in MODULES for part in path.with_suffix("").relative_to(PACKAGE).parts}
    assert not {name for name in names if {"utils", "util", "helpers", "misc", "common"} & set(name.split("_"))}


def test_modules_stay_readable(record_property):
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {name: lines for name, lines in sorted(lengths.items(), key=lambda item: -item[1]) if lines > 350}
    record_property("modules above 350 lines", long)
    assert all(lines <= 700 for lines in lengths.values()), f"split by topic: {long}"
