"""How much of a file is read. Whatever a file claims, its size is checked before memory is taken."""

MOST_BYTES = 128 * 2**20
"""Of one file, packed or unpacked: MNIST's training images as CSV take 110 MB; twice this and its numbers fill 1 GB."""

MOST_CELLS = 50_000_000
"""Numbers in one table or array of rows: 400 MB in float64. MNIST's training images are 47 million."""

MOST_COLUMNS = 10_000
"""Of a table. The deep optimizer keeps a number for each pair of inputs: 10,000 of them take 400 MB."""

MOST_PIXEL_VALUES = 100_000_000
"""Numbers in all images of one path once they have one size: 400 MB in float32. Fashion-MNIST has 55 million."""

MOST_IMAGE_INPUTS = 3_072
"""Of one image: 32 x 32 in three colours. With the deep optimizer a step on it takes about a second of one core."""

MOST_SIDE = 128
"""Pixels on a side, those of three colours side by side counted together: what the page can show."""

COSTLY_INPUTS = 1_024
"""From here on the report says what a step costs."""

MOST_DECODED_PIXELS = 40_000_000
"""Of one image file, before it is made smaller: 40 megapixels take 160 MB while they are decoded."""

MOST_IMAGE_BYTES = 64 * 2**20
"""Of one image file; a 40-megapixel photograph takes about 20 MB."""

MOST_FILES = 200_000
"""In one folder of images."""

MOST_SHEET_BYTES = 12 * 2**20
"""Of an Excel file once it is unpacked: openpyxl reads about 3 MB of it a second. Larger tables are quicker as CSV."""

MOST_CLASSES = 1_000
"""A column with more distinct values is a number or a text and not a class."""

LONGEST_LABEL = 200
"""Characters. A longer label is a text."""

LARGEST_NUMBER = 1e100
"""Larger values are marks of something missing or broken, and their squares would overflow."""

FEWEST = 3
"""Samples of a class: one to train on, one to validate, one to test."""
