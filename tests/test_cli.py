"""The command `daskimg`: what it says, what it does, and the exit codes that it promises."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import BashComplete

import daskimg as di
from daskimg.cli import cli, main
from daskimg.cli.ops import example
from daskimg.progress import Progress, ProgressBar
from daskimg.registry import list_operations

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = "gaussian_blur ksize=5 | sobel dx=1 | absolute"


@pytest.fixture
def daskimg(capsys, tmp_path, monkeypatch):
    """Run the command in this process; return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


def names(folder):
    """The files in a folder, but for what daskimg keeps beside results."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".daskimg")


# Version, help, speed of the start


def test_version_and_help_import_nothing_heavy():
    code = (
        "import sys; from daskimg.cli import main; assert main(['--version']) == 0; assert main(['--help']) == 0;"
        "heavy = {'distributed', 'matplotlib', 'jupyter_core', 'IPython', 'bokeh', 'skimage', 'tornado', 's3fs'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"daskimg {di.__version__}\n" in done.stdout
    for command in ("completion", "demo", "ops", "retry", "run"):
        assert re.search(rf"^  {command} +[A-Z]", done.stdout, re.MULTILINE)


def test_help_documents_the_exit_codes(daskimg):
    for arguments in (["--help"], ["run", "--help"]):
        code, out, _ = daskimg(*arguments)
        assert code == 0
        for number in ("0 all done", "1 some images failed", "2 refused", "130 stopped"):
            assert number in " ".join(out.split())


def test_python_m_is_the_command(run_daskimg):
    done = run_daskimg("ops", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("daskimg: there is no operation 'nothing'")
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["nothing"], ["run"], ["run", "invert"], ["run", "--nothing"], ["ops", "--to"]])
def test_bad_usage_is_2(daskimg, arguments):
    code, _, err = daskimg(*arguments)
    assert code == 2
    assert "Usage: daskimg" in err


# ops


def test_ops_lists_every_operation_under_its_topic(daskimg):
    code, out, _ = daskimg("ops")
    assert code == 0
    topics = {block.splitlines()[0]: block for block in out.split("\n\n")}
    for name, one in list_operations().items():
        assert re.search(rf"^  {name} +\S", topics[one.topic], re.MULTILINE)


@pytest.mark.parametrize("name", sorted(list_operations()))
def test_ops_explains_each_operation(daskimg, name):
    code, out, _ = daskimg("ops", name)
    assert code == 0
    operation = list_operations()[name]
    words = " ".join(out.split())
    for parameter in operation.parameters.values():
        assert f"{parameter.name}: {parameter.describe()}; " in words
        assert " ".join(parameter.help.split()) in words
    assert " ".join(operation.summary.split()) in words
    assert f"daskimg run {out.split('daskimg run ')[1].splitlines()[0]}" in out
    assert di.Pipeline.from_text(example(operation)).steps[0].operation is operation


def test_ops_tells_range_unit_default_and_types(daskimg):
    _, out, _ = daskimg("ops", "median_blur")
    assert "ksize: a whole number, odd, 1 to 511, in px; default " in out
    assert "Takes\n  uint8" in out
    assert 'daskimg run "median_blur ksize=' in out


def test_ops_json_is_the_schema(daskimg):
    assert json.loads(daskimg("ops", "--json", "gaussian_blur")[1]) == di.gaussian_blur.schema()
    assert sorted(json.loads(daskimg("ops", "--json")[1])) == sorted(list_operations())


def test_ops_of_an_unknown_name_suggests(daskimg):
    code, out, err = daskimg("ops", "gausian_blur")
    assert (code, out) == (2, "")
    assert "Did you mean 'gaussian_blur'?" in err


# run: what it does


def test_the_example_of_the_requirement(daskimg, photos, tmp_path):
    code, out, err = daskimg("run", PIPELINE, photos, "--to", "out")
    assert code == 0
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "c.webp"]
    expected = di.Pipeline.from_text(PIPELINE)(di.read_image(photos / "a.png"))
    np.testing.assert_array_equal(di.read_image(tmp_path / "out" / "a.png"), expected)
    assert out.startswith("3 of 3 images done in ")
    assert "3/3  100 %" in err


def test_one_input_to_one_file(daskimg, photos, tmp_path):
    assert daskimg("run", "invert", photos / "a.png", "--to", "new.jpg")[0] == 0
    assert (tmp_path / "new.jpg").read_bytes()[:3] == b"\xff\xd8\xff"


def test_quoted_patterns_and_files_together(daskimg, photos, tmp_path):
    assert daskimg("run", "invert", "photos/*.png", "photos/b.jpg", "--to", "out")[0] == 0
    assert names(tmp_path / "out") == ["a.png", "b.jpg"]


def test_url_as_input(daskimg, tmp_path):
    di.save_image(np.full((5, 5), 7, np.uint8), "memory://cli/a.png")
    assert daskimg("run", "invert", "memory://cli/a.png", "--to", "out")[0] == 0
    assert (di.read_image(tmp_path / "out" / "a.png") == 248).all()


def test_format_quality_and_name(daskimg, photos, tmp_path):
    for quality in (5, 95):
        arguments = ["--format", "webp", "--quality", quality, "--name", f"{{stem}}-{quality}"]
        assert daskimg("run", "invert", "photos/a.png", "--to", "out", *arguments)[0] == 0
    assert names(tmp_path / "out") == ["a-5.webp", "a-95.webp"]
    small, large = ((tmp_path / "out" / name).stat().st_size for name in names(tmp_path / "out"))
    assert small < large


def test_recursive(daskimg, photos, tmp_path):
    (photos / "sub").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), photos / "sub" / "a.png")
    assert daskimg("run", "invert", "photos", "--recursive", "--to", "out")[0] == 0
    assert (tmp_path / "out" / "sub" / "a.png").is_file()


@pytest.mark.parametrize("form", ["text", "json"])
def test_pipeline_from_a_file(daskimg, photos, tmp_path, form):
    pipeline = di.Pipeline.from_text("gaussian_blur ksize=5 | invert")
    text = pipeline.to_json() if form == "json" else "# smooth, then invert\ngaussian_blur ksize=5\n| invert\n"
    (tmp_path / "steps").write_text(text, encoding="utf-8-sig")
    assert daskimg("run", "--pipeline-file", "steps", "photos/a.png", "photos/c.webp", "--to", "out")[0] == 0
    expected = pipeline(di.read_image(photos / "a.png"))
    np.testing.assert_array_equal(di.read_image(tmp_path / "out" / "a.png"), expected)
    assert names(tmp_path / "out") == ["a.png", "c.webp"]


def test_names_that_begin_with_a_dash(daskimg, photos, tmp_path):
    (photos / "a.png").rename(tmp_path / "-a b.png")
    assert daskimg("run", "--to", "out", "invert", "--", "-a b.png")[0] == 0
    assert names(tmp_path / "out") == ["-a b.png"]


def test_quiet_says_nothing(daskimg, photos):
    assert daskimg("run", "invert", "photos", "--to", "out", "-q") == (0, "", "")


def test_threads(daskimg, photos):
    assert "by 1 thread in this process" in daskimg("run", "invert", "photos", "--to", "out", "--threads", 1)[1]


def test_workers_are_started_and_give_the_same_pixels(run_daskimg, photos, bad_file, tmp_path):
    done = run_daskimg("run", PIPELINE, "photos", "--to", "out", "--workers", 2)
    assert done.returncode == 1
    assert "by 2 workers of tcp://127.0.0.1:" in done.stdout
    assert "Dashboard: http://127.0.0.1:" in done.stderr
    assert "bad.png" in done.stderr
    expected = di.Pipeline.from_text(PIPELINE)(di.read_image(photos / "a.png"))
    np.testing.assert_array_equal(di.read_image(tmp_path / "out" / "a.png"), expected)


def test_scheduler_address(daskimg, photos, cluster):
    code, out, _ = daskimg("run", "invert", "photos", "--to", "out", "--scheduler-address", cluster.scheduler_address)
    assert code == 0
    assert cluster.scheduler_address in out


def test_nobody_at_the_scheduler_address_is_3(daskimg, photos, monkeypatch):
    monkeypatch.setattr("daskimg.clusters._connect.ANSWER_WITHIN", 0.5)
    code, _, err = daskimg("run", "invert", "photos", "--to", "out", "--scheduler-address", "tcp://127.0.0.1:9")
    assert code == 3
    assert "no scheduler answers" in err
    assert "Traceback" not in err


def test_places_exclude_each_other(daskimg, photos):
    code, _, err = daskimg("run", "invert", "photos", "--to", "out", "--workers", 1, "--threads", 1)
    assert code == 2
    assert "exclude each other" in err


# run: bad input


def test_a_pipeline_that_does_not_parse_shows_where_and_what_was_expected(daskimg, photos):
    code, out, err = daskimg("run", "gaussian_blur ksize 5", "photos", "--to", "out")
    assert (code, out) == (2, "")
    assert "at position 20: expected = and a value for 'ksize', found '5'" in err
    line, marker = err.splitlines()[1:3]
    assert line[marker.index("^")] == "5"


@pytest.mark.parametrize(
    ("pipeline", "named"),
    [
        ("gaussian_blur ksize=4", ["ksize=4", "odd, 1 to "]),
        ("gaussian_blur sigma=-1", ["sigma=-1", "0 to 300, in px"]),
        ("gaussian_blur border=mirror", ["border='mirror'", "one of reflect_101 reflect replicate"]),
        ("gaussian_blurr", ["'gaussian_blurr'", "Did you mean 'gaussian_blur'?"]),
        ("gaussian_blur size=5", ["'size'", "Did you mean 'ksize'?"]),
    ],
)
@pytest.mark.parametrize("place", [[], ["--workers", "2"]])
def test_what_is_not_allowed_is_named_with_the_range_before_any_task(daskimg, photos, tmp_path, pipeline, named, place):
    code, out, err = daskimg("run", pipeline, "photos", "--to", "out", *place)
    assert (code, out) == (2, "")
    assert all(words in err for words in named)
    assert "Traceback" not in err
    assert "Starting" not in err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_image_among_good_ones(daskimg, photos, bad_file, tmp_path):
    code, out, err = daskimg("run", "invert", "photos", "--to", "out")
    assert code == 1
    assert f"failed: photos{os.sep}bad.png: is no image" in err
    assert "3 of 4 images done" in out
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "c.webp"]
    assert "Traceback" not in err


def test_an_output_folder_that_cannot_be_written_to_is_said_before_work(daskimg, photos, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = daskimg("run", "invert", "photos", "--to", "file/out")
    assert (code, out) == (2, "")
    assert "output folder" in err
    assert "cannot be written to" in err
    assert "%" not in err  # no progress


def test_results_are_not_overwritten_silently(daskimg, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    code, _, err = daskimg("run", "invert", "photos", "--to", "out")
    assert code == 2
    assert "already; choose" in err
    assert daskimg("run", "invert", "photos", "--to", "out", "--overwrite")[0] == 0
    before = (photos / "a.png").read_bytes()
    code, _, err = daskimg("run", "invert", "photos", "--to", "photos", "--overwrite")
    assert code == 2
    assert "would overwrite an input" in err
    assert (photos / "a.png").read_bytes() == before


def test_results_that_exist_are_left_out_if_asked(daskimg, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    code, out, _ = daskimg("run", "invert", "photos", "--to", "out", "--skip-existing")
    assert code == 0
    assert "2 of 3 images done" in out
    assert "1 skipped" in out
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    code, _, err = daskimg("run", "invert", "photos", "--to", "out", "--skip-existing", "--overwrite")
    assert code == 2
    assert "exclude each other" in err


def test_the_same_command_does_only_what_is_left(daskimg, photos, tmp_path):
    assert daskimg("run", "invert", "photos", "--to", "out")[0] == 0
    (tmp_path / "out" / "b.jpg").unlink()
    code, out, _ = daskimg("run", "invert", "photos", "--to", "out")
    assert code == 0
    assert "1 of 3 images done" in out
    assert "2 done before" in out
    assert "1 done before is done anew, because the results were changed or removed" in out
    code, _, err = daskimg("run", "invert", "photos", "--to", "out", "--no-resume")
    assert code == 2
    assert "already; choose" in err


def test_retry_does_what_failed(daskimg, photos, bad_file, tmp_path):
    assert daskimg("run", "invert", "photos", "--to", "out", "--retries", 1)[0] == 1
    assert daskimg("retry", "out")[0] == 1
    di.save_image(np.zeros((5, 5), np.uint8), bad_file, overwrite=True)
    code, out, _ = daskimg("retry", "out")
    assert code == 0
    assert out.startswith("1 of 1 image done")
    assert (di.read_image(tmp_path / "out" / "bad.png") == 255).all()
    code, _, err = daskimg("retry", "photos")
    assert code == 2
    assert "holds no manifest" in err


def test_two_inputs_with_one_result_are_refused(daskimg, photos, tmp_path):
    (tmp_path / "other").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "other" / "a.png")
    code, _, err = daskimg("run", "invert", "photos/a.png", "other/a.png", "--to", "out")
    assert code == 2
    assert "would both become" in err
    assert not (tmp_path / "out").exists()


def test_a_fault_of_ours_is_4_and_debug_shows_the_traceback(daskimg, photos, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("daskimg.batch.process_images", fail)
    code, _, err = daskimg("run", "invert", "photos", "--to", "out")
    assert code == 4
    assert "a fault in daskimg: ZeroDivisionError: deep inside" in err
    assert "Traceback" not in err
    for arguments in (["--debug", "run"], ["run", "--debug"]):
        assert "Traceback" in daskimg(*arguments, "invert", "photos", "--to", "out")[2]


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that reaches one process group only")
@pytest.mark.parametrize("place", [["--threads", 1], ["--workers", 1]])
def test_ctrl_c_ends_with_130_and_nothing_half_written(start_daskimg, tmp_path, place):
    (tmp_path / "many").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    for number in range(60):
        di.save_image(picture, tmp_path / "many" / f"{number}.png")
    process = start_daskimg("run", "non_local_means", "many", "--to", "out", *place)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "out").is_dir() and len(names(tmp_path / "out")) > 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err + out
    assert "Interrupted" in err
    written = names(tmp_path / "out")
    assert 1 < len(written) < 60
    for name in written:
        assert di.read_image(tmp_path / "out" / name).shape == (300, 300)


# Progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_renews_itself():
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar._last = 0.0
        bar(Progress(10, 1, 40, 5.0))
        bar(Progress(40, 1, 40, 20.0))
    first, second = stream.getvalue().split("\r")[1:]
    assert first.startswith("█" * 7 + "·" * 21)
    assert "10/40  25 %  2.0 images/s  time left 15 s  1 failed" in first
    assert second.startswith("█" * 28)
    assert second.endswith("\n")
    assert len(second) > len(first)  # what stood there is covered


def test_a_terminal_without_the_letters_gets_others():
    stream = Terminal()
    stream.encoding = "ascii"
    with ProgressBar(stream) as bar:
        bar(Progress(4, 0, 4, 1.0))
    assert stream.getvalue().startswith("\r" + "#" * 28)


def test_without_a_terminal_a_line_comes_now_and_then():
    stream = io.StringIO()
    with ProgressBar(stream, every=1000) as bar:
        for done in range(100):
            bar(Progress(done, 0, 100, done / 10 + 0.1))
        assert stream.getvalue() == ""
        bar(Progress(100, 0, 100, 10.0))
    assert stream.getvalue() == "100/100  100 %  10.0 images/s  10 s\n"


# Completion


def completed(*words):
    found = BashComplete(cli, {}, "daskimg", "_DASKIMG_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [one.value for one in found]


def test_completion_knows_commands_operations_and_parameters():
    assert completed("r") == ["retry", "run"]
    assert completed("ops", "gauss") == ["gaussian_blur"]
    assert completed("run", "gaussian_bl") == ["gaussian_blur"]
    assert completed("run", "invert | gaussian_bl") == ["invert | gaussian_blur"]
    assert completed("run", "invert|gaussian_bl") == ["invert| gaussian_blur"]
    assert "invert | gaussian_blur ksize=" in completed("run", "invert | gaussian_blur ")
    assert completed("run", "gaussian_blur ksize=5 ksi") == []
    assert completed("run", "gaussian_blur border=repl") == ["gaussian_blur border=replicate"]
    assert completed("run", "nothing ksi") == []
    assert "--scheduler-address" in completed("run", "--sch")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(daskimg, shell):
    code, out, _ = daskimg("completion", shell)
    assert code == 0
    assert f"_DASKIMG_COMPLETE={shell}_complete" in out


def test_the_shell_gets_its_answer(run_daskimg, monkeypatch):
    monkeypatch.setenv("_DASKIMG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "daskimg run 'invert | median_bl")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run_daskimg().stdout == "plain,invert | median_blur\n"


# Demo


def test_demo(run_daskimg, tmp_path):
    pytest.importorskip("skimage")
    done = run_daskimg("demo", "--to", "show it", "--side", 1500, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "watch it work: http://127.0.0.1:" in done.stdout
    assert "8 of 8 photos" in done.stdout
    assert "identical pixels" in done.stdout
    sheet = tmp_path / "show it" / "before-after.png"
    assert str(sheet) in done.stdout.splitlines()[-1]
    assert di.read_image(sheet).std() > 40  # photos, not paper
    assert names(tmp_path / "show it" / "edges") == names(tmp_path / "show it" / "enhanced")
    assert "astronaut.png" in names(tmp_path / "show it" / "photos")


def test_demo_without_photos_says_what_to_install(daskimg, monkeypatch):
    monkeypatch.setattr("daskimg.demo.find_spec", lambda _: None)
    code, _, err = daskimg("demo")
    assert code == 3
    assert "pip install 'daskimg[demo]'" in err
