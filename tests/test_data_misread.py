"""Files that were once read wrongly without a word: each is read as its author meant it, or the report says what may be
wrong with it."""

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image

from nllab.data import load
from nllab.errors import DataError

ROWS = 40


def frame(seed=0):
    draw = np.random.default_rng(seed)
    return pd.DataFrame({"a": draw.normal(size=ROWS).round(3), "b": draw.normal(size=ROWS).round(3)}).assign(
        label=np.array(["cat", "dog"])[draw.permutation(np.arange(ROWS) % 2)]
    )


def saved(place, table, **options):
    table.to_csv(place, index=False, **options)
    return place


@pytest.fixture
def pair(tmp_path):
    """(a function of two tables -> what is loaded, its warnings as one text)"""

    def read(one, other=None):
        paths = [saved(tmp_path / f"{i}.csv", table) for i, table in enumerate((one, one if other is None else other))]
        loaded = load(paths)
        return loaded, " ".join(loaded.report.warnings)

    return read


def test_a_text_that_says_the_class_is_named_and_so_is_a_number_that_nearly_does(pair):
    three = pd.concat([frame(), frame(1).assign(label="owl")])
    _, said = pair(three.assign(kind=three.label.str.upper()))
    assert "A: Column 'kind' alone tells all classes apart" in said
    long = pd.concat([frame(seed) for seed in range(5)])
    score = np.where(long.label == "cat", 0.3, 0.7) + np.linspace(-0.1, 0.1, len(long))
    score[7] = 1 - score[7]
    assert "Column 'score' alone tells the classes of 99%" in pair(long.assign(score=score))[1]
    assert "alone" not in pair(long.assign(noise=np.linspace(0, 1, len(long)) ** 2 % 0.37))[1]


def test_whole_numbers_with_a_decimal_comma_are_the_same_labels(tmp_path):
    numbers = frame().assign(label=(frame().label == "cat") * 1.0)
    german = saved(tmp_path / "a.csv", numbers, sep=";", decimal=",")
    assert '"0,0"' in german.read_text() or ";0,0" in german.read_text()
    assert load([german, saved(tmp_path / "b.csv", numbers.astype({"label": int}))]).classes == ("0", "1")


def test_dates_are_read_alike_in_both_tables_and_asked_about_where_none_tells(pair):
    draw = np.random.default_rng(2)
    unclear = frame(1).assign(when=[f"{d:02}/{m:02}/2026" for d, m in draw.integers(1, 13, (ROWS, 2))])
    clear = frame().assign(when=[f"{d:02}/{m:02}/2026" for d, m in draw.integers(1, 13, (ROWS, 2)) + [[14, 0]]])
    for tables in ((clear, unclear), (unclear, clear)):
        loaded, said = pair(*tables)
        for values, table in zip(loaded.inputs, tables, strict=True):
            days = pd.to_datetime(table.when, dayfirst=True) - pd.Timestamp("1970-01-01")
            assert np.allclose(values[:, 2], days.dt.total_seconds()) and "days from months" not in said
    assert "do not tell days from months" in pair(unclear)[1]
    mixed = [f"2026-01-{1 + i % 28:02}" + " 10:30" * int(i % 3 == 0) for i in draw.permutation(ROWS)]
    loaded, _ = pair(frame().assign(when=mixed))
    wanted = pd.to_datetime(pd.Series(mixed), format="mixed") - pd.Timestamp("1970-01-01")
    assert np.allclose(loaded.inputs[0][:, 2], wanted.dt.total_seconds())


@pytest.mark.parametrize("name", ["patient_id", "ID", "PatientID", "Unnamed: 0.1", "index", "sample nr.", "#"])
def test_numbers_of_rows_that_are_in_no_order_are_left_out(pair, name):
    draw = np.random.default_rng(0).permutation(10**6)
    loaded, _ = pair(frame().assign(**{name: draw[:ROWS]}), frame(1).assign(**{name: draw[ROWS : 2 * ROWS]}))
    assert loaded.inputs[0].shape[1] == 2 and loaded.report.left_out


def test_a_count_that_begins_anew_is_no_measurement(pair):
    loaded, _ = pair(frame().assign(frame_in_clip=[*range(25), *range(15)]))
    assert loaded.inputs[0].shape[1] == 2 and "beginning anew" in loaded.report.left_out[0].why


