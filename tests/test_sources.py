"""Stored images: Zarr, NPY, stacks, microscopes' files, opened lazily, described, and equal to the whole."""

import functools
import http.server
import pickle
import struct
import threading

import dask
import fsspec
import numcodecs
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

import daskimg as di
from daskimg.errors import ArrayError, EnvironmentProblem, ImageFileError, ImageTooLargeError, ParameterError
from daskimg.io.color import to_srgb
from daskimg.io.reading import open_source
from daskimg.io.sources import zarr as zarr_source
from daskimg.io.stored import StoredImage

GREY = np.random.default_rng(3).integers(0, 60000, (301, 437), np.uint16)
RGB = np.random.default_rng(4).integers(0, 256, (150, 170, 3), np.uint8)


def raising(*_, **__):
    raise AssertionError("a pixel was asked for")


def opened_lazily(*args, **options):
    with dask.config.set(scheduler=raising):
        return di.open_image(*args, **options)


def write_zarr(path, pixels, chunks, **options):
    array = zarr.create_array(path, shape=pixels.shape, dtype=pixels.dtype, chunks=chunks, **options)
    array[...] = pixels
    return array


ZARRS = {
    "v3": {},
    "v2": {"zarr_format": 2},
    "v2 by columns": {"zarr_format": 2, "order": "F"},
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "blosc": {"compressors": zarr.codecs.BloscCodec(), "serializer": zarr.codecs.BytesCodec(endian="big")},
    "v2 blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc()},
    "transposed": {"filters": zarr.codecs.TransposeCodec(order=(1, 0))},
    "dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "sharded": {"shards": (128, 192)},
    "plain": {"compressors": None},
    "big-endian": {"zarr_format": 2, "dtype": ">u2"},
}


@pytest.fixture(params=ZARRS)
def stored_zarr(request, tmp_path):
    options = dict(ZARRS[request.param])
    pixels = GREY.astype(options.pop("dtype", GREY.dtype))
    write_zarr(tmp_path / "a.zarr", pixels, (64, 48), **options)
    return tmp_path / "a.zarr"


def test_zarr_of_each_kind(stored_zarr):
    image = opened_lazily(stored_zarr)
    assert (image.shape, image.dtype) == (GREY.shape, np.dtype("uint16"))
    np.testing.assert_array_equal(image.compute(), GREY)
    np.testing.assert_array_equal(di.read_image(stored_zarr), GREY)
    source = open_source(stored_zarr).image
    assert source.layout.levels[0].tile == (64, 48)  # of a sharded array the inner chunk
    np.testing.assert_array_equal(source.decode(0, (4, 9)), GREY[256:, 432:])


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_any_region_and_any_chunks_equal_the_whole(tmp_path_factory, data):
    for kind in ("zarr", "npy"):
        path = tmp_path_factory.getbasetemp() / f"region.{kind}"
        if not path.exists():
            np.save(path, GREY) if kind == "npy" else write_zarr(path, GREY, (64, 48))
        chunks = tuple(data.draw(st.integers(25, 500), label="chunk") for _ in range(2))
        rows, columns = (sorted(data.draw(st.integers(0, n), label="edge") for _ in range(2)) for n in GREY.shape)
        image = opened_lazily(path, chunks=chunks)
        np.testing.assert_array_equal(image.compute(scheduler="sync"), GREY)
        part = image[rows[0] : rows[1], columns[0] : columns[1]]
        np.testing.assert_array_equal(part.compute(scheduler="sync"), GREY[rows[0] : rows[1], columns[0] : columns[1]])
        blurred = di.gaussian_blur(image, ksize=9)
        np.testing.assert_array_equal(blurred.compute(scheduler="sync"), di.gaussian_blur(GREY, ksize=9))


def test_only_the_chunks_that_are_needed_are_read(tmp_path, monkeypatch):
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    image = di.open_image(tmp_path / "a.zarr", chunks=64)
    read = []
    inner = zarr_source.ZarrImage.read
    monkeypatch.setattr(
        zarr_source.ZarrImage, "read", lambda self, level, where: read.append(where) or inner(self, level, where)
    )
    image[70:80, 70:140].compute()
    assert sorted((where[0].start, where[1].start) for where in read) == [(64, 64), (64, 128)]


