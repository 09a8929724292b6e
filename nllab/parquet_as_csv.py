"""Run as a script in a process of its own: a Parquet file from stdin to CSV on stdout.

A Parquet file of a few kilobytes may claim gigabytes, and its reader is machine code. So whoever sent the file can take
no more than this process down, and it has little memory to ask for.
"""

import csv
import io
import sys

MEMORY, MOST_ROWS = 2**31, 4_000_000


def main(columns: list[str], most_bytes: int) -> str | None:
    """What is wrong, or None."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):  # not everywhere
        pass
    import pyarrow.parquet as parquet

    numbers = ("row", "step", "value")
    source = io.BytesIO(sys.stdin.buffer.read())
    file = parquet.ParquetFile(source)
    found = file.schema_arrow.names
    if found != columns:
        return f"its columns are {', '.join(found[:12])}, and those of a run are {', '.join(columns)}"
    if file.metadata.num_rows > MOST_ROWS:
        return f"it has {file.metadata.num_rows} lines, more than a run can have"
    file = parquet.ParquetFile(source, read_dictionary=[name for name in columns if name not in numbers])
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    write = csv.writer(out).writerow
    write(columns)
    written = 0
    for batch in file.iter_batches(batch_size=4096):
        for line in zip(*(_values(column) for column in batch.columns), strict=True):
            written += sum(len(value) for value in line if isinstance(value, str)) + 16
            if written > most_bytes:
                return "it holds more than a run can hold"
            write(line)
    out.flush()
    return None


def _values(column):
    """The values of a column, each string held once however often it stands there."""
    if not hasattr(column, "dictionary"):
        return column.to_pylist()
    words = column.dictionary.to_pylist()
    return [None if i is None else words[i] for i in column.indices.to_pylist()]


if __name__ == "__main__":
    problem = main(sys.argv[2:], int(sys.argv[1]))
    if problem:
        sys.stderr.write(problem)
        sys.exit(3)
