"""OpenCV wheels that clash or are too old are named when daskimg is imported."""

import subprocess
import sys

import pytest


def wheel(folder, name, version):
    """Put what an installed wheel leaves behind into a folder."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def import_daskimg(folder):
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import daskimg"
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, timeout=100)


def test_two_wheels_side_by_side_are_named_with_the_remedy(tmp_path):
    wheel(tmp_path, "opencv-python-headless", "5.0.0.93")
    wheel(tmp_path, "opencv-contrib-python", "5.0.0.93")
    run = import_daskimg(tmp_path)
    assert run.returncode == 0, run.stderr
    assert "opencv-contrib-python 5.0.0.93" in run.stderr
    assert "pip uninstall -y" in run.stderr


def test_one_wheel_is_no_reason_to_warn(tmp_path):
    assert "opencv" not in import_daskimg(tmp_path).stderr


@pytest.mark.parametrize(
    ("cv2", "expected"),
    [
        ("__version__ = '4.14.0'", "needs OpenCV 5, here is 4.14.0"),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "only the headless wheel can"),
    ],
)
def test_an_opencv_that_cannot_serve_says_what_to_type(tmp_path, cv2, expected):
    (tmp_path / "cv2.py").write_text(cv2)
    run = import_daskimg(tmp_path)
    assert run.returncode != 0
    assert expected in run.stderr
    assert "pip " in run.stderr.splitlines()[-1]