def test_missing_chunks_are_fill_value(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(100, 120), chunks=(50, 50), dtype="int16", fill_value=-7)
    assert set(np.unique(di.open_image(tmp_path / "a.zarr").compute())) == {-7}


def test_dtypes_that_opencv_lacks_are_opened(tmp_path):
    for number, dtype in enumerate(("bool", "uint64", "complex64", "float16")):
        pixels = np.arange(600).reshape(20, 30).astype(dtype)
        write_zarr(tmp_path / f"{number}.zarr", pixels, (8, 8))
        np.save(tmp_path / f"{number}.npy", pixels)
        for suffix in ("zarr", "npy"):
            image = di.open_image(tmp_path / f"{number}.{suffix}")
            assert image.dtype == dtype
            np.testing.assert_array_equal(image.compute(), pixels)
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    with pytest.raises(ImageFileError, match="numbers"):
        di.open_image(tmp_path / "text.npy")


def test_named_axes_of_plain_zarr(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 9, (3, 40, 50), np.uint8)
    write_zarr(tmp_path / "a.zarr", pixels, (1, 20, 20), dimension_names=["time", "lat", "lon"])
    xr.DataArray(pixels, dims=("z", "y", "x"), name="p").to_dataset().to_zarr(
        tmp_path / "b.zarr", zarr_format=2, consolidated=False
    )
    for name, dims in (("a", ("time", "y", "x")), ("b", ("z", "y", "x"))):
        image = opened_lazily(tmp_path / f"{name}.zarr", labelled=True)
        assert image.dims == dims
        np.testing.assert_array_equal(image.values, pixels)
        with pytest.raises(ArrayError, match=r"labelled=True.*frame="):
            di.open_image(tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(di.open_image(tmp_path / f"{name}.zarr", frame=2).compute(), pixels[2])
        with pytest.raises(ImageFileError, match="0 to 2"):
            di.open_image(tmp_path / f"{name}.zarr", frame=3)


def write_ome(path, levels, axes, version, scale=(0.5, 0.25), **more):
    """OME-Zarr as its specification says."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for at, pixels in enumerate(levels):
        array = group.create_array(
            str(at), shape=pixels.shape, dtype=pixels.dtype, chunks=(1,) * (pixels.ndim - 2) + (32, 32)
        )
        array[...] = pixels
        factors = [1.0] * (pixels.ndim - 2) + [one * 2**at for one in scale]
        datasets.append({"path": str(at), "coordinateTransformations": [{"type": "scale", "scale": factors}]})
    kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    named = [{"name": name, "type": kinds[name]} | ({"unit": "micrometer"} if name in "zyx" else {}) for name in axes]
    about = {"multiscales": [{"axes": named, "datasets": datasets, "version": version}], **more}
    group.attrs.update(about if version == "0.4" else {"ome": {"version": version, **about}})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    pixels = np.random.default_rng(1).integers(0, 60000, (2, 5, 90, 130), np.uint16)
    levels = [pixels, pixels[..., ::2, ::2], pixels[..., ::4, ::4]]
    channels = [{"label": name} for name in ("a", "b", "c", "d", "e")]
    write_ome(tmp_path / "a.zarr", levels, "tcyx", version, omero={"channels": channels})
    for level, expected in enumerate(levels):
        image = opened_lazily(tmp_path / "a.zarr", labelled=True, level=level)
        assert image.dims == ("t", "c", "y", "x")
        np.testing.assert_array_equal(image.values, expected)
        assert list(image.c.values) == ["a", "b", "c", "d", "e"]
        assert image.attrs["pixel_size"] == (0.5 * 2**level, 0.25 * 2**level)
        assert image.attrs["unit"] == "micrometer"
        np.testing.assert_allclose(image.y[:2], [0.25 * 2**level, 0.75 * 2**level])
    with pytest.raises(ParameterError, match="to 2"):
        di.open_image(tmp_path / "a.zarr", level=3, frame=0)
    np.testing.assert_array_equal(di.open_image(tmp_path / "a.zarr", frame=7).compute(), pixels[1, 2])


def test_ome_zarr_as_its_package_writes_it(tmp_path):
    from ome_zarr.writer import write_image

    pixels = np.moveaxis(RGB, -1, 0)
    write_image(
        pixels, zarr.open_group(tmp_path / "a.zarr", mode="w"), axes="cyx", storage_options={"chunks": (1, 64, 64)}
    )
    image = opened_lazily(tmp_path / "a.zarr")
    assert image.shape == RGB.shape  # up to four channels are those of one picture
    assert image.chunks[2] == (3,)
    np.testing.assert_array_equal(image.compute(), RGB)
    info = di.image_info(tmp_path / "a.zarr")
    assert info.dims == ("c", "y", "x")
    assert len(info.levels) > 1


def test_colors_that_were_saved_are_colors_again(tmp_path):
    labelled = xr.DataArray(dask.array.from_array(RGB, chunks=(64, 64, 3)), dims=("y", "x", "channel"))
    for name in ("a.ome.zarr", "a.zarr", "a.ome.tif"):
        di.save_image(labelled, tmp_path / name)
        image = opened_lazily(tmp_path / name, labelled=True)
        assert image.dims == ("y", "x", "channel")
        assert image.chunks[2] == (3,)
        np.testing.assert_array_equal(image.values, RGB)
        np.testing.assert_array_equal(opened_lazily(tmp_path / name).compute(), RGB)


def test_plates_and_series_are_scenes(tmp_path):
    root = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    root.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/3"}], "version": "0.4"}
    for number, well in enumerate(("A/1", "B/3")):
        group = root.require_group(well)
        group.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
        for field in range(2):
            write_ome(tmp_path / "plate.zarr" / well / str(field), [GREY + (10 * number + field)], "yx", "0.4")
    with pytest.raises(ImageFileError, match=r"4 scenes.*'A/1/0'"):
        di.open_image(tmp_path / "plate.zarr")
    found = opened_lazily(tmp_path / "plate.zarr", scene="B/3/1")
    np.testing.assert_array_equal(found.compute(), GREY + 11)
    with pytest.raises(ImageFileError, match="Did you mean 'B/3/1'"):
        di.open_image(tmp_path / "plate.zarr", scene="B/3/7")
    assert di.describe(tmp_path / "plate.zarr").scenes == ("A/1/0", "A/1/1", "B/3/0", "B/3/1")

    series = zarr.open_group(tmp_path / "raw.zarr", mode="w", zarr_format=2)
    series.attrs["bioformats2raw.layout"] = 3
    for number in range(2):
        write_ome(tmp_path / "raw.zarr" / str(number), [GREY + number], "yx", "0.4")
    np.testing.assert_array_equal(di.open_image(tmp_path / "raw.zarr", scene=1).compute(), GREY + 1)


def test_zarr_in_zip_files_and_at_urls(tmp_path):
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        array = zarr.create_array(store, shape=GREY.shape, dtype=GREY.dtype, chunks=(64, 64))
        array[...] = GREY
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a.zarr.zip"), "/sources/a.zarr.zip")
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    memory.put(str(tmp_path / "a.zarr"), "/sources/a.zarr", recursive=True)
    memory.put(str(tmp_path / "a.zarr"), "/sources/noname", recursive=True)
    np.save(tmp_path / "a.npy", GREY)
    memory.put(str(tmp_path / "a.npy"), "/sources/a.npy")
    for url in (
        tmp_path / "a.zarr.zip",
        *(f"memory://sources/{n}" for n in ("a.zarr.zip", "a.zarr", "noname", "a.npy")),
    ):
        np.testing.assert_array_equal(opened_lazily(url, chunks=100).compute(), GREY)
    with pytest.raises(ImageFileError, match="no such file"):
        di.open_image("memory://sources/none.zarr")
    memory.put(str(tmp_path / "a.npy"), "/sources/b.npy")
    image = di.open_image("memory://sources/b.npy", chunks=100)
    memory.pipe_file("/sources/b.npy", b"something else")
    with pytest.raises(ImageFileError, match="changed since it was opened"):
        image.compute()


def test_zarr_from_a_server_of_files(tmp_path):
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    write_zarr(tmp_path / "noname", GREY, (64, 64))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name in ("a.zarr", "noname/"):
            image = opened_lazily(f"http://127.0.0.1:{server.server_port}/{name}", chunks=100)
            assert not any("/c/" in path for path in asked)  # a chunk
            np.testing.assert_array_equal(image.compute(), GREY)
            asked.clear()
    finally:
        server.shutdown()
        server.server_close()


def test_what_changed_is_noticed(tmp_path):
    for kind in ("zarr", "npy"):
        path = tmp_path / f"a.{kind}"
        write_zarr(path, GREY, (64, 64)) if kind == "zarr" else np.save(path, GREY)
        image = di.open_image(path)
        image[:10].compute()  # now it is open in this process
        if kind == "zarr":
            write_zarr(path, GREY[:100], (64, 64), overwrite=True)
        else:
            np.save(path, GREY[:100])
        with pytest.raises(ImageFileError, match="changed since it was opened"):
            image.compute()


def test_damaged_sources_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:5000])
    with pytest.raises(ImageFileError, match="truncated"):
        di.open_image(tmp_path / "a.npy")
    (tmp_path / "objects.npy").write_bytes(
        b"\x93NUMPY\1\0\x76\0{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}"
    )
    with pytest.raises(ImageFileError):
        di.open_image(tmp_path / "objects.npy")
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    for wrong in (b"no Zstandard", numcodecs.Zstd().encode(b"too little")):
        (tmp_path / "a.zarr" / "c" / "0" / "1").write_bytes(wrong)
        with pytest.raises(ImageFileError, match="cannot be read"):
            di.open_image(tmp_path / "a.zarr").compute()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ImageFileError):
        di.open_image(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(ImageFileError, match="without an image"):
        di.open_image(tmp_path / "empty.zarr")


def test_the_limit_is_on_what_is_decoded_at_once(tmp_path):
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    assert di.open_image(tmp_path / "a.zarr", max_pixels=5000).shape == GREY.shape
    with pytest.raises(ImageTooLargeError, match="4,096 pixels at once"):
        di.open_image(tmp_path / "a.zarr", max_pixels=4000)
    with pytest.raises(ImageTooLargeError, match="max_pixels="):
        di.read_image(tmp_path / "a.zarr", max_pixels=5000)
    zarr.create_array(tmp_path / "huge.zarr", shape=(10**6, 10**6), chunks=(512, 512), dtype="uint8")
    assert opened_lazily(tmp_path / "huge.zarr")[-3:, -3:].compute().tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, order):
    stack = np.asarray(np.random.default_rng(0).normal(size=(4, 60, 70, 3)), ">f4", order=order)
    np.save(tmp_path / "a.npy", stack)
    fsspec.filesystem("memory").put(str(tmp_path / "a.npy"), "/sources/stack.npy")
    for url in (tmp_path / "a.npy", "memory://sources/stack.npy"):
        image = opened_lazily(url, labelled=True, chunks={"y": 13, "x": 29})
        assert image.dims == ("frame", "y", "x", "channel")
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image.values, stack)
        with pytest.raises(ImageFileError, match=r"4 frames.*labelled=True"):
            di.open_image(url)
        np.testing.assert_array_equal(di.open_image(url, frame=2).compute(), stack[2])


def test_stacks(tmp_path):
    frames = [np.roll(RGB, at, 0) for at in range(12)]
    for at, frame in enumerate(frames):
        di.save_image(frame, tmp_path / f"shot {at}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    names = [tmp_path / f"shot {at}.png" for at in range(12)]
    for url in (tmp_path, str(tmp_path / "shot*.png"), names):
        image = opened_lazily(url, labelled=True)
        assert image.dims == ("frame", "y", "x", "channel")
        assert image.data.numblocks[0] == 12
        np.testing.assert_array_equal(image.values, frames)  # in the order of their numbers
        with pytest.raises(ImageFileError, match=r"12 frames.*labelled=True"):
            di.open_image(url)
        np.testing.assert_array_equal(opened_lazily(url, frame=7).compute(), frames[7])
    whole = opened_lazily(tmp_path, labelled=True, chunks=(5, 64, 64, 3))
    np.testing.assert_array_equal(whole.values, frames)
    expected = np.stack([di.gaussian_blur(frame, ksize=5) for frame in frames])
    np.testing.assert_array_equal(di.gaussian_blur(whole, ksize=5).values, expected)
    # Each task carries the names of its own frames only.
    tasks = dict(image.data.__dask_graph__())
    assert all(b"shot 3.png" not in pickle.dumps(task) for key, task in tasks.items() if key[1] != 3)
    di.save_image(RGB[:50], names[5])
    with pytest.raises(ImageFileError, match=r"shot 5.png' changed"):
        image.compute()
    with pytest.raises(ImageFileError, match="differs from the first"):
        di.open_image(names, labelled=True).compute()
    with pytest.raises(ImageFileError, match="no file has"):
        di.open_image(tmp_path / "*.jpg")


def test_a_name_with_a_star_is_no_pattern(tmp_path):
    di.save_image(RGB, tmp_path / "a*.png")
    di.save_image(RGB, tmp_path / "ab.png")
    assert di.open_image(tmp_path / "a*.png").shape == RGB.shape


def test_tiff_in_srgb_by_tile(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = (
        icc.replace(b"rXYZ", b"0XYZ").replace(b"gXYZ", b"rXYZ").replace(b"0XYZ", b"gXYZ")
    )  # red is green and green red
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), iccprofile=icc)
    np.testing.assert_array_equal(opened_lazily(tmp_path / "a.tif", chunks=70).compute(), to_srgb(RGB, icc))
    np.testing.assert_array_equal(di.open_image(tmp_path / "a.tif", color_profile="keep").compute(), RGB)


def test_places_on_the_map_at_each_level(tmp_path):
    import rasterio

    place = rasterio.transform.from_origin(500_000, 5_400_000, 10, 20)
    about = {"count": 1, "dtype": "uint16", "crs": "EPSG:32632", "transform": place, "nodata": 7, "tiled": True}
    size = {"height": 300, "width": 436, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **about, **size) as file:
        file.write(GREY[:300, :436], 1)
        file.build_overviews([2])
    for level in range(2):
        image = opened_lazily(tmp_path / "a.tif", labelled=True, level=level)
        assert image.shape == (300 >> level, 436 >> level)
        assert (image.attrs["nodata"], image.attrs["crs"]) == (7, "EPSG:32632")
        assert image.attrs["pixel_size"] == (20 << level, 10 << level)
        with rasterio.open(tmp_path / "a.tif", **({"overview_level": 0} if level else {})) as file:
            assert image.attrs["transform"] == tuple(file.transform)[:6]
            x, y = file.transform * (np.array([0.5, 1.5]), np.array([0.5, 1.5]))
            np.testing.assert_array_equal(image.values, file.read(1))
        np.testing.assert_allclose(image.x[:2], x)
        np.testing.assert_allclose(image.y[:2], y)


def test_photos_with_names_and_levels(tmp_path):
    di.save_image(RGB, tmp_path / "a.png")
    image = opened_lazily(tmp_path / "a.png", labelled=True, chunks=64)
    assert image.dims == ("y", "x", "channel")
    np.testing.assert_array_equal(image.values, RGB)
    with pytest.raises(ParameterError, match="one level"):
        di.open_image(tmp_path / "a.png", level=1)
    with pytest.raises(ImageFileError, match="one image"):
        di.open_image(tmp_path / "a.png", scene="x")


def test_on_a_cluster(tmp_path, client):
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    image = di.gaussian_blur(di.open_image(tmp_path / "a.zarr", chunks=128), ksize=5)
    np.testing.assert_array_equal(client.compute(image).result(timeout=60), di.gaussian_blur(GREY, ksize=5))
    for at in range(3):
        np.save(tmp_path / f"{at}.npy", GREY + at)
    stack = di.open_image(tmp_path / "*.npy", labelled=True)
    np.testing.assert_array_equal(client.compute(stack.data).result(timeout=60), [GREY, GREY + 1, GREY + 2])


# ---- microscopes


def write_czi(path, tiles, **about):
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as file:
        for pixels, location, plane, scene in tiles:
            file.write(np.ascontiguousarray(pixels), location=location, plane=plane, scene=scene)
        file.write_metadata("test", **about)


def test_czi(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (2, 3, 120, 170), np.uint16)
    planes = [(pixels[t, c][..., None], (0, 0), {"T": t, "C": c, "Z": 0}, 0) for t in range(2) for c in range(3)]
    names = {0: "DAPI", 1: "GFP", 2: "Cy5"}
    write_czi(tmp_path / "a.czi", planes, channel_names=names, scale_x=0.25e-6, scale_y=0.5e-6)
    image = opened_lazily(tmp_path / "a.czi", labelled=True, chunks=64)
    assert image.dims == ("t", "c", "y", "x")
    assert list(image.c.values) == ["DAPI", "GFP", "Cy5"]
    assert image.attrs["pixel_size"] == pytest.approx((0.5, 0.25))
    np.testing.assert_array_equal(image.values, pixels)
    np.testing.assert_array_equal(di.open_image(tmp_path / "a.czi", frame=4).compute(), pixels[1, 1])


def test_czi_mosaics_and_scenes(tmp_path):
    tiles = [
        (np.roll(RGB, scene, 1)[:, part][..., ::-1], (500 * scene + part.start, 40), {"C": 0}, scene)
        for scene in range(2)
        for part in (slice(0, 90), slice(90, 170))
    ]
    write_czi(tmp_path / "a.czi", tiles)
    with pytest.raises(ImageFileError, match="2 scenes"):
        di.open_image(tmp_path / "a.czi")
    for scene in range(2):
        image = opened_lazily(tmp_path / "a.czi", scene=scene, chunks=64)
        np.testing.assert_array_equal(image.compute(), np.roll(RGB, scene, 1))
    (tmp_path / "a.czi").write_bytes((tmp_path / "a.czi").read_bytes()[:600])
    with pytest.raises(ImageFileError):
        di.open_image(tmp_path / "a.czi", scene=0)


def lif_bytes(pictures):
    """A LIF file, as Leica's description of the format and liffile have it."""
    elements, blocks = "", b""
    for number, (name, pixels) in enumerate(pictures):
        ids = {2: (2, 1), 3: (3, 2, 1), 4: (4, 3, 2, 1)}[pixels.ndim]
        dimensions = "".join(
            f'<DimensionDescription DimID="{one}" NumberOfElements="{length}" Origin="0" Unit="m" BitInc="0" '
            f'Length="{(length - 1) * 1e-6}" BytesInc="{step}"/>'
            for one, length, step in zip(ids, pixels.shape, pixels.strides, strict=True)
        )
        elements += (
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription><Channels><ChannelDescription '
            f'DataType="0" ChannelTag="0" Resolution="{pixels.itemsize * 8}" NameOfMeasuredQuantity="" Min="0" Max="1" '
            'Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="0" BitInc="0"/></Channels><Dimensions>'
            f"{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{pixels.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
        key = f"MemBlock_{number}"
        blocks += struct.pack("<IIBQBI", 0x70, 14 + 2 * len(key), 0x2A, pixels.nbytes, 0x2A, len(key))
        blocks += key.encode("utf-16-le") + pixels.tobytes()
    header = (
        '<LMSDataContainerHeader Version="2"><Element Name="all" UniqueID="x"><Children>'
        f"{elements}</Children></Element></LMSDataContainerHeader>"
    )
    return struct.pack("<IIBI", 0x70, 5 + 2 * len(header), 0x2A, len(header)) + header.encode("utf-16-le") + blocks


def test_lif(tmp_path):
    stack = np.random.default_rng(0).integers(0, 60000, (4, 50, 60), np.uint16)
    (tmp_path / "a.lif").write_bytes(lif_bytes([("flat", GREY), ("deep", stack)]))
    with pytest.raises(ImageFileError, match="scene='flat'"):
        di.open_image(tmp_path / "a.lif")
    np.testing.assert_array_equal(opened_lazily(tmp_path / "a.lif", scene="flat", chunks=100).compute(), GREY)
    image = opened_lazily(tmp_path / "a.lif", scene="deep", labelled=True)
    assert image.dims == ("z", "y", "x")
    assert image.attrs["pixel_size"] == pytest.approx((1.0, 1.0))
    np.testing.assert_array_equal(image.values, stack)


def nd2_bytes(frames, along="t"):
    """An ND2 file of version 2.1, the older form with metadata as XML, with frames of (rows, columns, channels)."""
    rows, columns, channels = frames[0].shape
    numbers = {
        "uiWidth": columns, "uiWidthBytes": columns * channels * 2, "uiHeight": rows, "uiComp": channels,
        "uiBpcInMemory": 16, "uiBpcSignificant": 16, "uiSequenceCount": len(frames), "uiTileWidth": columns,
        "uiTileHeight": rows, "eCompression": 2, "dCompressionParam": 0,
        "uiVirtualComponents": channels,
    }  # fmt: skip

    def xml(values):
        return "".join(
            f'<{key} runtype="lx_uint32" value="{value}"/>'
            if isinstance(value, int)
            else f'<{key} runtype="double" value="{value}"/>'
            if isinstance(value, float)
            else f'<{key} runtype="CLxStringW" value="{value}"/>'
            if isinstance(value, str)
            else f'<{key} runtype="CLxListVariant">{xml(value)}</{key}>'
            for key, value in values.items()
        )

    planes = {
        f"a{at}": {
            "sDescription": f"C{at}",
            "uiCompCount": 1,
            "pFluorescentProbe": {"sName": "dye"},
            "uiColor": 0xFF,
            "uiSampleIndex": 0,
        }
        for at in range(channels)
    }
    picture = {
        "sPicturePlanes": {"uiCount": channels, "uiCompCount": channels, "sPlane": planes},
        "bCalibrated": 1,
        "dCalibration": 0.65,
    }
    times = {"uiCount": len(frames), "dStart": 0.0, "dPeriod": 1.0, "dDuration": 3.0}
    points = {"Points": {f"i{at}": {"dPosX": float(at), "dPosY": 0.0} for at in range(len(frames))}}
    loop = {"eType": 1, "uLoopPars": times} if along == "t" else {"eType": 2, "uLoopPars": points}
    chunks = {
        "ImageAttributes!": f"<variant><no_name>{xml(numbers)}</no_name></variant>".encode(),
        "ImageMetadataSeq|0!": f"<variant><no_name>{xml(picture)}</no_name></variant>".encode(),
        "ImageMetadata!": f"<variant><no_name>{xml(loop)}</no_name></variant>".encode(),
    } | {f"ImageDataSeq|{at}!": bytes(8) + frame.tobytes() for at, frame in enumerate(frames)}
    magic, places = 0x0ABECEDA, {}
    file = bytearray(struct.pack("<IIQ32s64s", magic, 32, 64, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1"))

    def append(name, data, reserved):
        file.extend(bytes(-len(file) % 4096))
        at = len(file)
        file.extend(struct.pack("<IIQ", magic, reserved, len(data)) + name.encode().ljust(reserved, b"\0") + data)
        return at

    for name, data in chunks.items():
        places[name] = append(name, data, 4096 - 24), len(data)
    table = b"".join(name.encode() + struct.pack("<QQ", *place) for name, place in places.items())
    end = append("ND2 FILEMAP SIGNATURE NAME 0001!", table + b"ND2 CHUNK MAP SIGNATURE 0000001!" + bytes(8), 4096 - 24)
    return bytes(file) + b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", end)


def test_nd2(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (3, 40, 50, 2), np.uint16)
    (tmp_path / "a.nd2").write_bytes(nd2_bytes(list(pixels)))
    image = opened_lazily(tmp_path / "a.nd2", labelled=True, chunks=30)
    assert image.dims == ("t", "c", "y", "x")
    assert image.attrs["pixel_size"] == (0.65, 0.65)
    assert list(image.c.values) == ["C0", "C1"]
    np.testing.assert_array_equal(image.values, np.moveaxis(pixels, -1, 1))
    (tmp_path / "places.nd2").write_bytes(nd2_bytes(list(pixels), along="positions"))
    with pytest.raises(ImageFileError, match="3 scenes"):
        di.open_image(tmp_path / "places.nd2")
    for scene in range(3):
        image = opened_lazily(tmp_path / "places.nd2", scene=scene)  # two channels are those of one picture
        np.testing.assert_array_equal(image.compute(), pixels[scene])


def test_microscopes_ask_for_their_extra(tmp_path, monkeypatch):
    import importlib.util

    (tmp_path / "a.lif").write_bytes(lif_bytes([("flat", GREY)]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'daskimg\[microscopes\]'"):
        di.open_image(tmp_path / "a.lif")


# ---- describe


def test_describe_a_pyramid(tmp_path):
    levels = [RGB[..., 0], RGB[::2, ::2, 0]]
    write_ome(tmp_path / "a.zarr", levels, "yx", "0.5")
    with dask.config.set(scheduler=raising):
        found = di.describe(tmp_path / "a.zarr")
    assert (found.shape, found.dims, found.levels) == ((150, 170), ("y", "x"), ((150, 170), (75, 85)))
    for text in ("OME-Zarr", "150", "0.5 × 0.25 micrometer", "uint8", "tiles of 32 × 32", "1: 75 × 85"):
        assert text in str(found)
    assert found.nbytes == 150 * 170
    assert "data:image/png;base64," in found._repr_html_()


def test_describe_shows_the_picture_itself(tmp_path):
    import cv2

    ramp = np.broadcast_to(np.linspace(0, 65535, 1200).astype(np.uint16), (800, 1200)).copy()
    write_zarr(tmp_path / "a.zarr", ramp, (100, 100))
    thumbnail = cv2.imdecode(np.frombuffer(di.describe(tmp_path / "a.zarr").thumbnail, np.uint8), -1)
    assert thumbnail.shape == (200, 300)
    assert (np.diff(thumbnail[100].astype(int)) >= 0).all()
    assert thumbnail.min() <= 3
    assert thumbnail.max() >= 252


@pytest.mark.parametrize("kind", ["zarr", "npy"])
def test_thumbnails_of_huge_images_read_little(tmp_path, monkeypatch, kind):
    if kind == "zarr":
        zarr.create_array(tmp_path / "a.zarr", shape=(100_000, 80_000), chunks=(512, 512), dtype="uint8")
    else:
        np.lib.format.open_memmap(tmp_path / "a.npy", "w+", "uint8", (20_000, 15_000)).flush()
    found = di.describe(tmp_path / f"a.{kind}")
    read = []
    owner = type(open_source(tmp_path / f"a.{kind}").image)
    inner = owner.read
    monkeypatch.setattr(owner, "read", lambda *args: read.append(inner(*args).nbytes) or inner(*args))
    assert found.thumbnail
    assert 0 < sum(read) <= 64 << 20


def test_describe_arrays(tmp_path):
    di.save_image(RGB, tmp_path / "a.png")
    photo = di.describe(tmp_path / "a.png")
    assert (photo.format, photo.tile, photo.numblocks) == ("PNG", RGB.shape, (1, 1, 1))
    assert photo.thumbnail
    lazy = di.gaussian_blur(di.open_image(tmp_path / "a.png"), ksize=5)
    assert di.describe(lazy).thumbnail
    assert di.describe(RGB).thumbnail
    big = dask.array.zeros((50_000, 50_000), chunks=5000, dtype="uint8")
    with dask.config.set(scheduler=raising):
        found = di.describe(xr.DataArray(big, dims=("y", "x"), attrs={"pixel_size": (2.0, 2.0), "unit": "m"}))
        assert found.thumbnail is None
        assert "<img" not in found._repr_html_()
    assert "100 of 5,000 × 5,000" in str(found)
    assert "2 × 2 m" in str(found)
    with pytest.raises(ArrayError):
        di.describe(np.zeros(3))
    with pytest.raises(ArrayError):
        di.describe(7)


def test_describe_on_the_command_line(tmp_path, run_daskimg):
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    done = run_daskimg("describe", tmp_path / "a.zarr")
    assert done.returncode == 0
    assert "y 301, x 437" in done.stdout
    done = run_daskimg("describe", tmp_path / "none.tif", tmp_path / "a.zarr")
    assert done.returncode == 1
    assert "y 301, x 437" in done.stdout
    assert "no such file" in done.stderr


def test_image_info_of_what_is_not_photos(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64))
    info = di.image_info(tmp_path / "a.tif")
    assert (info.format, info.levels, info.dims) == ("tiff", (RGB.shape,), ("y", "x", "channel"))
    np.save(tmp_path / "a.npy", GREY)
    assert di.image_info(tmp_path / "a.npy").shape == GREY.shape


def test_stored_images_travel_light_and_have_a_token(tmp_path):
    write_zarr(tmp_path / "a.zarr", GREY, (64, 64))
    source = open_source(tmp_path / "a.zarr").image
    assert isinstance(source, StoredImage)
    assert len(pickle.dumps(source)) < 3000
    assert pickle.loads(pickle.dumps(source)) == source
    assert di.open_image(tmp_path / "a.zarr").name == di.open_image(tmp_path / "a.zarr").name
