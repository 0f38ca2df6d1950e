"""The files around the package agree with each other."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("these tests look at a checkout", allow_module_level=True)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

DEVELOPER_EXTRAS = {"bench", "check", "dev", "docs", "test"}
PROMISED_COMMANDS = {"bench", "check", "demo", "docs", "help", "lab", "soak", "test"}

# How conda-forge calls what PyPI calls otherwise, extras of a requirement included.
CONDA_NAMES = {
    "dask": ["dask-core"],
    "dask-cloudprovider[aws]": ["dask-cloudprovider", "aiobotocore"],
    "kubernetes": ["python-kubernetes"],
    "matplotlib": ["matplotlib-base"],
    "openslide-bin": ["openslide"],
}
ONLY_FROM_PYPI = {"daft", "liffile", "opencv-python-headless", "pi-heif", "pylibczirw", "ray"}
ONLY_FOR_CONDA = {"make", "pip", "python"}


def requirements_of(names):
    """The requirements of the plain install and of these extras, those on daskimg's own extras followed."""
    found, seen, queue = [], set(), [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]
    queue += [Requirement(f"daskimg[{name}]") for name in names]
    while queue:
        requirement = queue.pop()
        if requirement.name != "daskimg":
            found.append(requirement)
            continue
        for extra in requirement.extras - seen:
            seen.add(extra)
            queue += [Requirement(text) for text in EXTRAS[extra]]
    return found


def conda_names(requirement):
    name = canonicalize_name(requirement.name)
    with_extras = f"{name}[{','.join(sorted(requirement.extras))}]"
    return CONDA_NAMES.get(with_extras) or CONDA_NAMES.get(name) or [name]


def environment():
    """What environment.yml asks of conda and of pip, as name -> bounds."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    from_conda = [Requirement(re.sub(r"(?<![<>=!])=(?!=)", "==", entry)) for entry in entries if isinstance(entry, str)]
    from_pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    assert "--editable ." in from_pip
    from_pip = [Requirement(line) for line in from_pip if line != "--editable ."]
    for part in (from_conda, from_pip):
        names = [requirement.name for requirement in part]
        assert len(names) == len(set(names)), "a package is listed twice"
    return ({r.name: r.specifier for r in from_conda}, {r.name: r.specifier for r in from_pip})


def test_environment_gives_conda_users_what_all_extras_give():
    wanted_of_conda, wanted_of_pip = {}, {}
    for requirement in requirements_of(EXTRAS):
        if canonicalize_name(requirement.name) in ONLY_FROM_PYPI:
            wanted_of_pip[canonicalize_name(requirement.name)] = requirement.specifier
            continue
        name, *brought_by_extras = conda_names(requirement)
        wanted_of_conda[name] = requirement.specifier
        wanted_of_conda |= dict.fromkeys(brought_by_extras, SpecifierSet())
    from_conda, from_pip = environment()

    assert {name: bounds for name, bounds in from_conda.items() if name not in ONLY_FOR_CONDA} == wanted_of_conda
    assert from_pip == wanted_of_pip
    assert from_conda["python"] == SpecifierSet(PYPROJECT["project"]["requires-python"])


def test_a_package_has_one_bound_wherever_it_is_named():
    bounds = {}
    for requirement in requirements_of(EXTRAS):
        bounds.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def test_all_holds_every_extra_of_users_and_none_of_developers():
    (everything,) = (Requirement(text) for text in EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - DEVELOPER_EXTRAS - {"all"}


def test_only_opencv_and_the_linters_have_upper_bounds():
    capped = {
        requirement.name
        for requirement in requirements_of(EXTRAS)
        if any(bound.operator in {"<", "<=", "==", "~="} for bound in requirement.specifier)
    }
    assert capped == {"opencv-python-headless", "mypy", "ruff"}


def test_oldest_python_is_the_same_everywhere():
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    prefix = "Programming Language :: Python :: 3."
    minors = [int(text.removeprefix(prefix)) for text in PYPROJECT["project"]["classifiers"] if text.startswith(prefix)]
    assert f"3.{min(minors)}" == oldest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"version_info < ({oldest.replace('.', ', ')})" in MAKEFILE


def test_version_is_written_once_and_is_a_version():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    text = (ROOT / PYPROJECT["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    assert str(Version(version)) == version


def test_changelog_has_a_place_for_what_comes():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_licence_is_mit():
    assert PYPROJECT["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n\nCopyright (c) ")


def targets():
    """The targets that people type: .PHONY's."""
    (names,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.MULTILINE)
    return set(names.split())


def test_every_target_is_in_help():
    assert targets() >= PROMISED_COMMANDS
    documented = set(re.findall(r"^([a-z]+):.*## \S", MAKEFILE, flags=re.MULTILINE))
    assert documented == targets()
    assert set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE)) == targets()


@pytest.mark.skipif(not shutil.which("make") or not shutil.which("awk"), reason="make or awk is not installed")
def test_make_alone_prints_the_targets():
    # MAKEFLAGS is set where make runs the tests, and would print more.
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    run = subprocess.run(["make"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert set(re.findall(r"^  ([a-z]+) +\S", run.stdout, flags=re.MULTILINE)) == targets()
    assert run.stderr == ""


def test_targets_install_extras_that_exist():
    used = set(re.findall(r"\.installed-([a-z]+)", MAKEFILE))
    assert used <= set(EXTRAS)
    assert used == {"bench", "check", "demo", "docs", "lab", "test"}


def test_make_test_leaves_the_soak_tests_out():
    options = PYPROJECT["tool"]["pytest"]["ini_options"]
    assert options["addopts"][-2:] == ["-m", "not soak"]
    assert any(marker.startswith("soak:") for marker in options["markers"])
    assert re.search(r"^soak:.*\n\t.*-m soak", MAKEFILE, flags=re.MULTILINE)


def test_ci_runs_the_developers_commands_and_ends_with_the_tests():
    script = ROOT / ".ci" / "run"
    (names,) = re.findall(r"^for target in (.+); do$", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert names.split()[-1] == "test"
    assert set(names.split()) <= targets()
    assert os.name == "nt" or os.access(script, os.X_OK)


def test_pre_commit_runs_the_versions_that_make_check_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    pinned = {text for hook in hooks for text in hook.get("additional_dependencies", [])}
    assert pinned
    assert pinned <= set(EXTRAS["check"])


def test_git_ignores_what_the_commands_make():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {".venv/", "/build/", "/dist/", "/demo-output/", "dask-worker-space/", "dask-scratch-space/"} <= set(ignored)


def test_types_are_published():
    assert (ROOT / "daskimg" / "py.typed").is_file()
