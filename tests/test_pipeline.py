"""Steps and pipelines: forms that round-trip, immutability, and errors that say what to type."""

import base64
import contextlib
import copy
import io
import json
import os
import pickle
import subprocess
import sys
from typing import Annotated, Any, Literal

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskimg as di
from daskimg.errors import (
    ArrayError,
    DaskimgError,
    DtypeError,
    ParameterError,
    PipelineSyntaxError,
    UnknownNameError,
)
from daskimg.operation import Declaration, Operation
from daskimg.parameters import BoundImage, Image, Odd, Parameter, Range, Vector
from daskimg.pipeline import EMBED_LIMIT
from daskimg.testing.cases import arguments

OPERATIONS = {name: one for name, one in di.list_operations().items() if one.is_own}


@st.composite
def steps(draw):
    """A step of any registered operation with any parameters that it takes."""
    operation = draw(st.sampled_from(list(OPERATIONS.values())))
    values = draw(arguments(operation))
    for name in operation.images:
        values[name] = draw(
            st.sampled_from(["s3://lab/mark 1.png", "a|b=c.png", np.eye(3, 2), np.zeros((2, 2, 4), "u1")])
        )
    try:
        return operation.step(values)
    except ParameterError:
        hypothesis.reject()


pipelines = st.lists(steps(), max_size=4).map(lambda drawn: di.Pipeline(*drawn))


# Forms


@settings(max_examples=300, deadline=None)
@given(pipelines)
def test_forms_round_trip(pipeline):
    assert di.Pipeline.from_text(pipeline.to_text()) == pipeline
    assert di.Pipeline.from_text(str(pipeline)) == pipeline
    assert di.Pipeline.from_json(pipeline.to_json()) == pipeline
    assert di.Pipeline.from_json(pipeline.to_dict()) == pipeline
    assert di.Pipeline.from_json(pipeline.to_json(indent=2)) == pipeline
    assert eval(pipeline.to_python(), {"di": di}) == pipeline


@settings(max_examples=100, deadline=None)
@given(pipelines)
def test_equal_pipelines_are_interchangeable(pipeline):
    for twin in (
        pickle.loads(pickle.dumps(pipeline)),
        copy.copy(pipeline),
        copy.deepcopy(pipeline),
        di.Pipeline(pipeline),
    ):
        assert twin == pipeline
        assert hash(twin) == hash(pipeline)
        assert twin.fingerprint == pipeline.fingerprint
        assert {pipeline: 1}[twin] == 1


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_survives_as_a_parameter(text):
    pipeline = di.Pipeline(di.draw_text(text=text))
    assert di.Pipeline.from_text(pipeline.to_text()) == pipeline
    assert di.Pipeline.from_json(pipeline.to_json()) == pipeline


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="""ab_1.5-e|='"[]{},\\ \n#none""", max_size=30) | st.text(max_size=30))
def test_any_text_parses_or_raises_our_errors(text):
    for start in ("", "draw_text text=", "lut table=", "gaussian_blur "):
        with contextlib.suppress(DaskimgError):
            pipeline = di.Pipeline.from_text(start + text)
            assert di.Pipeline.from_text(pipeline.to_text()) == pipeline


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["operation", "parameters", "ksize"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_json_is_read_or_refused_with_our_errors(value):
    for document in (
        value,
        {"daskimg": 1, "steps": value},
        {"daskimg": 1, "steps": [value]},
        {"daskimg": 1, "steps": [{"operation": "box_blur", "parameters": value}]},
        {"daskimg": 1, "steps": [{"operation": "box_blur", "parameters": {"ksize": value}}]},
    ):
        with contextlib.suppress(DaskimgError):
            di.Pipeline.from_json(json.dumps(document))


def test_text_form_leaves_defaults_out_and_json_holds_all():
    pipeline = di.gaussian_blur(ksize=7) | di.invert()
    assert str(pipeline) == "gaussian_blur ksize=7 | invert"
    assert pipeline.to_python() == "di.gaussian_blur(ksize=7) | di.invert()"
    assert repr(pipeline) == "gaussian_blur(ksize=7) | invert()"
    parameters = pipeline.to_dict()["steps"][0]["parameters"]
    assert parameters == {"ksize": 7, "sigma": 0.0, "sigma_y": None, "border": "reflect_101"}
    assert di.Pipeline(di.invert()).to_python() == "di.Pipeline(di.invert())"


def test_empty_pipeline_changes_nothing():
    pipeline = di.Pipeline()
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pipeline(image) is image
    assert len(pipeline) == 0
    for twin in (di.Pipeline.from_text(""), di.Pipeline.from_text(" \n"), di.Pipeline.from_json(pipeline.to_json())):
        assert twin == pipeline


def test_text_form_may_span_lines_and_quote_either_way():
    expected = di.draw_text(text="5 px | a=b", size=9) | di.invert()
    for text in (
        'draw_text text="5 px | a=b" size=9 | invert',
        "draw_text\n  text = '5 px | a=b'\n  size = 9\n|\ninvert\n",
    ):
        assert di.Pipeline.from_text(text) == expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"""'it\'s'""", "it's"),
        (r"""'say "so"'""", 'say "so"'),
        (r'''"it's"''', "it's"),
        (r"'a\nb'", "a\nb"),
        (r"'a\\b'", "a\\b"),
        ("1.50", "1.50"),
        ("007", "007"),
        ("true", "true"),
        ("none", "none"),
        ("Zürich", "Zürich"),
    ],
)
def test_text_parameters_keep_what_was_written(written, meant):
    assert di.Pipeline.from_text(f"draw_text text={written}")[0].params["text"] == meant


