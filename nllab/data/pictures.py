"""Folders and archives of images, seen as a viewer shows them, all of one size.

16-bit greys keep their depth; what is transparent lies on white; photographs are turned as their EXIF data asks;
hidden files are skipped. Images of A set the size: the most frequent one, made smaller where it is over the budget
(limits.py). Colour is kept where it tells classes apart; red, green and blue then stand side by side in one wide image.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data.files import SUFFIXES, Found, is_hidden, member_bytes, members_of, open_zip, read_file
from nllab.data.labels import identities
from nllab.data.limits import (
    MOST_DECODED_PIXELS,
    MOST_FILES,
    MOST_IMAGE_BYTES,
    MOST_IMAGE_INPUTS,
    MOST_PIXEL_VALUES,
    MOST_SIDE,
)
from nllab.data.report import Findings, counted, listed, shown
from nllab.errors import DataError

Size = tuple[int, int]  # height, width
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # those that need no other program
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
OTHER_IMAGES = {
    ".heic",
    ".heif",
    ".avif",
    ".svg",
    ".jp2",
    ".jxl",
    ".dcm",
    ".psd",
    ".npy",
    ".raw",
    ".cr2",
    ".nef",
    ".dng",
}
UNREADABLE = 0.05  # share of images that may be left out
GREY_MODES = ("L", "1", "LA")
ENOUGH, FEW_VALUES = 20, 5  # images, and images a value, from which how they were saved is looked at
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_TURNED = (5, 6, 7, 8)  # orientations of EXIF that swap height and width


@dataclass
class FilePictures:
    """Images of one path, decoded once their common size is known. sizes: of each, as it is shown."""

    task: str
    name: str
    read_as: str
    labels: NDArray[np.str_]
    names: list[str]
    readers: list[Callable[[], bytes]]
    sizes: list[Size]
    coloured: bool

    def decode(self, size: Size, findings: Findings) -> NDArray[np.float32]:
        """(N, H, W, 3) in 0..1, or (N, H, W) where none has a colour."""
        images = np.empty((len(self.names), *size, 3 if self.coloured else 1), dtype=np.float32)
        whites, broken = np.ones(len(self.names), dtype=np.float32), []
        for i, (name, reader) in enumerate(zip(self.names, self.readers, strict=True)):
            try:
                images[i], whites[i] = shown_as(reader(), size, self.coloured)
            except Exception as error:  # a damaged image makes its reader raise nearly anything
                broken.append((i, name, error))
        _leave_out_broken(broken, len(self.names), self.task, findings)
        if broken:
            kept = np.setdiff1d(np.arange(len(self.names)), [i for i, *_ in broken])
            images, whites, self.labels = images[kept], whites[kept], self.labels[kept]
        if unknown := np.flatnonzero(whites == 0).tolist():
            largest = max(float(images[i].max()) for i in unknown)
            whites[unknown] = white = next((top for top in (1.0, 255.0, 65535.0) if largest <= top), largest)
            findings.notes.append(
                f"{self.task}: {counted(len(unknown), 'image')} of 32 bits reach {largest:.4g}; {white:.4g} was taken"
                " for white."
            )
        if deep := int((whites > 1).sum()):
            findings.convert(self.task, counted(deep, "image"), "16 bits and more a pixel, from 0 to 1")
        for i in np.flatnonzero(whites != 1):
            images[i] /= whites[i]
        return images


@dataclass
class ArrayPictures:
    """Images of one path that are one array, (N, H, W) or (N, H, W, 1 | 3 | 4)."""

    task: str
    name: str
    read_as: str
    labels: NDArray[np.str_]
    array: NDArray[Any]

    @property
    def sizes(self) -> list[Size]:
        return [(self.array.shape[1], self.array.shape[2])] * len(self.array)

    @property
    def coloured(self) -> bool:
        return self.array.ndim == 4 and self.array.shape[3] > 1

    def decode(self, size: Size, findings: Findings) -> NDArray[np.float32]:
        array = self.array if self.array.ndim == 4 else self.array[..., None]
        scale = np.iinfo(array.dtype).max if array.dtype in (np.uint8, np.uint16) else 1
        if size == array.shape[1:3]:
            found = array.astype(np.float32)
        else:
            found = np.stack([_resized(image, size) for image in array])
        found = found / np.float32(scale)
        if found.shape[3] != 4:
            return found
        findings.convert(self.task, counted(len(found), "image"), "what is transparent lies on white")
        return _on_white(found)


Pictures = FilePictures | ArrayPictures


def read_folder(path: Path, task: str, findings: Findings) -> FilePictures:
    """One folder for each class, named after it. Raises DataError."""
    files, others, hidden = [], Counter(), 0
    for at, folders, names in os.walk(path):
        place = Path(at)
        hidden += sum(map(is_hidden, [*folders, *names]))
        folders[:] = sorted(folder for folder in folders if not is_hidden(folder))
        if place == path:
            others["linked folder(s)"] += sum((place / folder).is_symlink() for folder in folders)
        others["empty folder(s)"] += not folders and all(map(is_hidden, names))
        for name in sorted(name for name in names if not is_hidden(name)):
            if not name.lower().endswith(SUFFIXES):
                others[Path(name).suffix or "without a suffix"] += 1
            elif place == path:
                others["images beside the folders"] += 1
            else:
                files.append(place / name)
        if len(files) > MOST_FILES:
            raise DataError(f"{shown(path.name)} holds more than {MOST_FILES:,} images. Take fewer.")
    entries = [(file.relative_to(path).parts, lambda file=file: read_file(file, MOST_IMAGE_BYTES)) for file in files]
    skipped = [entry for entry, file in zip(entries, files, strict=True) if not _is_plain(file)]
    entries = [entry for entry in entries if entry not in skipped]
    others.update(["not a plain file"] * len(skipped))
    return _pictures(path, f"folders of {counted(len(entries), 'image')}", entries, others, hidden, task, findings)


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_archive(found: Found, task: str, findings: Findings) -> FilePictures:
    """The same in a .zip. Raises DataError."""
    name, others, entries = shown(found.path.name), Counter(), []
    archive = open_zip(found.data, name)
    members = members_of(archive, name)
    parts = [tuple(m.filename.replace("\\", "/").split("/")) for m in members]
    while parts and all(len(p) > 2 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]  # the folder itself was packed
    for member, path in zip(members, parts, strict=True):
        if not member.filename.lower().endswith(SUFFIXES):
            others[Path(member.filename).suffix or "without a suffix"] += 1
        elif len(path) < 2:
            others["images beside the folders"] += 1
        else:
            entries.append((path, lambda m=member: _member(archive, m, name)))
    entries.sort(key=lambda entry: entry[0])
    hidden = sum(is_hidden(m.filename) for m in archive.infolist())
    read_as = f"{found.packed}zip of {counted(len(entries), 'image')}"
    return _pictures(found.path, read_as, entries, others, hidden, task, findings)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    return member_bytes(archive, member, MOST_IMAGE_BYTES, name)


def _pictures(
    path: Path,
    read_as: str,
    entries: Sequence[tuple[tuple[str, ...], Callable[[], bytes]]],
    others: Counter[str],
    hidden: int,
    task: str,
    findings: Findings,
) -> FilePictures:
    name, others = shown(path.name), +others  # without those of which there are none
    if not entries:
        held = f" It holds {', '.join(f'{n} {kind}' for kind, n in others.most_common(4))}." if others else ""
        raise DataError(
            f"{name} holds no images in folders.{held} Put those of each class into a folder of its own, named after"
            f" the class ({', '.join(SUFFIXES)})."
        )
    classes = {parts[0] for parts, _ in entries}
    if {one.lower() for one in classes} <= SPLITS:
        raise DataError(
            f"{name} is divided into {listed(sorted(classes))}, which are no classes. Name one of these folders, such"
            f" as {shown(f'{path.name}/{min(classes)}', 80)}; the lab cuts its own test part."
        )
    if (unread := {kind: n for kind, n in others.items() if kind.lower() in OTHER_IMAGES}) and sum(
        unread.values()
    ) > UNREADABLE * len(entries):
        findings.warnings.append(
            f"{task}: {', '.join(f'{n} {kind}' for kind, n in unread.items())} were left out beside"
            f" {counted(len(entries), 'image')}, since these kinds are not read. Save them as .png or .jpg."
        )
    if others:
        findings.leave_out(task, ", ".join(f"{n} {kind}" for kind, n in others.most_common(6)), "no images of a class")
    if hidden:
        findings.leave_out(
            task, counted(hidden, "hidden file or folder", "hidden files or folders"), "written by programs"
        )
    if deeper := sum(len(parts) > 2 for parts, _ in entries):
        findings.notes.append(f"{task}: {counted(deeper, 'image')} in deeper folders count for the class of the first.")
    sizes, coloured, broken, kept = [], False, [], []
    saved: dict[str, list[str]] = {"format": [], "size": [], "number of channels": []}
    moving = turned = clear = 0
    for i, (parts, reader) in enumerate(entries):
        try:
            size, mode, frames, turns, transparent, kind = _header(reader())
        except Exception as error:  # a damaged image makes its reader raise nearly anything
            broken.append((i, "/".join(parts), error))
            continue
        kept.append(i)
        sizes.append(size)
        coloured |= mode not in (*GREY_MODES, *DEEP_MODES)
        for name_of, value in zip(
            saved, (kind, f"{size[0]} x {size[1]}", "1" if mode in GREY_MODES else "3"), strict=True
        ):
            saved[name_of].append(value)
        moving, turned, clear = moving + (frames > 1), turned + turns, clear + transparent
    _leave_out_broken(broken, len(entries), task, findings)
    for count, why in (
        (moving, "the first of several pictures in them"),
        (turned, "turned as their EXIF data asks"),
        (clear, "what is transparent lies on white"),
    ):
        if count:
            findings.convert(task, counted(count, "image"), why)
    labels = identities([entries[i][0][0] for i in kept], task, path.name, findings)
    for what, values in saved.items():
        if tells := _that_tells(values, labels.tolist()):
            findings.warnings.append(
                f"{task}: the images' {what} alone tells all classes apart, such as {tells}, which may show in their"
                " pixels. Save all images in the same way."
            )
    names, readers = ["/".join(entries[i][0]) for i in kept], [entries[i][1] for i in kept]
    return FilePictures(task, path.name, read_as, labels, names, readers, sizes, coloured)


def _that_tells(values: Sequence[str], labels: Sequence[str]) -> str:
    """Of two classes, the value that only the one has and that only the other has, where so few values tell all."""
    pairs = sorted(set(zip(labels, values, strict=True)))
    few = len(values) >= ENOUGH and len(pairs) <= len(values) // FEW_VALUES
    if not few or len({value for _, value in pairs}) < len(pairs) or len({label for label, _ in pairs}) < 2:
        return ""
    (one, value), (other, unlike) = pairs[0], pairs[-1]
    return f"{value} of {shown(one)} and {unlike} of {shown(other)}"


def _leave_out_broken(broken: Sequence[tuple[int, str, Exception]], count: int, task: str, findings: Findings) -> None:
    if not broken:
        return
    _, name, error = broken[0]
    reason = " ".join(str(error).split())[:140]
    if len(broken) > UNREADABLE * count:
        raise DataError(
            f"{shown(name, 80)} cannot be read as an image ({reason}); {counted(len(broken), 'image')} of {count:,}"
            " cannot. Save them again as .png or .jpg, or take them out."
        )
    findings.leave_out(task, f"images {listed(name for _, name, _ in broken)}", f"cannot be read ({reason})")


def _open(data: bytes) -> Any:
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError("it is no image of a kind that is read, or was cut off") from None
    if image.width * image.height > MOST_DECODED_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels are more than {MOST_DECODED_PIXELS:,}; make it smaller")
    return image


def _header(data: bytes) -> tuple[Size, str, int, bool, bool, str]:
    """(size as it is shown, mode, pictures, turned, transparent, format) of an image that is not decoded."""
    with warnings.catch_warnings(), _open(data) as image:
        warnings.simplefilter("ignore")
        orientation = image.getexif().get(274, 1)
        size = (image.height, image.width) if orientation not in _TURNED else (image.width, image.height)
        transparent = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
        moving = image.format in ("GIF", "WEBP", "PNG", "TIFF") and getattr(image, "is_animated", False)
        return size, image.mode, 2 if moving else 1, orientation not in (0, 1), transparent, str(image.format)


def shown_as(data: bytes, size: Size, coloured: bool) -> tuple[NDArray[np.float32], float]:
    """((H, W, 3 | 1), the value that is white): the image as a viewer shows it, of this size. White is 0 where the file
    does not say what it is: numbers of 32 bits."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings(), _open(data) as image:
        warnings.simplefilter("ignore")
        if image.format == "JPEG":
            image.draft(None, (2 * size[1], 2 * size[0]) if max(image.size) > 4 * max(size) else image.size)
        seen = ImageOps.exif_transpose(image)
        if seen.mode in DEEP_MODES:
            values = np.asarray(seen).astype(np.float32)
            if not np.isfinite(values).all():
                raise DataError("it holds numbers that are not finite")
            white = 65535.0 if seen.mode.startswith("I;16") else 0.0
            return np.repeat(_resized(values[..., None], size), 3 if coloured else 1, axis=2), white
        if "transparency" in seen.info or seen.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
            clear = seen.convert("RGBA")
            seen = Image.new("RGBA", clear.size, "white")
            seen.alpha_composite(clear)
        seen = seen.convert("RGB" if coloured else "L")
        if (seen.height, seen.width) != size:
            smaller = seen.width > size[1] or seen.height > size[0]
            way = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
            seen = seen.resize((size[1], size[0]), way)
        return np.asarray(seen, dtype=np.float32).reshape(*size, -1) / np.float32(255), 1.0


