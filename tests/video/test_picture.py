"""Pictures of every kind come in upright, unstretched and bounded; what is no picture is refused in one sentence."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from omni_gen3d.errors import InputError
from omni_gen3d.video.picture import Picture, centre_crop_box, load_picture

WIDTH, HEIGHT = 80, 44


def ramp(width: int, height: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is constant."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, np.full_like(x, 64)], -1).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, exif: dict[int, object] | None = None, orientation: int | None = None) -> Path:
    """Write a JPEG of quality 95 with the given camera EXIF and orientation."""
    image = Image.fromarray(pixels)
    block = Image.Exif()
    if orientation is not None:
        block[ExifTags.Base.Orientation] = orientation
    block.get_ifd(ExifTags.IFD.Exif).update(exif or {})
    image.save(path, quality=95, subsampling=0, exif=block)
    return path


def as_bytes(picture: Picture) -> np.ndarray:
    return (picture.rgb.permute(1, 2, 0).numpy() * 255).round()


def test_result_has_the_models_size_type_range_and_digest(tmp_path: Path) -> None:
    """Any picture becomes float32 (3, H, W) in [0, 1], and the digest is the file's."""
    path = save(tmp_path / "a.jpg", ramp(301, 207))
    picture = load_picture(path, WIDTH, HEIGHT)
    assert picture.rgb.shape == (3, HEIGHT, WIDTH) and picture.rgb.dtype == torch.float32
    assert 0 <= float(picture.rgb.min()) and float(picture.rgb.max()) <= 1
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (picture.fov_x_rad, picture.fov_source, picture.notes) == (None, None, ())


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (320, 176), (97, 53)])
def test_crop_is_centred_and_nothing_is_stretched(tmp_path: Path, size: tuple[int, int]) -> None:
    """Every output pixel shows the ramp's value at the place that an unstretched centre crop takes it from."""
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp(*size)).save(path)
    scale = min(size[0] / WIDTH, size[1] / HEIGHT)
    x = (size[0] - scale * WIDTH) / 2 + scale * (np.arange(WIDTH) + 0.5)
    y = (size[1] - scale * HEIGHT) / 2 + scale * (np.arange(HEIGHT) + 0.5)
    pixels = as_bytes(load_picture(path, WIDTH, HEIGHT))[4:-4, 4:-4]
    red = (x - 0.5) / (size[0] - 1) * 255
    green = (y - 0.5) / (size[1] - 1) * 255
    expected = np.stack(np.meshgrid(red, green), -1)[4:-4, 4:-4]
    np.testing.assert_allclose(pixels[..., :2], expected, atol=3)
    left, top, right, bottom = centre_crop_box(*size, WIDTH, HEIGHT)
    assert math.isclose((right - left) / (bottom - top), WIDTH / HEIGHT)