def test_the_header_of_joined_files_is_no_row(tmp_path):
    text = frame().to_csv(index=False)
    (tmp_path / "a.csv").write_text(text + "\ufeff" + text + text + text)
    loaded = load([tmp_path / "a.csv"] * 2)
    assert loaded.classes == ("cat", "dog") and len(loaded.labels[0]) == 4 * ROWS
    assert np.allclose(loaded.inputs[0][:ROWS, 0], frame().a)


@pytest.mark.parametrize(
    ("x", "n", "value"),
    [
        ("1.5", "12,500", 12_500),
        ("1,5", "12.500", 12_500),
        ("1,5", "1.012.500,25", 1_012_500.25),
        ("1.5", "(12.50)", -12.5),
        ("1.5", "12.5 kg", 12.5),
    ],
)
def test_numbers_are_what_the_rest_of_the_table_says(tmp_path, x, n, value):
    rows = [f"{x}{i};{n.replace('12', '13') if i else n};{'ab'[i]}" for i in (0, 1) * 20]
    (tmp_path / "t.csv").write_text("\n".join(["x;n;label", *rows]))
    assert load([tmp_path / "t.csv"] * 2).inputs[0][0, 1] == value


def test_decimal_commas_without_quotes_are_no_names_of_rows(tmp_path):
    (tmp_path / "t.csv").write_text("x,label\n" + "\n".join(f"{i % 9},{i % 10},{'ab'[i % 2]}" for i in range(ROWS)))
    with pytest.raises(DataError, match="quote numbers with a decimal comma"):
        load([tmp_path / "t.csv"] * 2)


def test_versions_and_codes_are_no_times(pair):
    loaded, _ = pair(frame().assign(version=np.resize(["1.2.3", "2.0.1", "1.10.0"], ROWS)))
    assert "as text; in its place" in loaded.report.left_out[0].why and not loaded.report.converted


def test_text_that_holds_measurements_says_so(pair):
    loaded, _ = pair(frame().assign(depth=["<0.1", "<0.1", *range(1, 19)] * 2, sort=["x1", "u2", "v3"] * 13 + ["x1"]))
    assert "if these are measurements, write them as numbers alone" in loaded.report.left_out[0].why
    assert len(loaded.report.left_out) == 2 and "as text; in its place" in loaded.report.left_out[1].why


def test_rows_of_values_are_no_header(tmp_path):
    answers = "\n".join(f"{i / 7:.2f},{'yn'[i % 2]},{i * i % 11}" for i in range(ROWS))
    (tmp_path / "t.csv").write_text(answers)
    loaded = load([tmp_path / "t.csv"] * 2)
    assert loaded.classes == ("n", "y") and len(loaded.labels[0]) == ROWS
    (tmp_path / "t.csv").write_text(answers.replace("y", "None"))
    assert load([tmp_path / "t.csv"] * 2).classes == ("None", "n")
    (tmp_path / "t.csv").write_text("\n".join("rep,y,n,y" if i % 3 else "dem,n,y,n" for i in range(ROWS)))
    with pytest.raises(DataError, match="holds the classes is not clear"):
        load([tmp_path / "t.csv"] * 2)


def test_coordinates_are_no_classes(pair):
    with pytest.raises(DataError, match="which may be places"):
        pair(frame().rename(columns={"a": "x", "b": "y", "label": "species"}))


def test_what_b_means_by_its_values_is_asked_where_it_is_not_what_a_means(pair):
    _, said = pair(frame().assign(a=frame().a * 30 + 120), frame(1).assign(a=frame(1).a / 5 + 0.5))
    assert "B: 1 column may be in another unit than in A, such as 'a'" in said
    sexes = np.resize(["male", "female", "female"], ROWS)
    _, said = pair(frame().assign(sex=sexes), frame(1).assign(sex=[sex[0].upper() for sex in sexes]))
    assert "B: column 'sex' holds 'M' and others where A holds 'female', 'male'" in said
    _, said = pair(frame().assign(label=frame().label == "cat"), frame(1).assign(label=(frame().label == "cat") * 1))
    assert "A has the classes 'False', 'True' and B '0', '1', none in common" in said
    loaded, said = pair(frame(), frame(1).assign(b=1.0))
    assert "B: 'b' does not vary here and does in A." in loaded.report.notes and not said
    assert not pair(frame(), frame(1))[1]


def test_samples_of_two_classes_are_named(pair):
    doubled = pd.concat([frame(), frame().assign(label="owl")])
    assert "A: 80 of 80 samples have the same inputs as a sample of another class" in pair(doubled)[1]