def test_bare_words_keep_their_spelling_where_a_text_may_be_none():
    def label(image, *, tag: str | None = "x"):
        return image

    operation = Operation(label, Declaration())
    read = operation.read_words(di.syntax.parse("label tag=1.50")[0].arguments)
    assert read == {"tag": "1.50"}
    assert operation.read_words(di.syntax.parse("label tag=none")[0].arguments) == {"tag": None}
    assert operation.read_words(di.syntax.parse('label tag="none"')[0].arguments) == {"tag": "none"}


# Syntax errors


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("gaussian_blur ksize", 19, "= and a value for 'ksize', found the end"),
        ("gaussian_blur ksize=", 20, "a value, found the end"),
        ("gaussian_blur ksize=|", 20, "a value, found '|'"),
        ("gaussian_blur 5", 14, "a parameter such as ksize=5, or | before the next operation, found '5'"),
        ("gaussian_blur ksize=5 invert", 28, "= and a value for 'invert'"),
        ("| invert", 0, "the name of an operation"),
        ("invert |", 8, "the name of an operation, found the end"),
        ("invert || invert", 8, "the name of an operation, found '|'"),
        ("gaussian_blur ksize=5 ksize=7", 22, "another parameter, since 'ksize' is already given"),
        ('draw_text text="abc', 15, "a text in quotes"),
        ("draw_text text='abc", 15, "a closing quote"),
        (r"draw_text text='\x'", 16, "a text in quotes"),
        ("lut table=[1,2", 14, "a JSON list such as [1,2,3], found the end"),
        ("lut table=[1,,2]", 13, "a JSON list such as [1,2,3]"),
        ("lut table={}", 10, "a value, found '{'"),
        ("5", 0, "the name of an operation, found '5'"),
        ("gaussian-blur", 8, "a parameter such as ksize=5"),
    ],
)
def test_syntax_errors_say_where_and_what(text, position, expected):
    with pytest.raises(PipelineSyntaxError) as caught:
        di.Pipeline.from_text(text)
    message = str(caught.value)
    assert caught.value.position == position
    assert expected in message
    assert f"position {position}" in message
    assert message.splitlines()[-1].index("^") == 2 + position


def test_syntax_error_in_a_later_line_points_into_that_line():
    with pytest.raises(PipelineSyntaxError) as caught:
        di.Pipeline.from_text("invert\n| box_blur 7\n| invert")
    assert str(caught.value).splitlines()[1:] == ["  | box_blur 7", "             ^"]