def test_fine_stripes_average_out_instead_of_aliasing(tmp_path: Path) -> None:
    """One-pixel black and white stripes become even grey when shrunk."""
    stripes = np.zeros((440, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    pixels = as_bytes(load_picture(tmp_path / "stripes.png", WIDTH, HEIGHT))[:, 2:-2]
    assert np.abs(pixels - 127.5).max() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_exif_orientations_give_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    """A picture stored turned or mirrored, with the tag that says so, loads like the upright one."""
    upright = ramp(160, 96)
    store = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    path = save(tmp_path / "turned.jpg", np.ascontiguousarray(store[orientation]), orientation=orientation)
    expected = as_bytes(load_picture(save(tmp_path / "upright.jpg", upright), WIDTH, HEIGHT))
    np.testing.assert_allclose(as_bytes(load_picture(path, WIDTH, HEIGHT)), expected, atol=3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "I;16", "YCbCr"])
def test_every_mode_becomes_the_same_grey(tmp_path: Path, mode: str) -> None:
    """Mid grey stays mid grey from every pixel format (black and white: white stays white)."""
    if mode == "I;16":
        image = Image.fromarray(np.full((64, 96), 128 * 257, np.uint16))
    else:
        image = Image.new("L", (96, 64), 255 if mode == "1" else 128).convert(mode)
    path = tmp_path / ("grey.jpg" if mode in ("CMYK", "YCbCr") else "grey.png")
    image.save(path)
    np.testing.assert_allclose(as_bytes(load_picture(path, WIDTH, HEIGHT)), 255 if mode == "1" else 128, atol=2)


def test_float_pixels_of_zero_to_one_are_taken_and_others_refused(tmp_path: Path) -> None:
    """A float TIFF in [0, 1] is grey; one with metres in it is not a picture to show."""
    for name, value in (("unit", 0.5), ("metres", 7.5)):
        Image.fromarray(np.full((64, 96), value, np.float32)).save(tmp_path / f"{name}.tiff")
    np.testing.assert_allclose(as_bytes(load_picture(tmp_path / "unit.tiff", WIDTH, HEIGHT)), 128, atol=1)
    with pytest.raises(InputError, match=r"7\.5.*allowed are 0 to 1"):
        load_picture(tmp_path / "metres.tiff", WIDTH, HEIGHT)


def test_translucent_pixels_lie_over_white(tmp_path: Path) -> None:
    """Invisible black shows white; half-visible red shows pink; a transparent palette entry shows white."""
    rgba = np.zeros((44, 80, 4), np.uint8)
    rgba[:, 40:] = (255, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    pixels = as_bytes(load_picture(tmp_path / "alpha.png", WIDTH, HEIGHT))
    np.testing.assert_allclose(pixels[:, :36], 255, atol=1)
    np.testing.assert_allclose(pixels[:, 44:], np.broadcast_to([255, 127, 127], (44, 36, 3)), atol=1)
    Image.new("P", (80, 44), 0).save(tmp_path / "palette.png", transparency=0)
    assert as_bytes(load_picture(tmp_path / "palette.png", WIDTH, HEIGHT)).min() == 255


def test_animation_gives_its_first_frame_and_says_so(tmp_path: Path) -> None:
    """A GIF of a white and a black frame is white, with a note."""
    white, black = Image.new("L", (96, 64), 255), Image.new("L", (96, 64), 0)
    white.save(tmp_path / "two.gif", save_all=True, append_images=[black])
    picture = load_picture(tmp_path / "two.gif", WIDTH, HEIGHT)
    assert as_bytes(picture).min() == 255
    assert any("2 frames" in note for note in picture.notes)


def test_small_picture_is_enlarged_and_says_so(tmp_path: Path) -> None:
    """Thirty-two pixels are enough to go on, but the user hears of it."""
    Image.new("RGB", (40, 32)).save(tmp_path / "small.png")
    assert any("enlarged" in note for note in load_picture(tmp_path / "small.png", WIDTH, HEIGHT).notes)


@pytest.mark.parametrize(("size", "kept"), [((400, 100), 80 * (100 / 44) / 400), ((100, 400), 1.0)])
def test_given_field_of_view_shrinks_with_the_crop(tmp_path: Path, size: tuple[int, int], kept: float) -> None:
    """Cropping the sides shrinks tan(fov / 2) with the width; cropping top and bottom changes nothing."""
    path = save(tmp_path / "a.jpg", ramp(*size), exif={ExifTags.Base.FocalLengthIn35mmFilm: 20})
    picture = load_picture(path, WIDTH, HEIGHT, fov_deg=70.0)
    assert picture.fov_source == "given"
    assert picture.fov_x_rad == pytest.approx(2 * math.atan(math.tan(math.radians(35)) * kept))


@pytest.mark.parametrize("orientation", [1, 6])
def test_film_equivalent_focal_length_is_by_the_diagonal(tmp_path: Path, orientation: int) -> None:
    """28 mm on a 4:3 picture is 75.4 degrees across the diagonal, however the camera was held."""
    path = save(tmp_path / "a.jpg", ramp(400, 300), {ExifTags.Base.FocalLengthIn35mmFilm: 28}, orientation)
    seen_width = 400 if orientation == 1 else 300
    model = (seen_width, 700 - seen_width)  # the picture's own aspect: nothing is cropped
    picture = load_picture(path, *model)
    half_diagonal = math.tan(math.radians(75.38) / 2)
    assert picture.fov_source == "exif"
    assert picture.fov_x_rad == pytest.approx(2 * math.atan(half_diagonal * seen_width / 500), abs=1e-3)


def test_focal_length_and_sensor_resolution_tell_the_field_of_view(tmp_path: Path) -> None:
    """5 mm before a sensor of 4000 pixels in 6 mm is 61.9 degrees, also when the file was shrunk to 400 pixels."""
    exif: dict[int, object] = {
        ExifTags.Base.FocalLength: 5.0,
        ExifTags.Base.FocalPlaneXResolution: 4000 / 0.6,
        ExifTags.Base.FocalPlaneResolutionUnit: 3,
        ExifTags.Base.ExifImageWidth: 4000,
        ExifTags.Base.FocalLengthIn35mmFilm: 0,
    }
    picture = load_picture(save(tmp_path / "a.jpg", ramp(400, 220), exif), 400, 220)
    assert picture.fov_x_rad == pytest.approx(2 * math.atan(6 / 10), rel=1e-4)


@pytest.mark.parametrize("exif", [{ExifTags.Base.FocalLengthIn35mmFilm: 1}, {ExifTags.Base.FocalLength: 5.0}])
def test_useless_exif_tells_no_field_of_view(tmp_path: Path, exif: dict[int, object]) -> None:
    """An implausible equivalent or a focal length without a sensor leaves the field of view open."""
    picture = load_picture(save(tmp_path / "a.jpg", ramp(400, 220), exif), WIDTH, HEIGHT)
    assert (picture.fov_x_rad, picture.fov_source) == (None, None)
    assert bool(picture.notes) == (ExifTags.Base.FocalLengthIn35mmFilm in exif)


@pytest.mark.parametrize("fov_deg", [5.0, 160.0, -40.0, 0.0, math.nan, math.inf])
def test_field_of_view_out_of_range_is_refused(tmp_path: Path, fov_deg: float) -> None:
    """The message names the value and the range, before the file is even opened."""
    with pytest.raises(InputError, match="between 5 and 160"):
        load_picture(tmp_path / "absent.png", WIDTH, HEIGHT, fov_deg)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one byte of pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not a picture"),
        (png_header(10_000, 10_000), r"10000x10000 = 100 megapixels; at most 64 megapixels"),
        (png_header(60_000, 60_000), "far too large; at most 64 megapixels"),
        (png_header(64, 31), "at least 32 pixels"),
        (png_header(64, 64), "truncated or damaged"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Every kind of bad file is one InputError of one line that names the file."""
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_picture(path, WIDTH, HEIGHT)
    assert "bad.png" in str(caught.value) and "\n" not in str(caught.value)


def test_hundred_megapixels_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header is enough: the decoder is never asked for pixels."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(10_000, 10_000))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="megapixels"):
        load_picture(path, WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "gif", "bmp"])
def test_truncation_at_any_length_is_an_input_error_or_a_picture(tmp_path: Path, suffix: str) -> None:
    """However many bytes are left, no other exception escapes, and half a file is never taken for a whole one."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"part.{suffix}"
    for length in np.linspace(1, len(content) // 2, 24).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            load_picture(path, WIDTH, HEIGHT)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    """The two commonest slips get their own words."""
    with pytest.raises(InputError, match="does not exist"):
        load_picture(tmp_path / "absent.png", WIDTH, HEIGHT)
    with pytest.raises(InputError, match="is a folder"):
        load_picture(tmp_path, WIDTH, HEIGHT)
    with pytest.raises(InputError, match="not a regular file"):
        load_picture("/dev/null", WIDTH, HEIGHT)