def test_names_in_an_unknown_encoding_are_asked_about(tmp_path):
    russian = frame().assign(label=frame().label.map({"cat": "кот", "dog": "пёс"}))
    paths = [saved(tmp_path / "a.csv", russian, encoding="cp1251"), saved(tmp_path / "b.csv", russian)]
    assert "A: the text is not UTF-8" in " ".join(load(paths).report.warnings)
    (tmp_path / "a.csv").write_text("\ufeff\ufeff" + russian.to_csv(index=False))
    assert load(paths).inputs[0].shape[1] == 2


def test_a_workbook_is_read_where_its_table_stands(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["Notes of last year"])
    sheet = book.create_sheet("data")
    sheet["A2"] = "Measurements 2026"
    sheet.append([])
    for row in [["a", "b", "label"], *frame().to_numpy().tolist(), [None] * 3, ["mean", 0.5, None]]:
        sheet.append(row)
    book.save(tmp_path / "t.xlsx")
    loaded = load([tmp_path / "t.xlsx", saved(tmp_path / "t.csv", frame())])
    assert np.array_equal(loaded.inputs[0], frame()[["a", "b"]]) and loaded.classes == ("cat", "dog")
    assert "'data'" in loaded.report.paths[0].read_as and "'Sheet'" in str(loaded.report.left_out)


def test_quotes_keep_the_spaces_of_a_cell_in_a_table_of_spaces(tmp_path):
    rows = [f'{row.a}  "New York" {row.label}' for row in frame().itertuples()]
    (tmp_path / "t.txt").write_text("\n".join(["a town label", *rows]))
    assert load([tmp_path / "t.txt"] * 2).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [((5, ROWS), (ROWS,), "lie along the last axis"), ((8, 8, 3, ROWS), (ROWS, 1), "lie along the last axis")],
)
def test_arrays_with_the_samples_last_say_how_to_turn_them(tmp_path, inputs, labels, message):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", inputs=draw.normal(size=inputs), labels=draw.integers(0, 2, labels))
    with pytest.raises(DataError, match=message):
        load([tmp_path / "t.npz"] * 2)


@pytest.mark.parametrize(
    ("text", "what"), [('[{"a": 1}]', "JSON"), ("<!DOCTYPE html>", "web page"), ("@relation x\n@data\n1,2", "ARFF")]
)
def test_texts_that_are_no_tables_say_what_they_are(tmp_path, text, what):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=what):
        load([tmp_path / "t.csv"] * 2)


