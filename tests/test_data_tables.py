"""Tables as people and programs write them: read as meant, or refused with what to do; never learned as something
else in silence."""

import gzip
import io
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest

from nllab.data import Report, load
from nllab.data.columns import giveaways
from nllab.data.labels import identity, spelling_variants
from nllab.data.scale import LIMIT, Scale
from nllab.errors import DataError, DataWarning
from nllab.streams import build

ROWS = 60


@pytest.fixture
def frame():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(ROWS, 3)).round(3)
    names = np.where(draw.integers(0, 2, ROWS) > 0, "Möwe", "Gans")
    return pd.DataFrame(values, columns=["länge", "breite", "höhe"]).assign(label=names)


def same(loaded, frame):
    assert np.allclose(loaded.inputs[0], frame[["länge", "breite", "höhe"]].to_numpy())
    assert loaded.labels[0].tolist() == frame["label"].tolist()


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


DIALECTS = {
    "plain": {},
    "spreadsheet of another locale": {"sep": ";", "decimal": ","},
    "semicolons with points": {"sep": ";"},
    "tabs": {"sep": "\t"},
    "tabs with decimal commas": {"sep": "\t", "decimal": ","},
    "bars": {"sep": "|"},
    "quoted cells": {"quoting": 1},
    "commas, decimal commas in quotes": {"decimal": ","},
    "carriage returns": {"lineterminator": "\r\n"},
    "scientific": {"float_format": "%.3e"},
}


@pytest.mark.parametrize("how", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_dialect_reads_the_same(tmp_path, frame, how, encoding):
    path = write(tmp_path / "t.csv", frame.to_csv(index=False, **how), encoding)
    loaded = load([path, path])
    same(loaded, frame)
    assert loaded.report.shared == ("Gans", "Möwe") and loaded.report.paths[0].samples == ROWS


def zipped(data, name="t.csv"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("__MACOSX/._" + name, b"\0\5\x16\7")
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".csv.gz", ".CSV", ".tsv", ".txt", ".data", ".csv.bz2", ".csv.xz", ".zip", ""])
def test_packing_is_seen_by_content_and_not_by_name(tmp_path, frame, suffix):
    import bz2
    import lzma

    data = frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()
    pack = {".csv.gz": gzip.compress, ".csv.bz2": bz2.compress, ".csv.xz": lzma.compress, ".zip": zipped}.get(
        suffix, bytes
    )
    for path in (tmp_path / f"t{suffix}", tmp_path / "misnamed.csv"):
        path.write_bytes(pack(data))
        same(load([path, path]), frame)


def test_an_excel_file_is_read_by_its_first_sheet(tmp_path, frame):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    with warnings.catch_warnings(), pd.ExcelWriter(path) as book:
        warnings.simplefilter("ignore")
        frame.to_excel(book, sheet_name="Vögel", index=False)
        frame.iloc[:5].to_excel(book, sheet_name="more", index=False)
    loaded = load([path, path])
    same(loaded, frame)
    assert "'more'" in loaded.report.left_out[0].what and "'Vögel'" in loaded.report.paths[0].read_as


def test_excel_without_openpyxl_says_what_to_install(tmp_path, frame, monkeypatch):
    path = tmp_path / "t.xlsx"
    pytest.importorskip("openpyxl")
    frame.to_excel(path, index=False)
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install openpyxl.*\.csv"):
        load([path, path])


def test_lines_before_the_table_are_no_rows(tmp_path, frame):
    body = frame.to_csv(index=False, sep=";", decimal=",")
    path = write(tmp_path / "excel.csv", "sep=;\r\n" + body)
    same(load([path, path]), frame)
    path = write(tmp_path / "commented.csv", "# made by an instrument\n# on a Friday\n\n" + body)
    same(load([path, path]), frame)
    numbers = "\n".join(
        " ".join(map(str, row)) for row in frame[["länge", "breite", "höhe"]].assign(l=[0, 1] * 30).values
    )
    path = write(tmp_path / "savetxt.txt", "# länge breite höhe label\n" + numbers)
    assert np.allclose(load([path, path]).inputs[0], frame[["länge", "breite", "höhe"]].to_numpy())


