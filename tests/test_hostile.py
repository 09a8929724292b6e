"""What anybody may send: damaged, enormous and malicious files and addresses. Only the lab's own errors, each within
five seconds of work, one gigabyte and 500 characters; what is accepted can be used.

Generated from fixed seeds by hypothesis: some hundred pieces in a fast run, more than 10,000 with -m slow.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import resource
import signal
import time
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from nllab import figures, html_export, narration, pictures, run_io, run_log
from nllab.data import load
from nllab.errors import DataError, DataWarning, NllabError
from nllab.experiment import Experiment, read_setting
from nllab.reproduce import command_line, read_command, snippet
from nllab.streams.own import own
from nllab.trainer import train

SECONDS, BYTES, CHARACTERS = 5.0, 2**30, 500
HANGS_AFTER = 60  # seconds of the clock: a piece that waits for something does no work
FEW, MANY = 15, 700  # pieces of a kind
SEED = 20261127


@contextmanager
def bounded():
    """Work for at most SECONDS within BYTES more than the process has; anything but the lab's errors is a failure."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def hang(*_):
        raise AssertionError(f"it hung for {HANGS_AFTER} seconds")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANGS_AFTER)
    resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, hard))
    begun = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            yield
    except NllabError as error:
        assert 10 < len(str(error)) < CHARACTERS, str(error)
    finally:
        took = time.process_time() - begun
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert took < SECONDS, took


def mutated(data, number):
    """Bytes flipped, cut, doubled, moved or overwritten, as `number` decides."""
    draw = np.random.default_rng(number)
    data = bytearray(data)
    for _ in range(draw.integers(1, 6)):
        if not data:
            break
        at, count = int(draw.integers(len(data))), int(draw.integers(1, 40))
        match draw.integers(6):
            case 0:
                data[at] ^= 1 << int(draw.integers(8))
            case 1:
                del data[at : at + count]
            case 2:
                data[at:at] = data[at : at + count]
            case 3:
                data[at : at + count] = draw.bytes(count)
            case 4:
                data = data[:at] if draw.integers(3) == 0 else data
            case 5:
                data[at : at + 4] = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80")[
                    draw.integers(4)
                ]
    return bytes(data)


def read(path):
    """All that the lab does with somebody's paths before it trains."""
    with bounded():
        stream = own(f"own:{path},{path}", 0, False)
        assert all(np.isfinite(task.train.inputs.numpy()).all() for task in stream.tasks)
        assert stream.report and len(json.dumps(stream.report.to_dict())) < 10**6


def table(rows=30):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(rows, 3)).round(3), columns=["a", "b", "c"])
    return frame.assign(when="2026-01-02", kind=["x", "y", "z"] * (rows // 3), label=["cat", "dog"] * (rows // 2))


# fmt: off
CELLS = st.sampled_from([
    "²", "½", "1" * 400, "9" * 5000, "-" * 50, "1e999", "nan", "inf", "1_000", "0x1f", "1,5", "1.5", "1.234,5", "٣", "None",  # noqa: E501
    "'", '"', '""', "=cmd()", "\u202e", "\ufeff", "a" * 3000, "12:99:99", "31.02.2026", "0000-00-00", "99999-01-01", "%",  # noqa: E501
    "", " ", "\t", "true", "1e-400", "1E5", "+", ".", "-0", "00", "{}", "\u200b", "\U0001f408", "1/0", "€",
    "1970-01-01T00:00:00Z",
]) | st.text(max_size=12) | st.floats().map(repr) | st.integers().map(str)
# fmt: on
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=6), min_size=1, max_size=12)


def strange_cells(folder, piece):
    """A table of such cells, with a column of labels or without."""
    rows, separator, times, labelled, encoding = piece
    lines = [separator.join(row) for row in rows * (1 + times)]
    if labelled:
        lines = [f"label{separator}x", *(f"{'ab'[i % 2]}{separator}{line}" for i, line in enumerate(lines))]
    (folder / "t.csv").write_bytes("\n".join(lines).encode(encoding, errors="replace"))
    read(folder / "t.csv")


def one_strange_column(folder, piece):
    """A good table with one column, or the labels, of strange cells."""
    cells, name = piece
    frame = table()
    frame[name] = (cells * 30)[:30]
    (folder / "t.csv").write_bytes(frame.to_csv(index=False).encode("utf-8", errors="replace"))
    read(folder / "t.csv")


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def arrays(**held):
    out = io.BytesIO()
    np.savez_compressed(out, **held)
    return out.getvalue()


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def archive(**held):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in held.items():
            opened.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def excel():
    out = io.BytesIO()
    table().to_excel(out, index=False)
    return out.getvalue()


@cache
def good(kind):
    """Files that the lab reads, by kind."""
    draw = np.random.default_rng(0)
    text = table().to_csv(index=False)
    grey = draw.integers(0, 256, (12, 6, 7), dtype=np.uint8)
    image = Image.fromarray(draw.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    match kind:
        case "text":
            return [
                text.encode(),
                text.encode("utf-16"),
                table().to_csv(index=False, sep=";", decimal=",").encode("cp1252"),
            ]
        case "packed":
            return [pack(text.encode()) for pack in (gzip.compress, bz2.compress, lzma.compress)]
        case "arrays":
            return [
                arrays(inputs=grey, labels=np.arange(12) % 2),
                arrays(inputs=draw.normal(size=(12, 3)), labels=["a", "b"] * 6),
            ]
        case "idx":
            return [idx(grey)]
        case "excel":
            return [excel()]
        case "archive":
            png = saved(image, "PNG")
            return [archive(**{f"{c}__{i}.png": png for i in range(4) for c in "ab"}), archive(**{"t.csv": text})]
        case "image":
            forms = [
                ("PNG", {}),
                ("JPEG", {}),
                ("GIF", {}),
                ("BMP", {}),
                ("TIFF", {"compression": "tiff_lzw"}),
                ("WEBP", {}),
            ]
            deep = Image.fromarray(draw.integers(0, 65536, (9, 8)).astype(np.uint16))
            return [saved(image, form, **options) for form, options in forms] + [
                saved(deep, "PNG"),
                saved(deep, "TIFF"),
            ]
        case "run":
            small = {"dim": 4, "hidden": 4, "periods": (1,), "batch_size": 80, "evaluate_every": 5}
            run = train(Experiment.preset("digits-ab", optimizer="deep", **small))
            plane = train(
                Experiment.preset("plane-ab", **small), commands=[(3, "rate", 0.5), (5, "teach", "B")], steps=12
            )
            return [run_io.pack(run), run_io.pack(plane)]


def damaged(kind, name):
    def use(folder, number):
        files = good(kind)
        (folder / name).write_bytes(mutated(files[number % len(files)], number))
        read(folder / name)

    return use


def damaged_idx(folder, number):
    (folder / "x-images-idx3-ubyte").write_bytes(mutated(good("idx")[0], number))
    (folder / "x-labels-idx1-ubyte").write_bytes(mutated(idx(np.arange(12, dtype=np.uint8) % 2), number // 7 + 1))
    read(folder / "x-images-idx3-ubyte")


def crafted_array(folder, piece):
    """An .npz whose array claims any shape and type over any bytes."""
    shape, dtype, content, version = piece
    header = repr({"descr": dtype, "fortran_order": False, "shape": tuple(shape)}).encode()
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    crafted = b"\x93NUMPY" + bytes([version, 0]) + size + header + content
    (folder / "t.npz").write_bytes(archive(**{"inputs.npy": crafted, "labels.npy": good_labels()}))
    read(folder / "t.npz")


def good_labels():
    out = io.BytesIO()
    np.save(out, np.arange(12) % 2)
    return out.getvalue()


def damaged_images(folder, number):
    files = good("image")
    for label in "ab":
        (folder / label).mkdir(exist_ok=True)
        for i in range(3):
            data = files[(number + i) % len(files)]
            (folder / label / f"{i}.png").write_bytes(data if i and number % 2 else mutated(data, number + i))
    read(folder)


def use_run(data):
    """Read a run; whether it is accepted. Then scores, tables, sentences, figures, pictures and the page that plays it
    raise nothing at all."""
    run = None
    with bounded():
        run = run_io.unpack("run.zip", data)
    if run is None:
        return False
    with bounded():
        try:
            assert run.summary is not None and run.events is not None
            assert narration.kind_of(run) and command_line(run) and snippet(run)
            for name in figures.CURVES:
                figures.draw(name, run)
            for name in pictures.STILLS:
                pictures.still(name, run)
            assert len(html_export.page(run)) > 1000
            assert run_io.unpack("again.zip", run_io.pack(run)).log == run.log
        except NllabError as error:
            raise AssertionError(f"accepted, and then: {error}") from error
    return True


def damaged_run(folder, number):
    use_run(mutated_run(number))


def forged_run(folder, number):
    use_run(forged(number))


def forged(number):
    """A run whose events were dropped, doubled, moved or given other values, with checksums that fit."""
    draw = np.random.default_rng(number)
    with zipfile.ZipFile(io.BytesIO(good("run")[number % 2])) as opened:
        log = run_log.decode(opened.read(run_log.LOG))
    records = [log.head, *log.records]
    for _ in range(draw.integers(1, 5)):
        if len(records) < 2:
            break
        at, to = (int(draw.integers(1, len(records))) for _ in range(2))
        match draw.integers(7):
            case 0:
                del records[at]
            case 1:
                records.insert(to, records[at])
            case 2:
                records.insert(to, records.pop(at))
            case 3:
                kind = log.records[at % len(log.events)]["kind"]  # none of this kind is left
                records = [records[0], *(r for r in records[1:] if not isinstance(r, dict) or r.get("kind") != kind)]
            case _:
                at = at if draw.integers(8) else 0
                records[at] = changed(records[at], log.head, draw)
    if draw.integers(2):
        steps = [r["step"] if isinstance(r, dict) and isinstance(r.get("step"), int) else 0 for r in records]
        order = sorted(range(1, len(records)), key=lambda i: steps[i])
        records = [records[0], *(records[i] for i in order)]
    lines = run_log.encode([*records, run_log.closing_line(len(records), {})])
    return archive(**{run_log.LOG: b"".join(lines), "experiment.json": b"{}"})


def changed(value, head, draw):
    """The same value with one thing in it changed."""
    if isinstance(value, dict) and value and draw.integers(12):
        key = list(value)[draw.integers(len(value))]
        if draw.integers(12) == 0:
            return {name: held for name, held in value.items() if name != key}
        return value | {key: changed(value[key], head, draw)}
    if isinstance(value, list) and value and draw.integers(12):
        at = int(draw.integers(len(value)))
        if draw.integers(6) == 0:
            return value[:at]
        return [*value[:at], changed(value[at], head, draw), *value[at + 1 :]]
    words = ["A", "B", "all", "adam", "deep", "", "<b>", "\u202e", "x" * 61, "²", "a" * 300]
    numbers = [0, 1, -1, 2, 0.5, 1e308, -1e308, 5e-324, 2**53, 2**64, 10**8, 10**400, True, None]
    pool = words if isinstance(value, str) and draw.integers(4) else numbers
    return [*pool, [], {}, [value], head["levels"]][draw.integers(len(pool) + 4)]


def mutated_run(number):
    """A run with a damaged member in an archive that is whole, or in a damaged one."""
    data = good("run")[number % 2]
    if number % 3 == 0:
        return mutated(data, number)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    name = sorted(members)[number % len(members)]
    members[name] = mutated(members[name], number)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as again:
        for member, content in members.items():
            again.writestr(member, content)
    return out.getvalue()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | CELLS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(sorted(Experiment.model_fields)) | st.text(max_size=20)


def settings_of_json(folder, piece):
    with bounded():
        experiment = Experiment.from_json(json.dumps(piece))
        assert Experiment.from_json(experiment.to_json()) == experiment


def address(folder, piece):
    query = "&".join(f"{key}={value}" for key, value in piece.items())
    with bounded():
        experiment = Experiment.from_query(query)
        assert Experiment.from_query(experiment.to_query()) == experiment
    for key, value in piece.items():
        with bounded():
            read_setting(key, value)


def commands(folder, text):
    with bounded():
        read_command(text)


NUMBERS = st.integers(0, 2**63 - 1)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 12, 10**3, 10**6, 10**9, 2**31, 2**62, 2**64, -1]), max_size=5)
TYPES = st.sampled_from(
    ["<f8", "|u1", "<f4", ">i2", "|O", "<U9", "<c16", "|V8", "|S0", "<M8[s]", "|b1", "<f16", "x", [("a", "<f8")]]
)
KINDS = {
    "strange cells": (
        st.tuples(
            ROWS,
            st.sampled_from(",;\t| "),
            st.integers(0, 40),
            st.booleans(),
            st.sampled_from(["utf-8", "cp1252", "utf-16"]),
        ),
        strange_cells,
    ),
    "strange column": (
        st.tuples(
            st.lists(CELLS, min_size=1, max_size=30), st.sampled_from(["a", "b", "when", "kind", "label", "new"])
        ),
        one_strange_column,
    ),
    "damaged text": (NUMBERS, damaged("text", "t.csv")),
    "damaged packing": (NUMBERS, damaged("packed", "t.csv.gz")),
    "damaged arrays": (NUMBERS, damaged("arrays", "t.npz")),
    "crafted arrays": (st.tuples(SHAPES, TYPES, st.binary(max_size=200), st.sampled_from([1, 2, 3])), crafted_array),
    "damaged IDX": (NUMBERS, damaged_idx),
    "damaged Excel": (NUMBERS, damaged("excel", "t.xlsx")),
    "damaged archive": (NUMBERS, damaged("archive", "t.zip")),
    "damaged images": (NUMBERS, damaged_images),
    "any bytes": (st.binary(max_size=3000), lambda folder, data: read_bytes(folder, data)),
    "damaged run": (NUMBERS, damaged_run),
    "forged run": (NUMBERS, forged_run),
    "settings": (st.dictionaries(KEYS, JSON, max_size=6) | JSON, settings_of_json),
    "address": (st.dictionaries(KEYS, CELLS, max_size=6), address),
    "commands": (st.builds("{}:{}={}".format, CELLS, KEYS, CELLS) | CELLS, commands),
}


def read_bytes(folder, data):
    (folder / "t.csv").write_bytes(data)
    read(folder / "t.csv")


def check(kind, folder, count):
    strategy, use = KINDS[kind]
    number = iter(range(10**9))

    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a piece is small, and making it smaller takes longer than finding it
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def once(piece):
        place = folder / str(next(number))
        place.mkdir()
        use(place, piece)

    once()


@pytest.mark.parametrize("kind", KINDS)
def test_some_hostile_pieces_end_in_the_labs_own_errors(kind, tmp_path):
    check(kind, tmp_path, FEW)


def test_pieces_that_once_broke_a_reader(tmp_path):
    for number, (kind, piece) in enumerate(
        (
            ("damaged archive", 1052),
            ("crafted arrays", ([0, 0, 2**64, 12], "<f8", b"", 1)),
            ("strange column", (["9" * 5000 + "%x"], "a")),
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        KINDS[kind][1](place, piece)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_hostile_pieces_end_in_the_labs_own_errors(kind, tmp_path):
    check(kind, tmp_path, MANY)


def bomb(pack):
    """Some hundred kilobytes that unpack to 200 MB of a table."""
    line = b"1.5,2.5,a\n" * 10**5
    out = io.BytesIO()
    with pack(out) as file:
        file.write(b"x,z,label\n")
        for _ in range(200):
            file.write(line)
    return out.getvalue()


@contextmanager
def zip_member(out, name="t.csv"):
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        yield file


BOMBS = {
    "gzip": lambda: bomb(lambda out: gzip.GzipFile(fileobj=out, mode="w", compresslevel=1)),
    "zip": lambda: bomb(zip_member),
    "npz": lambda: bomb(lambda out: zip_member(out, "inputs.npy")),
    "gzip in gzip in gzip": lambda: gzip.compress(gzip.compress(gzip.compress(b"x,label\n1,a\n"))),
    "a million columns": lambda: (
        b"label," + b",".join(b"%d" % i for i in range(10**6)) + b"\n" + b"a," + b"1," * 10**6 + b"1\n"
    ),
    "a million columns, later": lambda: b"label,x\n" + b"a,1\nb,2\n" * 300 + b"a" + b",1" * 10**6 + b"\n",
    "one line": lambda: b"label,x " * 10**7,
    "one cell": lambda: b"label,x\na," + b"9" * 10**8,
    "open quote": lambda: b'label,x\na,"' + b"1,2\n" * 2 * 10**7,
    "many rows": lambda: b"label,x\n" + b"a,1\nb,2\n" * 13 * 10**6,
    "blank lines": lambda: b"\n" * 10**8 + b"label,x\na,1\nb,2\n",
    "nulls": lambda: bytes(10**8),
    "spaces": lambda: b" " * 10**8,
    "many labels": lambda: b"label,x\n" + b"".join(b"%d,%d\n" % (i, i % 7) for i in range(10**6)),
    "deep JSON": lambda: b"[" * 10**6,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_end_in_a_sentence(kind, tmp_path):
    (tmp_path / "t.csv").write_bytes(BOMBS[kind]())
    with bounded():
        load([tmp_path / "t.csv"] * 2)
        raise AssertionError("it was accepted")


def flat_png(width, height):
    """A PNG that claims so many pixels and holds the first of them."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b""))
    parts = [len(c).to_bytes(4, "big") + name + c + zlib.crc32(name + c).to_bytes(4, "big") for name, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_an_image_that_unpacks_to_gigabytes_is_refused(tmp_path):
    data = flat_png(8_000, 8_000)
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(3):
            (tmp_path / label / f"{i}.png").write_bytes(data)
    with pytest.raises(DataError, match="8000 x 8000 pixels are more than 40,000,000"):
        load([tmp_path, tmp_path])


def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (
        tmp_path / "pipe.csv",
        "/dev/zero",
        "/dev/stdin",
        tmp_path / ("n" * 300),
        "a\0b",
        tmp_path / "x" / ".." / "y",
    ):
        with bounded():
            load([path, path])
            raise AssertionError("it was accepted")
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        os.mkfifo(tmp_path / "images" / label / "0.png")
        os.symlink("/dev/zero", tmp_path / "images" / label / "1.png")
        os.symlink(tmp_path / "images", tmp_path / "images" / label / "again")
    with bounded():
        load([tmp_path / "images"] * 2)
        raise AssertionError("it was accepted")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**6,
        '{"a":' * 10**5,
        '{"seed": ' + "9" * 10**4 + "}",
        '{"stream": "' + "x" * 10**6 + '"}',
        "NaN",
        '{"seed": NaN}',
        "\ud800",
    ],
)
def test_settings_that_break_readers_of_json_are_refused(text):
    with bounded():
        Experiment.from_json(text)
        raise AssertionError("it was accepted")