def pictures(place, make, count=4, ending="png"):
    for label in ("cat", "dog"):
        (place / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(make(i)).save(place / label / f"{i}.{ending}")
    return place


def test_images_of_other_ranges_and_files_that_are_not_read_are_asked_about(tmp_path):
    draw = np.random.default_rng(0)
    eight = pictures(tmp_path / "8", lambda _: draw.integers(0, 256, (9, 9), dtype=np.uint8))
    twelve = pictures(tmp_path / "12", lambda _: draw.integers(0, 4096, (9, 9), dtype=np.uint16))
    strokes = draw.random((9, 9)) > 0.9
    black = pictures(tmp_path / "b", lambda i: (np.roll(strokes, i) * 200).astype(np.uint8))
    white = pictures(tmp_path / "w", lambda i: (255 - np.roll(strokes, i) * 200).astype(np.uint8))
    for one, other, wanted in ((eight, twelve, True), (black, white, True), (eight, eight, False)):
        assert ("bring them to one range" in " ".join(load([one, other]).report.warnings)) == wanted
    dark = pictures(
        tmp_path / "f", lambda i: draw.random((9, 9)).astype(np.float32) * (200 if i else 0.9), ending="tiff"
    )
    assert load([dark, dark]).inputs[0][0].max() < 0.01  # one white for all, not one for every image
    (eight / "cat" / "photo.heic").write_bytes(b"ftypheic")
    (eight / "owl").mkdir()
    (eight / "linked").symlink_to(black / "cat")
    report = load([eight, eight]).report
    assert "1 .heic were left out beside 8 images" in report.warnings[0]
    assert "1 linked folder(s)" in report.left_out[0].what and "1 empty folder(s)" in report.left_out[0].what


# -- 28 November: files of a second round


def test_numbers_with_a_point_here_and_a_comma_there_in_one_column(pair):
    """0,123 was read as 123 where another cell of its column has a point."""
    both = [f"{x:.3f}".replace(".", ",") if i % 2 else f"{x:.4f}" for i, x in enumerate(frame(1).a)]
    loaded, said = pair(frame(), frame(1).assign(a=both))
    column = loaded.inputs[1][:, 0]
    assert np.allclose(column, frame(1).a, atol=6e-4) and "column 'a' holds" in said and "decimal signs" in said
    clean = frame(1).assign(a=[f"{x * 1000:,.1f}" for x in frame(1).a])
    assert "decimal signs" not in pair(clean)[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [("{:.1f} kg", "{:.1f} lb"), ("${:.2f}", "€{:.2f}"), ("{:.1f}%", "{:.3f}"), ("{:.3f}", "{:.1f} %")],
)
def test_a_column_in_another_unit_or_currency_in_b_is_named(pair, one, other):
    a, b = (
        table.assign(a=[text.format(abs(x)) for x in table.a]) for text, table in ((one, frame()), (other, frame(1)))
    )
    assert "B: column 'a' is" in pair(a, b)[1] and "column 'a' is" not in pair(a, a)[1]


def test_times_with_a_zone_in_one_table_alone_are_named(pair):
    def times(seed, zone):
        return frame(seed).assign(when=[f"2026-03-{i % 28 + 1:02} {i * 7 % 24:02}:00:00{zone(i)}" for i in range(ROWS)])

    local, utc, some = times(1, lambda i: ""), times(0, lambda i: "+02:00"), times(0, lambda i: "Z" if i % 2 else "")
    assert "without a time zone' and in A 'in times with" in pair(utc, local)[1]
    assert "A: some times of column 'when' have a time zone" in pair(some, utc)[1]
    assert "zone" not in pair(utc, utc)[1] and "zone" not in pair(local, local)[1]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (("cat", "dog"), ("cats", "dogs"), "may be spellings of one"),
        (("Müller", "Özil"), ("MÃ¼ller", "Ã–zil"), "may be spellings of one"),
        (("cat", "dog"), ("c\u0430t", "dog"), "may be spellings of one"),
        (("cat", "dog"), ("cat (1)", "dog"), "may be spellings of one"),
        (("setosa", "virginica"), ("Iris-setosa", "Iris-virginica"), "none in common"),
        (("0", "1"), ("1", "2"), "once from 0 and once from 1"),
        (("MARCH1", "SEPT2"), ("1-Mar", "2-Sep"), "are dates, into which spreadsheets"),
        (("MARCH1", "SEPT2"), ("2026-03-01 00:00:00", "2026-09-02 00:00:00"), "are dates, into which spreadsheets"),
        (("01. Mrz", "02. Sep"), ("x", "z"), "are dates, into which spreadsheets"),
        (("1E5", "2E5"), ("100000", "200000"), "none in common"),
    ],
)
def test_labels_that_may_be_one_class_are_asked_about(pair, one, other, said):
    def named(table, names):
        return table.assign(label=table.label.map(dict(zip(("cat", "dog"), names, strict=True))))

    a, b = named(frame(), one), named(frame(1), other)
    assert said in pair(a, b)[1]
    assert pair(named(frame(), ("cat", "dog")), named(frame(1), ("horse", "ship")))[1] == ""


def test_a_code_with_an_e_is_no_number_and_a_number_of_a_program_is(tmp_path):
    codes = frame().assign(label=np.where(frame().label == "cat", "3E2", "3e5"))
    assert load([saved(tmp_path / "a.csv", codes)] * 2).classes == ("3E2", "3e5")
    written = codes.assign(label=np.where(frame().label == "cat", "3e+02", "3.0E5"))
    assert load([saved(tmp_path / "b.csv", written)] * 2).classes == ("300", "300000")