def test_a_row_number_of_pandas_is_left_out_and_told(tmp_path, frame):
    path = tmp_path / "t.csv"
    frame.to_csv(path)
    report = load([path, path]).report
    assert report.inputs.startswith("3 columns") and "Unnamed" in report.left_out[0].what
    frame.rename_axis("Unnamed: 0").to_csv(path)
    assert load([path, path]).report.inputs.startswith("3 columns")


def test_row_names_of_r_stand_before_a_header_that_is_one_shorter(tmp_path, frame):
    lines = frame.to_csv(index=False).splitlines()
    rows = [f'"{i}",{line}' for i, line in enumerate(lines[1:], start=1)]
    path = write(tmp_path / "r.csv", "\n".join([lines[0], *rows]))
    same(load([path, path]), frame)


def test_separators_at_the_end_of_lines_make_no_column(tmp_path, frame):
    text = "\n".join(line + ";;" for line in frame.to_csv(index=False, sep=";").splitlines()) + "\n;;;;;\n;;;;;\n"
    loaded = load([write(tmp_path / "t.csv", text)] * 2)
    same(loaded, frame)
    assert any("2 rows" in note.what for note in loaded.report.left_out)


def test_columns_are_matched_by_name_whatever_their_order_and_case(tmp_path, frame):
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    frame.to_csv(a, index=False)
    frame[["label", "höhe", "länge", "breite"]].rename(columns={"höhe": " Höhe"}).assign(
        extra=np.arange(ROWS) ** 2
    ).to_csv(b, index=False)
    loaded = load([a, b])
    assert np.array_equal(loaded.inputs[0], loaded.inputs[1])
    assert any("extra" in note.what and note.path == "B" for note in loaded.report.left_out)
    frame.rename(columns={"länge": "age", "breite": "income"}).to_csv(b, index=False)
    with pytest.raises(
        DataError, match="share 1 of 3 columns; 'länge', 'breite' in the one, 'age', 'income' in the other"
    ):
        load([a, b])


def test_without_a_header_the_one_text_column_holds_the_classes(tmp_path, frame):
    path = tmp_path / "t.data"
    frame.to_csv(path, index=False, header=False)
    loaded = load([path, path])
    same(loaded, frame)
    assert "column 4 was taken for the classes" in loaded.report.notes[0]
    unclear = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)))
    unclear.to_csv(path, index=False, header=False)
    with pytest.raises(DataError, match="which of its 3 columns holds the classes is not clear"):
        load([path, path])
    first = unclear.assign(k=[0, 1] * 20)[["k", 0, 1]]
    first.to_csv(path, index=False, header=False)
    assert load([path, path]).classes == ("0", "1")


def test_a_header_on_one_side_only_stops(tmp_path, frame):
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    frame.to_csv(a, index=False)
    frame.to_csv(b, index=False, header=False)
    with pytest.raises(DataError, match="'b.csv' has no names of columns .* same header"):
        load([a, b])


@pytest.mark.parametrize(
    "spellings",
    [
        ("0", "0.0"),
        ("7", "7.00"),
        ("1", "1.0e0"),
        ("cat", "cat "),
        ("cat", "cat\u00a0"),
        ("é", "e\u0301"),
        ("true", "TRUE"),
    ],
)
def test_a_label_has_one_identity(spellings):
    assert identity(spellings[0]) == identity(spellings[1])


@pytest.mark.parametrize(
    ("one", "other"), [("1", "2"), ("07", "7"), ("Cat", "cat"), ("0.5", "0"), ("²", "2"), ("1e400", "inf")]
)
def test_different_labels_stay_different(one, other):
    assert identity(one) != identity(other)


