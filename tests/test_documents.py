"""All Python code in the README and the documentation runs as a script of its own, and the notebooks run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

if not (ROOT / "README.md").is_file():
    pytest.skip("these tests look at a checkout", allow_module_level=True)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWS_ONLY = "def box_blur"  # design.md shows how an operation is written; running it would take the name


def scripts():
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for number, code in enumerate(blocks):
            if SHOWS_ONLY not in code:
                yield pytest.param(code, id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(scripts()))
def test_code_runs_as_a_script(code, tmp_path):
    script = tmp_path / "script.py"
    # As on Windows and macOS: processes that the script starts import it anew.
    spawn = "import multiprocessing\nif __name__ == '__main__':\n    multiprocessing.set_start_method('spawn')\n"
    script.write_text(spawn + code, encoding="utf-8")
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr


def test_there_is_code_to_run():
    assert len(list(scripts())) >= 5


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_runs(notebook, tmp_path):
    import nbclient
    import nbformat

    document = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in document.cells), "outputs are stripped in git"
    nbclient.NotebookClient(document, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []
