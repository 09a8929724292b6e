"""What people bring: tables, arrays and images, read with care, and a report of what was understood. No torch.

limits.py    how much is read, and why no more
files.py     from a path to bytes: what kind of file it is (by its content), unpacked within limits
dialect.py   of a text table: encoding, separator, decimal sign, header
tables.py    text and Excel files -> named columns and labels
arrays.py    .npz and IDX files
pictures.py  folders and archives of images, as a viewer shows them
colours.py   grey, or three colours side by side where they tell classes apart
labels.py    one identity for every spelling of a label that a program may have changed
columns.py   columns of A and B matched by name; what is no measurement is left out or converted
overlap.py   whether A and B can be one stream: units, classes, samples
scale.py     inputs standardised by A alone
report.py    the report
load.py      all of it together: `load(paths)`
"""

from nllab.data.load import Loaded, load
from nllab.data.report import Report

__all__ = ["Loaded", "Report", "load"]