def test_syntax_error_in_a_long_line_shows_its_surroundings():
    text = "lut table=[" + "1," * 5000 + "x]"
    with pytest.raises(PipelineSyntaxError) as caught:
        di.Pipeline.from_text(text)
    message = str(caught.value)
    assert len(message) < 400
    line, caret = message.splitlines()[-2:]
    assert line[caret.index("^")] == text[caught.value.position] == "x"


@pytest.mark.parametrize(
    "text", ["lut table=" + "[" * 100_000, "box_blur ksize=" + "9" * 5000, "lut table=[" + "9" * 5000 + "]"]
)
def test_monstrous_texts_are_refused_with_our_errors(text):
    with pytest.raises(DaskimgError):
        di.Pipeline.from_text(text)


@pytest.mark.parametrize("text", ['{"daskimg": 1, "steps": ' + "[" * 100_000, "9" * 5000, "{", "", "[]", "null"])
def test_malformed_json_is_refused_with_our_errors(text):
    with pytest.raises(PipelineSyntaxError):
        di.Pipeline.from_json(text)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_schema_versions_are_refused(version):
    with pytest.raises(PipelineSyntaxError, match=r"schema version .* pip install --upgrade"):
        di.Pipeline.from_json({"daskimg": version, "steps": []})


@pytest.mark.parametrize("entry", [None, 5, {}, {"operation": 5}, {"operation": "invert", "parameters": [1]}])
def test_malformed_steps_in_json_are_refused(entry):
    with pytest.raises(PipelineSyntaxError, match="each step needs an operation"):
        di.Pipeline.from_json({"daskimg": 1, "steps": [entry]})


def test_syntax_errors_survive_pickling():
    error = PipelineSyntaxError("here", 7)
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.position) == ("here", 7)


# Names and values


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("gausian_blur", "Did you mean 'gaussian_blur'?"),
        ("GaussianBlur ksize=5", "Did you mean 'gaussian_blur'?"),
        ("gaussian_blur kszie=5", "Did you mean 'ksize'?"),
        ("gaussian_blur border=reflekt", "Did you mean 'reflect'?"),
        ("threshold value=3 kind=binary-inv", "Did you mean 'binary_inv'?"),
    ],
)
def test_misspelt_names_get_a_hint(text, hint):
    with pytest.raises((UnknownNameError, ParameterError)) as caught:
        di.Pipeline.from_text(text)
    assert hint in str(caught.value)


