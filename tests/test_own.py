"""Streams of the user's own data: what can be read is read as it is, what cannot is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from nllab.errors import DataError, DataWarning, SettingError
from nllab.experiment import Experiment
from nllab.streams import build
from nllab.streams.own import stratified
from nllab.trainer import train


def save(path, labels, inputs=None, seed=0):
    labels = np.asarray(labels)
    inputs = np.random.default_rng(seed).normal(size=(len(labels), 5)) if inputs is None else inputs
    np.savez(path, inputs=inputs, labels=labels)
    return path


def stream_of(*paths, kind="own", **settings):
    return build(f"{kind}:{','.join(map(str, paths))}", **settings)


def test_disjoint_labels_bring_new_classes_and_equal_ones_share_them(tmp_path):
    a, b = save(tmp_path / "a.npz", [0, 1] * 20), save(tmp_path / "b.npz", [2, 10] * 20, seed=1)
    stream = stream_of(a, b)
    assert stream.classes == 4 and [set(task.train.labels.tolist()) for task in stream.tasks] == [{0, 1}, {2, 3}]
    assert stream.task_names == ("A", "B") and stream.features == 5 and "2, 10" in stream.tasks[1].about
    shared = stream_of(a, a)
    assert shared.classes == 2
    apart = stream_of(a, a, kind="own-apart")
    assert apart.classes == 4 and set(apart.tasks[1].test.labels.tolist()) == {2, 3}


def test_parts_are_stratified_seeded_and_share_no_sample(tmp_path):
    labels = np.array([0] * 40 + [1] * 12)
    a = save(tmp_path / "a.npz", labels)
    for hold_out, sizes in ((False, (39, 0, 13)), (True, (35, 4, 13))):
        task = stream_of(a, a, hold_out=hold_out).tasks[0]
        assert tuple(map(len, (task.train, task.validation, task.test))) == sizes
        assert int((task.test.labels == 1).sum()) == 3
    parts = [set(part.tolist()) for part in stratified(labels.astype(str), 0, True)]
    assert set.union(*parts) == set(range(52)) and sum(map(len, parts)) == 52
    first, again, other = (stream_of(a, a, split=split).tasks[0].test.inputs for split in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_inputs_are_normalised_by_the_first_tasks_training_part_alone(tmp_path):
    inputs = np.random.default_rng(0).normal(3, 2, (80, 4))
    inputs[:, 3] = 7
    a, b = save(tmp_path / "a.npz", [0, 1] * 40, inputs), save(tmp_path / "b.npz", [0, 1] * 40, inputs + 100)
    first, second = stream_of(a, b).tasks
    assert torch.allclose(first.train.inputs[:, :3].mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(first.train.inputs[:, :3].std(0, correction=0), torch.ones(3), atol=1e-4)
    assert (first.train.inputs[:, 3] == 0).all() and second.train.inputs[:, :3].mean() > 20
    assert (second.train.inputs[:, 3] == 0).all()  # A says nothing of this column's scale


def test_tables_and_folders_hold_the_same_as_arrays(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 6, 7), dtype=np.uint8)
    names = ["cat", "dog"] * 12
    for i, (image, name) in enumerate(zip(pixels, names, strict=True)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
        (folder / "notes.txt").write_text("no picture")
    order = np.argsort(names, kind="stable")
    arrays = save(tmp_path / "a.npz", np.array(names)[order], pixels[order])
    flat = pixels[order].reshape(24, -1)
    rows = ["label," + ",".join(f"p{i}" for i in range(42))]
    rows += [f"{name}," + ",".join(map(str, row)) for name, row in zip(np.array(names)[order], flat, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    folder, array = stream_of(tmp_path / "pictures", tmp_path / "pictures"), stream_of(arrays, arrays)
    assert folder.image_shape == array.image_shape == (6, 7)
    assert torch.allclose(folder.tasks[0].train.inputs, array.tasks[0].train.inputs, atol=1e-5)
    assert torch.equal(folder.tasks[1].test.labels, array.tasks[1].test.labels)
    table = stream_of(tmp_path / "a.csv", tmp_path / "a.csv")
    assert table.image_shape is None and torch.equal(table.tasks[0].test.labels, array.tasks[0].test.labels)


def test_a_stream_of_ones_own_trains_by_its_name(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for name, classes in (("a", (0, 1)), ("b", (2, 3))):
        labels = np.array(classes * 60)
        inputs = np.eye(4)[labels] * 4 + rng.normal(size=(120, 4))
        paths.append(save(tmp_path / f"{name}.npz", labels, inputs))
    experiment = Experiment.preset(f"own:{paths[0]},{paths[1]}", dim=32, hidden=32)
    assert Experiment.from_query(experiment.to_query()) == experiment == Experiment.from_json(experiment.to_json())
    with pytest.warns(DataWarning, match="alone tells all classes apart"):
        summary = train(experiment).summary
    assert summary["a_after_b"] > 0.8 and summary["b_after_b"] > 0.8


def test_what_cannot_be_used_is_named(tmp_path):
    good = save(tmp_path / "good.npz", [0, 1] * 10)

    def refused(path, message, error=DataError):
        with pytest.raises(error, match=message):
            stream_of(good, path)

    refused(tmp_path / "none.npz", "does not exist")
    np.savez(tmp_path / "keys.npz", points=np.zeros((4, 5)), labels=[0, 1, 0, 1])
    refused(tmp_path / "keys.npz", "lacks inputs; it holds points, labels")
    np.savez(tmp_path / "pickled.npz", inputs=np.array([[1], None], dtype=object), labels=[0, 1])
    refused(tmp_path / "pickled.npz", "pickled objects")
    bad = np.zeros((20, 5))
    bad[7, 2] = np.nan
    refused(save(tmp_path / "nan.npz", [0, 1] * 10, bad), "1 samples hold NaN .* sample 7")
    refused(save(tmp_path / "one.npz", [3] * 10), "one class only")
    refused(save(tmp_path / "few.npz", [0, 0, 0, 0, 1, 1]), "class '1' has 2 samples")
    refused(save(tmp_path / "wide.npz", [0, 1] * 10, np.zeros((20, 6))), r"shape \(6,\) and 'good.npz' of \(5,\)")
    refused(save(tmp_path / "length.npz", [0, 1, 0], np.zeros((20, 5))), r"labels .* expected .* \(20,\)")
    refused(save(tmp_path / "fractions.npz", [0.5, 1.0] * 10), "fractional .* whole numbers or text")
    refused(save(tmp_path / "deep.npz", [0, 1] * 10, np.zeros((20, 2, 2, 2))), r"\(N, H, W\) or \(N, H, W, 3\)")
    (tmp_path / "damaged.npz").write_bytes(good.read_bytes()[:100])
    refused(tmp_path / "damaged.npz", "damaged or was cut off")
    (tmp_path / "text.npz").write_text("hello")
    refused(tmp_path / "text.npz", "one column only")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")
    for name in "xy":
        (tmp_path / "sizes" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (4, 4)).save(tmp_path / "sizes" / name / f"{i}.png")
    (tmp_path / "sizes" / "x" / "0.png").write_bytes(b"no image")
    refused(tmp_path / "sizes", "cannot be read as an image")


@pytest.mark.parametrize("name", ["own:", "own:a.npz", "own-apart:a.npz,"])
def test_a_name_without_two_paths_is_refused(name):
    with pytest.raises(SettingError, match="write own(-apart)?:PATH_A,PATH_B"):
        build(name)
    with pytest.raises(SettingError, match="Unknown stream"):
        Experiment(stream="owm:a,b")