def test_spellings_that_may_be_one_class_are_named(tmp_path, frame):
    assert spelling_variants(["cat", "Cat", "dog"]) == [["cat", "Cat"]]
    assert spelling_variants(["07", "7", "-1", "1", "1.5", "15"]) == [["07", "7"]]
    assert spelling_variants(["0.5", "0.50", ".5", "1.5", "15", "'cat'", "cat"]) == [
        ["0.5", "0.50", ".5"],
        ["'cat'", "cat"],
    ]
    assert not spelling_variants(["C", "C++", "C#", "0", "1"])
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    frame.to_csv(a, index=False)
    frame.assign(label=frame["label"].replace("Möwe", "MÖWE")).to_csv(b, index=False)
    with pytest.warns(DataWarning, match="'MÖWE', 'Möwe' are different classes and may be spellings of one"):
        build(f"own:{a},{b}")


def test_none_and_na_are_classes_and_missing_numbers_are_not(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"x": draw.normal(size=60), "y1": draw.normal(size=60), "label": ["None", "NA", "nan"] * 20})
    text = frame.to_csv(index=False).splitlines()
    text[5] = "NA,0.5,NA"
    text[9] = "?,-0.25,None"
    loaded = load([write(tmp_path / "t.csv", "\n".join(text))] * 2)
    assert set(loaded.classes) == {"None", "NA", "nan"}
    holes = np.array([4, 8])
    middle = np.median(np.delete(frame["x"].to_numpy(), holes))
    assert np.allclose(loaded.inputs[0][holes, 0], middle)
    assert any(
        "2 empty cells of column 'x'" in note.what and "median in A" in note.why for note in loaded.report.converted
    )


def test_a_label_missing_here_and_there_is_left_out_and_too_often_stops(tmp_path, frame):
    frame.loc[[3, 7], "label"] = ""
    path = write(tmp_path / "t.csv", frame.to_csv(index=False))
    loaded = load([path, path])
    assert len(loaded.labels[0]) == ROWS - 2 and "2 rows" in loaded.report.left_out[0].what
    frame.loc[10:30, "label"] = ""
    with pytest.raises(DataError, match=r"label is missing in 23 rows, the first of them row 3 \(from 0\)"):
        load([write(tmp_path / "t.csv", frame.to_csv(index=False))] * 2)


NUMBERS = {
    "thousands": (["1,234.5", "12,000.25", "3.5", "1,000,000.0"], [1234.5, 12000.25, 3.5, 1e6]),
    "thousands by points": (["1.234,5", "12.000,25", "3,5", "1.000.000,0"], [1234.5, 12000.25, 3.5, 1e6]),
    "thousands by spaces": (["1 234.5", "12\u00a0000.25", "3.5", "-1 000.5"], [1234.5, 12000.25, 3.5, -1000.5]),
    "percent": (["12 %", "7%", "99.5 %", "-3 %"], [12, 7, 99.5, -3]),
    "money": (["€ 12.50", "3.20 €", "$4.75", "1.25"], [12.5, 3.2, 4.75, 1.25]),
    "decimals that all have three digits": (["0,123", "1,234", "0,5", "2,345"], [0.123, 1.234, 0.5, 2.345]),
    "minus sign of a typesetter": (["\u22121.5", "2.5", "3.5", "\u22120.25"], [-1.5, 2.5, 3.5, -0.25]),
}