def test_unknown_parameter_lists_those_that_there_are():
    with pytest.raises(UnknownNameError, match=r"It has: ksize sigma sigma_y border"):
        di.gaussian_blur(zzz=1)
    with pytest.raises(UnknownNameError, match="It has: none"):
        di.invert(zzz=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: di.median_blur(ksize=4), r"median_blur: ksize=4 is not allowed; .* \(here odd: 3 or 5\)"),
        (lambda: di.median_blur(ksize=0), r"\(here at least 1\)"),
        (lambda: di.gaussian_blur(sigma=-1), r"sigma=-1 is not allowed; sigma is a number, 0 to 300, in px"),
        (lambda: di.gaussian_blur(sigma=float("nan")), "sigma=nan is not allowed"),
        (lambda: di.gaussian_blur(sigma=float("inf")), "sigma=inf is not allowed"),
        (lambda: di.box_blur(ksize=float("inf")), "ksize=inf is not allowed"),
        (lambda: di.box_blur(ksize=10**400), "ksize=1000"),
        (lambda: di.gaussian_blur(sigma=10**400), "sigma=1000"),
        (lambda: di.draw_text(text="a", row=10**30), "row=1000"),
        (lambda: di.box_blur(ksize=True), "ksize=True is not allowed"),
        (lambda: di.box_blur(ksize=np.True_), "is not allowed"),
        (lambda: di.box_blur(ksize=3.5), "ksize=3.5 is not allowed; ksize is a whole number"),
        (lambda: di.box_blur(ksize="3"), "ksize='3' is not allowed"),
        (lambda: di.box_blur(ksize=None), "ksize=None is not allowed"),
        (lambda: di.box_blur(ksize=[3]), "is not allowed"),
        (lambda: di.box_blur(border="wrap"), "border is one of reflect_101 reflect replicate constant"),
        (lambda: di.box_blur(border=3), "border=3 is not allowed"),
        (lambda: di.bilateral_filter(sigma_color=0), r"more than 0"),
        (lambda: di.filter2d(kernel=[[1, 2], [3]]), "with rows of equal length"),
        (lambda: di.filter2d(kernel=[]), "a list of rows of numbers"),
        (lambda: di.filter2d(kernel=[[1, float("nan")]]), "is not allowed"),
        (lambda: di.filter2d(kernel=5), "is not allowed"),
        (lambda: di.sep_filter2d(kernel_x="abc"), "a list of numbers"),
        (lambda: di.absolute(saturate=1), "saturate=1 is not allowed; saturate is true or false"),
        (lambda: di.draw_text(text=5), "text is a text"),
        (lambda: di.overlay(mark=5), "an image .* or its URL"),
        (lambda: di.threshold(), "threshold needs value"),
    ],
)
def test_values_that_are_not_allowed(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_values_of_numpy_and_equal_numbers_give_the_same_step():
    step = di.gaussian_blur(ksize=5, sigma=1)
    assert di.gaussian_blur(ksize=np.int8(5), sigma=np.float32(1)) == step
    assert di.gaussian_blur(ksize=5.0, sigma=np.array(1)[()]) == step
    assert type(di.gaussian_blur(ksize=np.int64(5)).params["ksize"]) is int
    kernel = [[0, 1], [2, 3]]
    assert (
        di.filter2d(kernel=kernel)
        == di.filter2d(kernel=np.array(kernel))
        == di.filter2d(kernel=((0.0, 1.0), (2.0, 3.0)))
    )


def test_parameters_come_by_name_only():
    with pytest.raises(TypeError, match=r"takes its parameters by name: gaussian_blur\(image, ksize=\.\.\.\)"):
        di.gaussian_blur(np.zeros((3, 3), np.uint8), 5)


def test_a_pipeline_is_made_of_steps():
    with pytest.raises(ParameterError, match="a step is an operation called without an image"):
        di.Pipeline(di.invert)
    with pytest.raises(TypeError):
        di.invert() | 5


# Immutable data


def test_steps_and_pipelines_are_immutable():
    step = di.gaussian_blur(ksize=5)
    pipeline = step | di.invert()
    for change in (
        lambda: setattr(step, "items", ()),
        lambda: setattr(step.arguments, "ksize", 7),
        lambda: delattr(step.arguments, "ksize"),
        lambda: step.params.update(ksize=7),
        lambda: setattr(pipeline, "steps", ()),
    ):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        step.params["ksize"] = 7
    assert step.params["ksize"] == 5
    assert step == di.gaussian_blur(ksize=5)


def test_pipelines_are_sequences_of_steps():
    first, second, third = di.invert(), di.absolute(), di.gaussian_blur(ksize=5)
    pipeline = first | second | third
    assert list(pipeline) == [first, second, third]
    assert pipeline[0] == first
    assert pipeline[-1] == third
    assert pipeline[:2] == first | second
    assert (first | second) | third == first | (second | third) == di.Pipeline(first, second | third)
    assert pipeline != first | second
    assert len({pipeline, first | second | third}) == 1


def test_different_parameters_are_different():
    assert di.gaussian_blur(ksize=5) != di.gaussian_blur(ksize=7)
    assert di.erode(ksize=5) != di.dilate(ksize=5)
    assert di.gaussian_blur(ksize=5) != "gaussian_blur ksize=5"


def test_table_for_notebooks_escapes_texts():
    html = (di.draw_text(text="<script>") | di.invert())._repr_html_()
    assert "<script>" not in html
    assert "draw_text" in html
    assert "Swap dark and bright" in html


# Fingerprints


def test_fingerprint_tells_parameters_order_and_versions_apart():
    blur, invert = di.gaussian_blur(ksize=5), di.invert()
    pipelines = [di.Pipeline(), blur | invert, invert | blur, di.Pipeline(blur), di.Pipeline(di.gaussian_blur(ksize=7))]
    assert len({one.fingerprint for one in pipelines}) == len(pipelines)


def test_fingerprint_changes_with_the_version_of_an_operation():
    function = di.invert.function
    first, second = (di.Pipeline(Operation(function, Declaration(version=version)).step({})) for version in (1, 2))
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == di.Pipeline(Operation(function, Declaration(version=1)).step({})).fingerprint


def test_fingerprint_changes_with_opencv(monkeypatch):
    pipeline = di.Pipeline(di.invert())
    before = pipeline.fingerprint
    monkeypatch.setattr("cv2.__version__", "9.9.9")
    assert pipeline.fingerprint != before


SCRIPT = """
import daskimg as di, numpy as np
from dask.tokenize import tokenize

FACTORS = {"a": 1, "b": 2}

def helper(image, factor):
    return image * np.asarray(factor, image.dtype)

@di.operation(reach=lambda p, dtype: p.radius)
def own(image, *, radius: int = 1, mode: str = "a"):
    return helper(image, FACTORS[mode])

image = np.arange(12, dtype=np.uint8).reshape(3, 4)
for pipeline in (own() | di.gaussian_blur(ksize=3), di.Pipeline(di.overlay(mark=image))):
    print(pipeline.fingerprint, tokenize(pipeline))
"""


def test_fingerprints_are_the_same_in_every_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 4


# Second images


def test_bound_images_travel_as_data_urls():
    mark = np.arange(24, dtype=">u2").reshape(2, 3, 4)
    pipeline = di.Pipeline(di.overlay(mark=mark))
    for twin in (
        di.Pipeline.from_text(pipeline.to_text()),
        di.Pipeline.from_json(pipeline.to_json()),
        eval(pipeline.to_python(), {"di": di}),
    ):
        bound = twin[0].params["mark"]
        assert isinstance(bound, BoundImage)
        assert np.array_equal(bound.array, mark)
        assert twin == pipeline
        image = np.zeros((9, 9, 3), np.uint16)
        assert np.array_equal(twin(image), pipeline(image))


def test_bound_images_are_compared_by_their_pixels():
    image = np.zeros((2, 2), np.uint8)
    assert di.overlay(mark=image) == di.overlay(mark=image.copy())
    assert di.overlay(mark=image) != di.overlay(mark=image + 1)
    assert di.overlay(mark=image) != di.overlay(mark="image.png")
    assert repr(di.overlay(mark=image)) == "overlay(mark=<image 2x2 uint8>)"


def test_bound_images_that_are_too_large_for_a_text_are_refused():
    fits = np.zeros(EMBED_LIMIT - 1000, np.uint8).reshape(1, -1)
    assert len(di.overlay(mark=fits).to_text()) > EMBED_LIMIT
    pipeline = di.Pipeline(di.overlay(mark=np.zeros((EMBED_LIMIT + 1, 1), np.uint8)))
    for form in (pipeline.to_text, pipeline.to_json, pipeline.to_python):
        with pytest.raises(ParameterError, match="save it and bind its URL instead"):
            form()


def _npy(header):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "data",
    [
        "",
        "!!!",
        "UEsDBAAAAA==",  # a zip
        base64.b64encode(pickle.dumps([1])).decode(),
        _npy({"shape": (10**7, 10**7), "fortran_order": False, "descr": "<f8"}),  # bytes of pixels that are not there
        _npy({"shape": (2, 2), "fortran_order": False, "descr": "|O"}),
    ],
    ids=["empty", "no base64", "zip", "pickle", "giant", "objects"],
)
def test_damaged_embedded_images_are_refused(data):
    with pytest.raises(ParameterError, match="this one is damaged"):
        di.overlay(mark=BoundImage.prefix + data)


