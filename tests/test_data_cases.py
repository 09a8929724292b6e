"""Files as people bring them, after public reports of tables that were read wrongly: every one is read as its author
meant it, out loud, or is refused with what to change."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nllab.data import load
from nllab.errors import DataError

ROWS = 60
DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(2, ROWS)).round(4)
LABELS = np.array(["a", "b"] * (ROWS // 2))


def table(place, name, header="x,y,label", row="{x},{y},{label}", above="", end="\n", below=""):
    lines = [header, *(row.format(i=i, digit=i % 10, x=X[i], y=Y[i], label=LABELS[i]) for i in range(ROWS))]
    (place / name).write_bytes((above + end.join(lines) + end + below).encode())
    return place / name


def values(path, *others):
    return load([path, *(others or [path])])


def is_plain(loaded, columns=2):
    assert loaded.inputs[0].shape == (ROWS, columns) and set(loaded.classes) == {"a", "b"}
    assert np.allclose(loaded.inputs[0][:, 0], X)
    return loaded.report


@pytest.mark.parametrize("above", ["# Logger 3000\n# serial 17\n", "Logger 3000\nserial;17\n\n", "Station 4\n\n\n"])
def test_lines_that_an_instrument_writes_above_its_table(tmp_path, above):
    report = is_plain(values(table(tmp_path, "a.csv", above=above)))
    assert above.startswith("#") or any("above the table" in str(left) for left in report.left_out)


def test_a_separator_at_the_end_of_every_row_but_the_header(tmp_path):
    is_plain(values(table(tmp_path, "a.csv", row="{x},{y},{label},"), table(tmp_path, "b.csv")))


def test_row_names_as_r_writes_them_are_no_column(tmp_path):
    report = is_plain(values(table(tmp_path, "a.csv", row='"{i}",{x},{y},{label}')))
    assert any("without a name" in str(left) for left in report.left_out)


def test_a_number_that_stands_for_missing_is_named_and_a_large_measurement_is_not(tmp_path):
    holed = table(tmp_path, "a.csv")
    text = holed.read_text().splitlines()
    for at in (3, 9, 27):
        text[at] = "-9999," + text[at].partition(",")[2]
    holed.write_text("\n".join(text))
    (warning,) = load([holed, table(tmp_path, "b.csv")]).report.warnings
    assert "-9999, which 3 cells hold," in warning and "'x'" in warning and "empty" in warning
    assert not load([table(tmp_path, "c.csv", row="{x}e4,{y},{label}")] * 2).report.warnings


def test_a_line_of_units_and_a_line_of_totals_are_refused_with_the_reason(tmp_path):
    for path in (
        table(tmp_path, "units.csv", header="x,y,label\nmm,kg,-"),
        table(tmp_path, "totals.csv", below="17.5,3.2,Total\n"),
    ):
        with pytest.raises(DataError, match="units or a total"):
            values(path)


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_line_ends_of_other_systems(tmp_path, end):
    is_plain(values(table(tmp_path, "a.csv", end=end)))


def test_headers_with_spaces_and_capitals_are_the_same_columns(tmp_path):
    report = is_plain(values(table(tmp_path, "a.csv", header=" X, y ,Label "), table(tmp_path, "b.csv")))
    assert not any("not in every table" in str(left) for left in report.left_out)


def test_truth_values_of_two_programs_are_the_same_classes(tmp_path):
    for name, words in (("a.csv", ("True", "False")), ("b.csv", ("TRUE", "FALSE"))):
        pd.DataFrame({"x": X, "label": [words[i % 2] for i in range(ROWS)]}).to_csv(tmp_path / name, index=False)
    assert load([tmp_path / "a.csv", tmp_path / "b.csv"]).report.shared == ("False", "True")


def test_zeros_that_a_spreadsheet_took_from_labels_are_asked_about(tmp_path):
    frame = pd.DataFrame({"x": X, "label": ["007", "012"] * (ROWS // 2)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.assign(label=[7, 12] * (ROWS // 2)).to_excel(tmp_path / "b.xlsx", index=False)
    first, second = load([tmp_path / "a.csv", tmp_path / "b.xlsx"]).report.warnings
    assert "'007', '7'" in first and "'012', '12'" in second and "spellings" in first


def test_rows_that_repeat_are_told_since_they_stand_in_training_and_test(tmp_path):
    doubled = table(tmp_path, "a.csv", row="1.{digit},2.5,{label}")
    notes = load([doubled, table(tmp_path, "b.csv")]).report.notes
    assert any("A: 50 of 60 samples repeat" in note and "partly trained on" in note for note in notes)


def test_one_hot_labels_and_labels_in_a_column_of_their_own(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=DRAW.normal(size=(40, 3)), labels=np.eye(2)[np.arange(40) % 2])
    with pytest.raises(DataError, match=r"labels.argmax\(1\)"):
        values(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", inputs=DRAW.normal(size=(40, 3)), labels=(np.arange(40) % 2).reshape(-1, 1))
    assert values(tmp_path / "b.npz").classes == ("0", "1")


def test_a_folder_of_pictures_of_all_kinds_with_what_systems_leave_in_it(tmp_path):
    kinds = [
        ("RGB", "JPEG", "jpg"),
        ("P", "PNG", "png"),
        ("CMYK", "JPEG", "jpg"),
        ("RGB", "PNG", "jpeg"),
        ("P", "GIF", "gif"),
    ]
    for label in "ab":
        folder = tmp_path / label
        folder.mkdir()
        (folder / ".DS_Store").write_bytes(b"\0\1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
        for i, (mode, form, ending) in enumerate(kinds):
            pixels = np.full((12, 10, 3), 40 + 20 * i, dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / f"{i}.{ending}", format=form)
    loaded = load([tmp_path, tmp_path])
    expected = np.tile((40 + 20 * np.arange(len(kinds))) / 255, 2)
    assert np.abs(loaded.inputs[0].mean(axis=(1, 2)) - expected).max() < 0.02
    assert len(loaded.report.left_out) == 2 and loaded.report.paths[0].samples == 10