@pytest.mark.parametrize(("cells", "values"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_as_people_write_them(tmp_path, cells, values):
    draw = np.random.default_rng(0)
    other = draw.integers(0, 100, 40)
    frame = pd.DataFrame({"x": cells * 10, "other": other, "label": ["a", "b"] * 20})
    path = write(tmp_path / "t.csv", frame.to_csv(index=False, sep=";"))
    loaded = load([path, path])
    assert np.allclose(loaded.inputs[0][:4, 0], values) and np.allclose(loaded.inputs[0][:, 1], other)


def test_a_comma_that_could_be_either_is_asked_about(tmp_path):
    draw = np.random.default_rng(0)
    cells = [f"{n},{m:03}" for n, m in draw.integers(1, 999, (40, 2))]
    frame = pd.DataFrame({"x": cells, "label": ["a", "b"] * 20})
    loaded = load([write(tmp_path / "t.csv", frame.to_csv(index=False, sep=";"))] * 2)
    assert "was read as" in loaded.report.warnings[0]
    assert np.allclose(loaded.inputs[0][:, 0], [float(cell.replace(",", ".")) for cell in cells])


def test_times_become_seconds_and_clocks_are_left_out(tmp_path, frame):
    draw = np.random.default_rng(1)
    seconds = draw.integers(0, 10**8, ROWS)
    when = pd.to_datetime(seconds, unit="s")
    running = pd.to_datetime(np.arange(ROWS) * 61 + draw.integers(0, 30, ROWS), unit="s")
    frame = frame.assign(
        born=when.strftime("%d.%m.%Y %H:%M:%S"), at=running.strftime("%Y-%m-%d %H:%M:%S"), nr=range(5, 65)
    )
    frame["shuffled id"] = draw.permutation(ROWS)
    loaded = load([write(tmp_path / "t.csv", frame.to_csv(index=False))] * 2)
    assert np.allclose(loaded.inputs[0][:, 3], seconds) and loaded.inputs[0].shape[1] == 4
    left = {note.what: note.why for note in loaded.report.left_out}
    assert "like a clock" in next(why for what, why in left.items() if "'at'" in what)
    assert "in equal steps" in next(why for what, why in left.items() if "'nr'" in what)
    assert "each of a range once" in next(why for what, why in left.items() if "'shuffled id'" in what)


def test_texts_become_columns_or_are_left_out(tmp_path, frame):
    draw = np.random.default_rng(1)
    colour = draw.choice(["red", "green", "blue"], ROWS)
    frame = frame.assign(
        colour=colour, sex=draw.choice(["f", "m"], ROWS), uuid=[f"u-{n:x}" for n in draw.integers(0, 2**60, ROWS)]
    )
    frame["remark"] = [f"seen {n} times" for n in draw.integers(0, 30, ROWS)]
    loaded = load([write(tmp_path / "t.csv", frame.to_csv(index=False))] * 2)
    assert "'colour = blue', 'colour = green', 'colour = red', 'sex = m'" in loaded.report.inputs
    assert np.array_equal(loaded.inputs[0][:, 3], colour == "blue")
    reasons = "\n".join(map(str, loaded.report.left_out))
    assert "('uuid'): an identifier" in reasons and "('remark'): text of" in reasons


def test_a_column_that_alone_tells_the_classes_apart_is_named(tmp_path, frame):
    path = write(tmp_path / "t.csv", frame.assign(code=(frame["label"] == "Gans") * 2.5).to_csv(index=False))
    with pytest.warns(DataWarning, match="Column 'code' alone tells all classes apart"):
        build(f"own:{path},{path}")
    x = np.linspace(0, 1, 40)
    assert giveaways(x[:, None], ["x"], np.array(["a"] * 20 + ["b"] * 20)) == {"x": 1}
    assert not giveaways(x[:, None], ["x"], np.array(["a", "b"] * 20))
    assert not giveaways(np.zeros((40, 1)), ["x"], np.array(["a"] * 20 + ["b"] * 20))


def test_a_column_without_spread_in_a_is_left_out_even_where_it_moves_in_b(tmp_path, frame):
    a = write(tmp_path / "a.csv", frame.assign(sensor=0).to_csv(index=False))
    moving = np.random.default_rng(0).normal(20_000, 5_000, ROWS)
    b = write(tmp_path / "b.csv", frame.assign(sensor=moving).to_csv(index=False))
    report = load([a, b]).report
    assert report.inputs.startswith("3 columns") and "A says nothing of its scale" in report.left_out[0].why


def test_a_scale_is_robust_exact_in_float64_and_bounded():
    draw = np.random.default_rng(0)
    time = 1_700_000_000 + draw.integers(0, 60, 500).astype(float)
    wild = draw.normal(size=500)
    wild[7] = 1e12
    values = np.stack([time, wild, np.full(500, 3.0)], axis=1)
    scale = Scale.of_columns(values)
    found = scale(values)
    assert np.allclose(found[:, 0], (time - time.mean()) / time.std(), atol=1e-4)
    assert 0.5 < np.delete(found[:, 1], 7).std() < 1.1  # as if the wild value were not there
    assert LIMIT < found[7, 1] < LIMIT + 40 and (found[:, 2] == 0).all()
    order = scale(np.stack([np.logspace(0, 90, 200)] * 3, axis=1))[:, 1]
    assert np.isfinite(order).all() and (np.diff(order.astype(float)) >= 0).all()
    assert (scale(values + [0, 0, 1e5])[:, 2] == 0).all()


REFUSED = {
    "ragged": ("x,z,label\n" + "1,2,a\n3,1,b\n" * 5 + "1,2,3,a\n", r"line 12 has 4 cells and the rows before it 3"),
    "open quote": ('x,label\n1,a\n2,"b\n' + "3,a\n" * 9, "opened and never closed"),
    "amounts": (
        "x,label\n" + "".join(f"{i % 7},{i * 0.37:.2f}\n" for i in range(40)),
        "fractional numbers .* not classes",
    ),
    "one class": ("x,z,label\n" + "1,2,a\n2,1,a\n" * 9, "one class only"),
    "few": ("x,z,label\n" + "1,2,a\n2,1,a\n" * 9 + "1,1,b\n", "class 'b' has 1 sample; every class"),
    "no label": ("x,z,w\n" + "1,2,3\n2,3,4\n" * 9, "needs a column 'label' .* 'x', 'z', 'w'"),
    "two labels": ("label,x,label\n" + "1,2,3\n2,3,4\n" * 9, "2 columns named 'label'"),
    "one column": ("hello\nworld\n", "one column only"),
    "header alone": ("x,label\n", "a header and no rows"),
    "nothing varies": ("x,label\n" + "1,a\n1,b\n" * 9, "no column is left to learn from"),
    "infinite": ("x,z,label\n" + "1,2,a\n2,1,b\n" * 9 + "1e999,1,b\n", "infinite"),
    "empty": ("\n\n", "is empty"),
    "no text": ("x,label\n1,\0\n" * 20, "no text"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trusted_stops_with_the_remedy(tmp_path, text, message):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match=message):
        load([path, path])


FOREIGN = {
    "t.parquet": (b"PAR1" + bytes(50), "Parquet"),
    "t.xls": (b"\xd0\xcf\x11\xe0" + bytes(50), r"save it as \.xlsx"),
    "t.npy": (b"\x93NUMPY" + bytes(50), "np.savez"),
    "t.pkl": (b"\x80\x04\x95" + bytes(50), "pickled objects, which are never opened"),
    "t.h5": (b"\x89HDF" + bytes(50), "HDF5"),
    "t.png": (b"\x89PNG" + bytes(50), "one folder of images for each class"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_kinds_of_files_say_what_to_save_instead(tmp_path, name):
    content, message = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?i){message}"):
        load([tmp_path / name] * 2)


def test_the_report_says_all_of_it_and_survives_json(tmp_path, frame):
    a = write(tmp_path / "a.csv", frame.assign(nr=range(ROWS)).to_csv(index=False, sep=";", decimal=","), "cp1252")
    b = write(
        tmp_path / "b.csv",
        frame[frame["label"] == "Gans"]
        .assign(
            label=["Gans", "Ente"] * (sum(frame["label"] == "Gans") // 2)
            + ["Ente"] * (sum(frame["label"] == "Gans") % 2)
        )
        .to_csv(index=False),
    )
    report = load([a, b]).report
    text = "\n".join(report.lines())
    for part in (
        "semicolons with decimal commas in Windows-1252",
        "'nr'",
        "Gans: ",
        "shared classes: Gans",
        "inputs: 3 columns",
    ):
        assert part in text, text
    assert report.classes["Möwe"][1] == 0 and sum(report.classes["Gans"]) > 30
    assert Report.model_validate(report.to_dict()) == report
    apart = load([a, b], apart=True).report
    assert not apart.shared and "A: Gans" in apart.classes
