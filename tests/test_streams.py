import gzip

import numpy as np
import pytest
import torch

from nllab.errors import DataError, SettingError
from nllab.streams import REGISTRY, build, digits, images
from nllab.streams.stream import Part, Task, letter, rotated


def rows(part):
    return {tuple(row.tolist()) for row in part.inputs}


# Names are held apart whole; their windows may be alike (tests/test_names.py).
ON_DISK = [name for name, (module, _) in REGISTRY.items() if module not in ("images", "names", "sequences")]
CHANGING = ("drifting-digits", "noisy-digits")  # their training images are not the test's


@pytest.mark.parametrize("name", [name for name in ON_DISK if name not in CHANGING])
def test_parts_share_no_sample_and_every_task_has_them(name):
    stream = build(name, hold_out=True)
    assert stream.name == name and set(stream.plan) == set(range(len(stream.tasks)))
    for task in stream.tasks:
        train, validation, test = (rows(part) for part in (task.train, task.validation, task.test))
        assert train and validation and test
        assert not (train & test or train & validation or validation & test)


def test_holding_out_takes_from_training_alone():
    whole, held = build("digits-ab"), build("digits-ab", hold_out=True)
    for a, b in zip(whole.tasks, held.tasks, strict=True):
        assert torch.equal(a.test.inputs, b.test.inputs)
        assert rows(a.train) == rows(b.train) | rows(b.validation)


def test_digits_ab_brings_new_classes_and_5x2_two_at_a_time():
    ab, five = build("digits-ab"), build("digits-5x2")
    assert [set(task.train.labels.tolist()) for task in ab.tasks] == [{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}]
    assert [set(task.test.labels.tolist()) for task in five.tasks] == [{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}]
    assert sum(len(task.train) + len(task.test) for task in ab.tasks) == 1797


def test_permutation_keeps_images_and_moves_their_pixels_by_seed():
    a, b = build("permuted-digits", seed=1).tasks
    assert torch.equal(a.train.labels, b.train.labels) and not torch.equal(a.train.inputs, b.train.inputs)
    assert torch.equal(a.train.inputs.sort(1).values, b.train.inputs.sort(1).values)
    assert torch.equal(b.train.inputs, build("permuted-digits", seed=1).tasks[1].train.inputs)
    assert not torch.equal(b.train.inputs, build("permuted-digits", seed=2).tasks[1].train.inputs)


def test_another_split_cuts_other_samples():
    assert rows(build("digits-ab", split=0).tasks[0].test) != rows(build("digits-ab", split=1).tasks[0].test)


def test_names_and_empty_tasks():
    assert [letter(i) for i in (0, 1, 25, 26, 52)] == ["A", "B", "Z", "A2", "A3"]
    with pytest.raises(SettingError, match="Did you mean 'digits-ab'"):
        build("digit-ab")
    some, none = Part(torch.zeros(2, 3), torch.zeros(2)), Part(torch.zeros(0, 3), torch.zeros(0))
    with pytest.raises(DataError, match="'A' has an empty train part"):
        Task("A", "", none, none, some)


def test_rotation_by_quarters_is_exact_and_keeps_the_background():
    image = torch.arange(16.0).reshape(1, 16)
    quarter = rotated(Part(image, torch.zeros(1)), torch.tensor(90.0), (4, 4), background=-5.0).inputs.reshape(4, 4)
    assert torch.allclose(quarter, torch.rot90(image.reshape(4, 4), 1), atol=1e-4)
    tilted = rotated(Part(torch.full((1, 16), -5.0), torch.zeros(1)), torch.tensor(45.0), (4, 4), background=-5.0)
    assert torch.allclose(tilted.inputs, torch.full((1, 16), -5.0))


def test_remapped_labels_contradict_the_first_task():
    a, b = build("remapped-digits").tasks
    assert torch.equal(a.train.inputs, b.train.inputs) and torch.equal((a.train.labels + 1) % 10, b.train.labels)


def test_drift_begins_upright_and_ends_where_it_is_tested():
    task = build("drifting-digits", seed=3).tasks[0]
    upright = rows(build("permuted-digits").tasks[0].train)
    close = torch.tensor(sorted(upright))
    assert (
        task.in_order
        and (close - task.train.inputs[0]).norm(dim=1).min() < 1e-3 < (close - task.train.inputs[-1]).norm(dim=1).min()
    )


def test_noise_is_one_burst_of_labels():
    clean = {
        tuple(i.tolist()): int(y)
        for p in [build("permuted-digits").tasks[0].train]
        for i, y in zip(p.inputs, p.labels, strict=True)
    }
    train = build("noisy-digits").tasks[0].train
    wrong = [
        n for n, (i, y) in enumerate(zip(train.inputs, train.labels, strict=True)) if clean[tuple(i.tolist())] != int(y)
    ]
    start, length = len(train) // 2, len(train) // 10
    assert all(start <= n < start + length for n in wrong) and 0.8 * length < len(wrong) < length


def test_a_task_that_returns_is_visited_twice():
    assert build("digits-aba").plan == (0, 1, 0) and len(build("digits-aba").tasks) == 2
    assert len(build("permuted-digits-50").tasks) == 50 and len(build("permuted-digits-5").tasks) == 5


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_idx_files_are_read_zipped_or_not_and_from_the_users_folder(tmp_path, monkeypatch):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    monkeypatch.setenv("NLLAB_DATA", str(tmp_path))
    for path in (tmp_path / "plain", images.find("t10k-labels-idx1-ubyte.gz")):
        assert np.array_equal(images.read_idx(path), array)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x00", b"PNG, not IDX", idx(np.zeros((2, 2), np.uint8))[:-1], gzip.compress(b"xx", mtime=0)[:-4]],
)
def test_a_damaged_idx_file_is_refused_in_words(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(DataError, match=r"^'f' "):
        images.read_idx(tmp_path / "f")


def test_without_files_and_network_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "DEBIAN", tmp_path)
    monkeypatch.setattr(images.pooch, "os_cache", lambda _: tmp_path)
    monkeypatch.setattr(images.pooch, "retrieve", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.delenv("NLLAB_DATA", raising=False)
    with pytest.raises(DataError, match="NLLAB_DATA, or on Debian run: apt-get install dataset-fashion-mnist"):
        images.find("train-images-idx3-ubyte.gz")


@pytest.mark.skipif(not images.DEBIAN.is_dir(), reason="Fashion-MNIST is not on this machine")
def test_fashion_is_whole_and_holds_out_a_tenth():
    whole, held = images.fashion(0, False), images.fashion(0, True)
    assert (len(whole.train), len(whole.validation), len(whole.test)) == (60_000, 0, 10_000)
    assert (len(held.train), len(held.validation)) == (
        54_000,
        6_000,
    ) and held.validation.labels.bincount().tolist() == [600] * 10
    assert abs(float(whole.train.inputs.mean())) < 1e-3 and abs(float(whole.train.inputs.std()) - 1) < 1e-3


def test_the_cut_that_is_kept_is_the_cut_that_is_made():
    from sklearn.datasets import load_digits

    """Read from a file so that a page need not load scikit-learn; it must be what scikit-learn gives, images
    included."""
    pixels, labels = load_digits(return_X_y=True)
    train, _, test = digits.cut(labels, 0, False)
    kept = digits.digits(0, False)
    for part, rows_ in ((kept.train, train), (kept.test, test)):
        assert part.labels.tolist() == labels[rows_].tolist()
        assert torch.equal(
            part.inputs, torch.tensor((pixels[rows_] / 16 - digits.MEAN) / digits.STD, dtype=torch.float32)
        )