def test_a_column_of_training_and_test_is_no_input(pair):
    loaded, _ = pair(frame().assign(split=["Train", "test", "train", "val"] * (ROWS // 4)))
    assert loaded.inputs[0].shape[1] == 2 and "the lab cuts its own parts" in str(loaded.report.left_out)


def test_columns_elsewhere_and_of_tiny_numbers_are_told_and_kept(pair):
    from nllab.data.scale import Scale

    loaded, said = pair(frame().assign(a=20 + 5 * frame().a), frame(1).assign(a=68 + 9 * frame(1).a))
    assert said == "" and "1 column lie outside of A's range, such as 'a'" in " ".join(loaded.report.notes)
    tiny = frame()[["a", "b"]].to_numpy()
    assert np.allclose(Scale.of_columns(tiny * 1e-250)(tiny * 1e-250), Scale.of_columns(tiny)(tiny))


def test_quotation_marks_behind_a_backslash_stay_in_their_cell(tmp_path):
    lines = [f'{a},"he said \\"hi, {b}\\"",{b},{label}' for a, b, label in frame().itertuples(index=False)]
    (tmp_path / "a.csv").write_text("a,note,b,label\n" + "\n".join(lines))
    loaded = load([tmp_path / "a.csv", saved(tmp_path / "b.csv", frame(1))])
    assert np.array_equal(loaded.inputs[0], frame()[["a", "b"]])


def test_formulas_that_were_never_calculated_are_named(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["a", "b", "label"])
    for i, (a, _, label) in enumerate(frame().itertuples(index=False), start=2):
        book.active.append([a, f"=A{i}*2", label])
    book.save(tmp_path / "a.xlsx")
    said = " ".join(load([tmp_path / "a.xlsx", saved(tmp_path / "b.csv", frame(1))]).report.warnings)
    assert "('b') of the Excel file hold no values" in said


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,label\n1,x\n<<<<<<< HEAD\n2,x\n=======\n3,x\n>>>>>>> theirs\n4,y\n", "line 3 begins a merge conflict"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n", "git lfs pull"),
        ("| a | label |\n|---|:-:|\n| 1 | x |\n| 2 | y |\n", "drawn with lines"),
        ("+---+-------+\n| a | label |\n+---+-------+\n| 1 | x     |\n", "drawn with lines"),
    ],
)
def test_more_texts_that_are_no_tables(tmp_path, text, what):
    test_texts_that_are_no_tables_say_what_they_are(tmp_path, text, what)


def test_numbers_in_place_of_classes_and_addresses_in_place_of_files_say_so(tmp_path):
    amounts = saved(tmp_path / "a.csv", frame().assign(label=np.arange(ROWS) // 2 * 7))
    with pytest.raises(DataError, match="amounts and not classes"):
        load([amounts, amounts])
    with pytest.raises(DataError, match="is an address and not a file"):
        load(["https://example.org/a.csv", amounts])


def test_how_images_were_saved_or_marked_is_named_where_it_tells_the_classes(tmp_path):
    def folder(name, draw):
        for kind in ("cat", "dog"):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(12):
                image = np.random.default_rng(i + 100 * (kind == "dog")).integers(0, 256, (12, 12)).astype("u1")
                draw(tmp_path / name / kind / str(i), image, kind == "dog")
        return tmp_path / name

    def marked(place, image, dog):
        image[0, 0] = 255 * dog
        Image.fromarray(image).save(f"{place}.png")

    plain = folder("plain", lambda place, image, dog: Image.fromarray(image).save(f"{place}.png"))
    cases = {
        "format": lambda place, image, dog: Image.fromarray(image).save(f"{place}.{'jpg' if dog else 'png'}"),
        "size": lambda place, image, dog: Image.fromarray(image[: 12 - 2 * dog]).save(f"{place}.png"),
        "number of channels": lambda place, image, dog: (
            Image.fromarray(image).convert("RGB" if dog else "L").save(f"{place}.png")
        ),
    }
    for what, draw in cases.items():
        said = " ".join(load([folder(what, draw), plain]).report.warnings)
        assert f"A: the images' {what} alone tells all classes apart" in said and said.count("alone") == 1
    said = " ".join(load([plain, folder("marked", marked)]).report.warnings)
    assert "B: the pixel at row 0, column 0 alone tells all classes apart" in said and said.count("alone") == 1
    assert load([plain, plain]).report.warnings == ()


def test_white_for_black_is_asked_about_and_transparent_arrays_are_told(tmp_path):
    drawn = np.zeros((40, 12, 12), np.uint8)
    for i in range(40):
        drawn[i, 3:9, 3 + i % 2 * 3 : 6 + i % 2 * 3] = 180 + i
    np.savez(tmp_path / "a.npz", inputs=drawn, labels=np.arange(40) % 2)
    np.savez(tmp_path / "b.npz", inputs=255 - drawn, labels=np.arange(40) % 2)
    assert "black and white" in " ".join(load([tmp_path / "a.npz", tmp_path / "b.npz"]).report.warnings)
    clear = np.random.default_rng(0).random((40, 8, 8, 4))
    np.savez(tmp_path / "c.npz", inputs=clear, labels=np.arange(40) % 2)
    assert "transparent lies on white" in str(load([tmp_path / "c.npz"] * 2).report.converted)
