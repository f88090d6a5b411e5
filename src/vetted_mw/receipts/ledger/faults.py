"""What SQLite and the file system say, as one word for the log. Content-free: no path, no SQL, no value."""

from __future__ import annotations

import errno
import sqlite3

__all__ = ["reason_of"]

_PRIMARY = 0xFF
"""The part of an extended result code that names the kind."""
_SQLITE = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "not_a_ledger",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_PERM: "cannot_open",
    sqlite3.SQLITE_ERROR: "not_a_ledger",  # a table or a column that should be there is not
    sqlite3.SQLITE_CONSTRAINT: "conflict",
}
_ERRNO = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EACCES: "cannot_open",
    errno.EPERM: "cannot_open",
    errno.EROFS: "read_only",
    errno.ENOENT: "folder_missing",
    errno.ENOTDIR: "folder_missing",
}


def reason_of(error: Exception) -> str:
    """Name what went wrong.

    Returns:
        `disk_full`, `locked`, `corrupt`, `not_a_ledger`, `io_error`, `read_only`, `cannot_open`, `folder_missing` or
        `conflict`; `failed` for anything else.
    """
    if isinstance(error, sqlite3.Error):
        return _SQLITE.get(getattr(error, "sqlite_errorcode", -1) & _PRIMARY, "failed")
    if isinstance(error, OSError):
        return _ERRNO.get(error.errno or 0, "io_error")
    return "failed"