# Declaring operations


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _declared(lambda: None), "must take an image"),
        (lambda: _declared(lambda image, ksize: image), "must be keyword-only"),
        (lambda: _declared(lambda image, *, ksize=3: image), "needs an annotation"),
    ],
)
def test_mistakes_in_signatures_are_told_to_the_author(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def _declared(function, **declared):
    return Operation(function, Declaration(**declared))


def test_mistakes_in_annotations_are_told_to_the_author():
    def numbers(image, *, k: Literal[1, 2] = 1):
        return image

    def unknown(image, *, k: dict | None = None):
        return image

    def outside(image, *, k: Annotated[int, Odd(1, 9)] = 4):
        return image

    for function, error in ((numbers, TypeError), (unknown, TypeError), (outside, ParameterError)):
        with pytest.raises(error):
            _declared(function)


def test_aligned_images_exclude_a_reach_and_a_window():
    def masked(image, *, mask: Annotated[Any, Image(aligned=True)]):
        return image

    with pytest.raises(TypeError, match="beside an aligned image there can be no reach"):
        _declared(masked, reach=lambda p, dtype: 1)


def test_names_of_other_modules_operations_are_refused():
    def invert(image):
        return image

    with pytest.raises(ParameterError, match=r'exists already, from daskimg.operations.tone; .*name="my_invert"'):
        di.operation(invert)


def test_schema_holds_what_forms_need():
    schema = di.gaussian_blur.schema()
    assert schema["title"] == "gaussian_blur"
    assert schema["additionalProperties"] is False
    sigma = schema["properties"]["sigma"]
    assert (sigma["type"], sigma["minimum"], sigma["maximum"], sigma["default"], sigma["unit"]) == (
        "number",
        0,
        300,
        0.0,
        "px",
    )
    assert sigma["description"].startswith("Standard deviation")
    assert schema["properties"]["border"]["enum"] == ["reflect_101", "reflect", "replicate", "constant"]
    assert di.threshold.schema()["required"] == ["value"]
    for operation in OPERATIONS.values():
        json.dumps(operation.schema())


def test_every_parameter_is_documented():
    for operation in OPERATIONS.values():
        assert operation.summary, operation
        for parameter in operation.parameters.values():
            assert parameter.help, f"{operation.name} does not document {parameter.name}"


def test_vectors_may_be_numbers_for_all_channels():
    parameter = di.in_range.parameters["low"]
    assert parameter.scalar
    assert parameter.validate(5, "x") == 5.0
    assert parameter.validate([1, 2, 3], "x") == (1.0, 2.0, 3.0)


def test_range_says_what_is_allowed():
    assert Range(0, 10).describe() == "0 to 10"
    assert Range(above=0).describe() == "more than 0"
    assert Range(maximum=3).describe() == "3 or less"
    assert Range().describe() == "any"
    assert Parameter("k", "integer", limits=Range(0)).describe() == "a whole number, 0 or more"
    assert Vector is not None


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        ("bool", r'image.astype\("uint8"\) \* 255'),
        ("int64", r'image.astype\("float32"\)'),
        ("float16", r'image.astype\("float32"\)'),
        ("object", "convert it first"),
        ("complex64", "convert it first"),
        ("datetime64[s]", "convert it first"),
    ],
)
def test_data_types_that_opencv_lacks_are_refused_with_a_remedy(dtype, remedy):
    with pytest.raises(DtypeError, match=rf"takes uint8 uint16 int16 float32 float64, not .*{remedy}"):
        di.gaussian_blur(np.zeros((3, 3), dtype), ksize=3)


def test_data_types_of_an_operation_are_refused_with_a_remedy():
    with pytest.raises(DtypeError, match=r'median_blur\(ksize=7\) takes uint8, not float32; put rescale\(to="uint8"\)'):
        di.median_blur(np.zeros((3, 3), np.float32), ksize=7)

    def counting(image):
        return image

    with pytest.raises(DtypeError, match=r'takes int32, not uint8; convert it first: image.astype\("int32"\)'):
        _declared(counting, dtypes="int32").step({})(np.zeros((3, 3), np.uint8))


def test_channels_are_refused_with_a_remedy():
    with pytest.raises(ArrayError, match="takes images of 1 channels, not 3; put to_gray before it"):
        di.colormap(np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ArrayError, match="put to_rgb before it"):
        di.sepia(np.zeros((3, 3), np.uint8))


def test_choices_that_are_numbers_may_be_given_as_numbers():
    assert di.connected_components(connectivity=4) == di.connected_components(connectivity="4")
    assert di.Pipeline.from_text("connected_components connectivity=4") == di.Pipeline(
        di.connected_components(connectivity=4)
    )
    with pytest.raises(ParameterError, match="one of 4 8"):
        di.connected_components(connectivity=6)
