"""Images are what a viewer shows, whatever a camera, a screenshot or a Mac put into the folder."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from nllab.data import load
from nllab.data.limits import MOST_IMAGE_INPUTS
from nllab.data.pictures import shown_as
from nllab.errors import DataError

SHAPE = (6, 7)


def png(image, form="PNG", **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, form, **options)
    return out.getvalue()


def folder_of(place, images, per_class=None, suffix=".png"):
    """Two classes, the images in turn."""
    for i, image in enumerate(images):
        at = place / ("cat", "dog")[i % 2]
        at.mkdir(parents=True, exist_ok=True)
        (at / f"{i:03}{suffix}").write_bytes(image if isinstance(image, bytes) else png(image))
    return place


def greys(count=12, shape=SHAPE, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def in_order(images):
    """As a folder lists them: class by class."""
    return np.stack([*images[::2], *images[1::2]])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16", "I"])
def test_one_grey_picture_in_any_mode_is_the_same_picture(mode):
    grey = greys(1)[0]
    image = Image.fromarray(grey)
    if mode in ("I;16", "I"):
        image = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.int32) * 257)
    elif mode != "P":
        image = image.convert(mode)
    else:
        image = image.convert("P")
    found, white = shown_as(png(image, "TIFF" if mode == "I" else "PNG"), SHAPE, False)
    assert white == {"I;16": 65535, "I": 0}.get(mode, 1)  # 0: 32 bits do not say which of their numbers is white
    assert np.allclose(found[..., 0] / (white or 65535), grey / 255, atol=1 / 255)


def test_sixteen_bits_keep_their_depth():
    faint = (30_000 + np.arange(42).reshape(SHAPE)).astype(np.uint16)
    found, _ = shown_as(png(faint), SHAPE, False)
    assert len(np.unique(found)) == 42


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode):
    alpha = np.zeros(SHAPE, dtype=np.uint8)
    alpha[:3] = 255
    image = Image.fromarray(np.zeros(SHAPE, dtype=np.uint8)).convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    if mode == "P":
        flat = Image.new("P", SHAPE[::-1], 1)
        flat.putpalette([0, 0, 0, 0, 0, 0])
        flat.paste(0, (0, 0, SHAPE[1], 3))
        data = png(flat, transparency=1)
    else:
        data = png(image.convert(mode))
    found, _ = shown_as(data, SHAPE, False)
    assert (found[:3] == 0).all() and (found[3:] == 1).all()


def test_a_photograph_lies_as_its_exif_data_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter, clockwise
    upright = [
        np.kron(np.random.default_rng(i).integers(0, 2, (2, 3)), np.full((8, 8), 255)).astype(np.uint8)
        for i in range(8)
    ]
    lying = [png(np.rot90(image).copy(), "JPEG", exif=exif, quality=100) for image in upright]
    loaded = load([folder_of(tmp_path / "a", lying, suffix=".jpg"), folder_of(tmp_path / "b", upright)])
    assert loaded.image_shape == (16, 24)
    assert np.allclose(loaded.inputs[0], loaded.inputs[1], atol=0.05)
    assert any("8 images" in note.what and "EXIF" in note.why for note in loaded.report.converted)


def test_what_programs_leave_in_folders_is_skipped_and_told(tmp_path):
    images = greys()
    place = folder_of(tmp_path / "a", images)
    (place / ".ipynb_checkpoints").mkdir()
    (place / ".ipynb_checkpoints" / "000-checkpoint.png").write_bytes(png(images[0]))
    (place / "cat" / "._000.png").write_bytes(b"\0\5\x16\7 no image")
    (place / "cat" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (place / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (place / "cat" / "notes.txt").write_text("on a Friday")
    (place / "__MACOSX").mkdir()
    loaded = load([place, place])
    assert loaded.classes == ("cat", "dog") and np.allclose(loaded.inputs[0], in_order(images) / 255, atol=1e-6)
    told = "\n".join(map(str, loaded.report.left_out))
    assert "5 hidden files or folders" in told and "1 .txt" in told


def test_a_zip_of_folders_is_a_folder(tmp_path):
    images = greys()
    place = folder_of(tmp_path / "a", images)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(place.rglob("*.png")):
            archive.write(file, f"animals/{file.relative_to(place)}")
        archive.writestr("__MACOSX/animals/cat/._000.png", b"\0\5")
    loaded = load([place, tmp_path / "a.zip"])
    assert np.array_equal(loaded.inputs[0], loaded.inputs[1]) and loaded.report.shared == ("cat", "dog")


def test_sizes_become_one_and_large_images_smaller(tmp_path):
    small = greys(12, (20, 30))
    odd = [
        *small[:10],
        np.asarray(Image.fromarray(small[10]).resize((60, 40), 0)),
        np.asarray(Image.fromarray(small[11]).resize((60, 40), 0)),
    ]
    loaded = load([folder_of(tmp_path / "a", odd), folder_of(tmp_path / "b", small)])
    assert loaded.image_shape == (20, 30) and np.allclose(loaded.inputs[0], loaded.inputs[1], atol=1 / 255)
    assert any("2 images" in note.what and "to 20 x 30 pixels" in note.why for note in loaded.report.converted)
    large = load([folder_of(tmp_path / "c", greys(6, (512, 512)))] * 2)
    height, width = large.image_shape
    assert 54 <= height == width and height * width <= MOST_IMAGE_INPUTS
    assert any(
        "512 x 512" in note.why and f"{MOST_IMAGE_INPUTS:,} numbers" in note.why for note in large.report.converted
    )
    assert any("a step with the deep optimizer takes" in note for note in large.report.notes)


def coloured(kind, count=24):
    """Pictures whose classes differ in brightness or in colour alone, all of them with some colour."""
    draw = np.random.default_rng(0)
    for i in range(count):
        image = draw.integers(90, 130, (8, 8, 3)).astype(float)
        if kind == "colour":
            image += np.array([60, -30.6, 0]) if i % 2 else np.array([-60, 30.6, 0])  # of one brightness
        else:
            image += 60 * (i % 2) + draw.normal(size=3) * 4
        yield image.clip(0, 255).round().astype(np.uint8)


def test_colour_is_kept_where_it_tells_classes_apart_and_only_there(tmp_path):
    red = load([folder_of(tmp_path / "red", coloured("colour"))] * 2)
    assert red.image_shape == (8, 24) and "three colours side by side" in red.report.inputs
    first = np.asarray(Image.open(tmp_path / "red" / "cat" / "000.png")) / 255
    assert np.allclose(red.inputs[0][0], np.concatenate([first[..., c] for c in range(3)], axis=1), atol=1e-6)
    bright = load([folder_of(tmp_path / "bright", coloured("brightness"))] * 2)
    assert bright.image_shape == (8, 8) and any(note.what == "colours" for note in bright.report.converted)


def test_arrays_of_images_are_read_in_their_usual_shapes(tmp_path):
    grey = np.stack(greys())
    names = np.array(["cat", "dog"] * 6)

    def held(array, **more):
        np.savez(tmp_path / "t.npz", **({"inputs": array, "labels": names} | more))
        return load([tmp_path / "t.npz"] * 2)

    expected = held(grey).inputs[0]
    assert expected.shape == (12, *SHAPE) and np.allclose(expected, grey / 255)
    for array in (
        grey[..., None],
        np.repeat(grey[..., None], 3, 3),
        np.repeat(grey[:, None], 3, 1),
        (grey / 255.0)[..., None],
    ):
        assert np.allclose(held(array).inputs[0], expected, atol=1e-5)
    np.savez(tmp_path / "keras.npz", x_train=grey, y_train=names, x_test=grey, y_test=names)
    loaded = load([tmp_path / "keras.npz"] * 2)
    assert len(loaded.labels[0]) == 12 and any("x_test" in note.what for note in loaded.report.left_out)
    with pytest.raises(DataError, match=r"argmax\(1\) of one-hot"):
        held(grey, labels=np.eye(12))
    assert held(grey, labels=np.array([0.0, 1.0] * 6)).classes == ("0", "1")


def test_a_folder_of_idx_files_is_one_task(tmp_path):
    def idx(array):
        return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()

    images, labels = np.stack(greys()), np.array([3, 8] * 6, dtype=np.uint8)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    for path in (tmp_path, tmp_path / "train-images-idx3-ubyte"):
        loaded = load([path, path])
        assert loaded.classes == ("3", "8") and np.allclose(loaded.inputs[0], images / 255)
    with pytest.raises(DataError, match="put that of its labels beside it"):
        load([tmp_path / "train-labels-idx1-ubyte"] * 2)


def test_a_damaged_image_among_many_is_left_out_and_many_stop(tmp_path):
    images = [png(image) for image in greys(40)]
    images[4] = images[4][:60]
    loaded = load([folder_of(tmp_path / "a", images)] * 2)
    assert len(loaded.labels[0]) == 39 and "004.png" in loaded.report.left_out[0].what
    images[:8] = [b"no image"] * 8
    with pytest.raises(DataError, match="cannot be read as an image .* 8 images of 40"):
        load([folder_of(tmp_path / "a", images)] * 2)


def test_folders_that_hold_no_classes_say_what_to_name(tmp_path):
    for part in ("train", "test"):
        folder_of(tmp_path / "split" / part, greys())
    with pytest.raises(DataError, match="divided into 'test', 'train', which are no classes. .* 'split/test'"):
        load([tmp_path / "split"] * 2)
    (tmp_path / "flat").mkdir()
    for i, image in enumerate(greys(4)):
        (tmp_path / "flat" / f"{i}.png").write_bytes(png(image))
    (tmp_path / "flat" / "photo.heic").write_bytes(b"ftypheic")
    with pytest.raises(DataError, match="holds no images in folders. It holds 4 images beside the folders, 1 .heic"):
        load([tmp_path / "flat"] * 2)
    same = folder_of(tmp_path / "same", [np.full(SHAPE, 9, np.uint8)] * 12)
    with pytest.raises(DataError, match="all its images are the same"):
        load([same, same])


def test_tables_and_images_are_not_one_stream(tmp_path):
    np.savez(tmp_path / "t.npz", inputs=np.random.default_rng(0).normal(size=(12, 42)), labels=[0, 1] * 6)
    with pytest.raises(DataError, match="'t.npz' holds columns and 'a' holds images"):
        load([folder_of(tmp_path / "a", greys()), tmp_path / "t.npz"])
