"""What somebody sends to a page, as a file that `load` reads: the sender's name for it decides nothing."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from nllab.data.limits import MOST_BYTES
from nllab.data.report import shown
from nllab.errors import DataError


def keep(name: str, data: bytes, folder: Path) -> Path:
    """Write an upload into `folder` under a name of ours: what of the sender's name is harmless, and a hash of the
    content, so that the same upload is the same file. Raises DataError for what is too large or cannot be written."""
    if len(data) > MOST_BYTES:
        raise DataError(f"{shown(name)} is larger than {MOST_BYTES // 2**20} MB. Take fewer rows, columns or pixels.")
    stem, _, suffix = Path(name.replace("\\", "/")).name.partition(".")
    plain = [re.sub(r"[^A-Za-z0-9_-]+", "-", part)[:40] for part in (stem, suffix.replace(".", "_"))]
    path = folder / f"{plain[0] or 'data'}-{hashlib.sha256(data).hexdigest()[:16]}.{plain[1] or 'bin'}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{shown(name)} cannot be kept on the server ({error.strerror}).") from None
    return path
