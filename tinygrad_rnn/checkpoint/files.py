"""Replacing a file as a whole: a reader sees all of the old one or all of the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

Path = str | os.PathLike[str]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends without an exception.

    It is written beside its target under another name, forced to the disk, and renamed: on one file system a rename either
    happens or does not (POSIX rename, Windows MoveFileEx). After an exception, a full disk among them, it is removed. A link
    stays a link, and what it points to is replaced. The permissions are those of the old file, else those of any new file.
    """
    target = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"cannot save {os.fspath(path)!r}: make its folder first", folder)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EINVAL, "cannot save here: expected the name of a file, got a folder or a device", target)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