def _resized(image: NDArray[Any], size: Size) -> NDArray[np.float32]:
    """(H, W, C) of another size; what becomes smaller is averaged."""
    from PIL import Image

    if image.shape[:2] == size:
        return image.astype(np.float32)
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c], dtype=np.float32)).resize(
            (size[1], size[0]), Image.Resampling.BOX
        )
        for c in range(image.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


def _on_white(images: NDArray[np.float32]) -> NDArray[np.float32]:
    alpha = images[..., 3:]
    return images[..., :3] * alpha + (1 - alpha)


def common_size(held: Sequence[Pictures], findings: Findings) -> Size:
    """The size that all images get: A's most frequent one, within the budget."""
    height, width = Counter(held[0].sizes).most_common(1)[0][0]
    channels = 3 if any(h.coloured for h in held) else 1
    most = max(len(h.sizes) for h in held) * channels
    budget = min(MOST_IMAGE_INPUTS // channels, max(1, MOST_PIXEL_VALUES // most))
    shrink = min(1.0, (budget / (height * width)) ** 0.5, MOST_SIDE / height, MOST_SIDE // channels / width)
    size = (max(1, int(height * shrink + 1e-9)), max(1, int(width * shrink + 1e-9)))
    while size[0] * size[1] > budget:  # a side of 1 does not become smaller
        size = (max(1, size[0] - (size[0] >= size[1])), max(1, size[1] - (size[1] > size[0])))
    for h in held:
        counts = Counter(h.sizes)
        others = len(h.sizes) - counts.get(size, 0)
        if others:
            was = ", ".join(f"{a} x {b}" for (a, b), _ in counts.most_common(3)) + (", …" if len(counts) > 3 else "")
            why = f"to {size[0]} x {size[1]} pixels from {was}"
            over = (
                f"; at most {MOST_IMAGE_INPUTS:,} numbers and {MOST_SIDE} a side are learned from" if shrink < 1 else ""
            )
            findings.convert(h.task, counted(others, "image"), why + over)
        if any(abs(a * size[1] / (b * size[0]) - 1) > 0.1 for a, b in counts):
            findings.notes.append(f"{h.task}: some images have other proportions and were stretched.")
    return size
