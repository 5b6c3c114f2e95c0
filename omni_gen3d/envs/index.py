"""The index: one SQLite file that several processes read and write at once.

Its write lock is the only lock of the library. Every operation opens the file, does one short transaction and closes
it, so that a process may fork, run threads or be killed anywhere.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from omni_gen3d.envs.entry import Description, description_from_json
from omni_gen3d.envs.plain import to_plain
from omni_gen3d.errors import InputError

_VERSION = 1
_BUSY_S = 30.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS entries (id TEXT PRIMARY KEY, description TEXT NOT NULL) WITHOUT ROWID",
    # Entries that are gone, whose folder is not yet.
    "CREATE TABLE IF NOT EXISTS removing (id TEXT PRIMARY KEY) WITHOUT ROWID",
    # What the text encoder makes of an entry's words; text tells whether the words are still those.
    "CREATE TABLE IF NOT EXISTS embeddings (id TEXT PRIMARY KEY, text TEXT NOT NULL, vector BLOB NOT NULL)",
)


class Transaction:
    """Reads and writes inside one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, id_: str) -> Description | None:
        row = self._connection.execute("SELECT description FROM entries WHERE id = ?", (id_,)).fetchone()
        return None if row is None else description_from_json(row[0])

    def all(self) -> list[Description]:
        """Every entry, by id."""
        rows = self._connection.execute("SELECT description FROM entries ORDER BY id").fetchall()
        return [description_from_json(text) for (text,) in rows]

    def ids(self) -> list[str]:
        return [id_ for (id_,) in self._connection.execute("SELECT id FROM entries ORDER BY id")]

    def starting_with(self, prefix: str) -> list[str]:
        """Ids that begin with ``prefix``, which holds no character beyond those of ids."""
        query = "SELECT id FROM entries WHERE substr(id, 1, ?) = ? ORDER BY id"
        return [id_ for (id_,) in self._connection.execute(query, (len(prefix), prefix))]

    def put(self, entry: Description) -> None:
        """Insert or replace; an unfinished removal of the same id is off."""
        text = json.dumps(to_plain(entry))
        self._connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (entry.id, text))
        self._connection.execute("DELETE FROM removing WHERE id = ?", (entry.id,))

    def drop(self, id_: str) -> bool:
        """Delete an entry; False where there was none."""
        self._connection.execute("DELETE FROM embeddings WHERE id = ?", (id_,))
        return self._connection.execute("DELETE FROM entries WHERE id = ?", (id_,)).rowcount > 0

    def mark_for_removal(self, id_: str) -> None:
        self._connection.execute("INSERT OR IGNORE INTO removing VALUES (?)", (id_,))

    def marked_for_removal(self) -> list[str]:
        return [id_ for (id_,) in self._connection.execute("SELECT id FROM removing ORDER BY id")]

    def unmark(self, id_: str) -> None:
        self._connection.execute("DELETE FROM removing WHERE id = ?", (id_,))

    def embeddings(self) -> dict[str, tuple[str, bytes]]:
        """Text and vector by id."""
        rows = self._connection.execute("SELECT id, text, vector FROM embeddings").fetchall()
        return {id_: (text, vector) for id_, text, vector in rows}

    def put_embeddings(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Store id, text and vector of entries that are still there."""
        query = "INSERT OR REPLACE INTO embeddings SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM entries WHERE id = ?1)"
        self._connection.executemany(query, rows)


class Index:
    """The file; it is created where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent state of the index.

        Raises:
            InputError: The file is damaged, of a later release, or stays locked for half a minute.
        """
        with self._transaction("BEGIN") as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Hold the write lock: what is done inside counts as a whole or, when something is raised, not at all.

        Raises:
            InputError: As ``reading``.
        """
        with self._transaction("BEGIN IMMEDIATE") as transaction:
            yield transaction

    def is_damaged(self) -> bool:
        """Whether SQLite cannot make sense of the file.

        Raises:
            InputError: The file is of a later release, or stays locked for half a minute.
        """
        try:
            with closing(self._open()) as connection:
                return connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
        except sqlite3.OperationalError as error:
            raise InputError(f"the index {self._path} cannot be used: {error}. Try again.") from error
        except sqlite3.DatabaseError:
            return True

    def delete(self) -> None:
        """Remove the file and what SQLite keeps beside it."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        try:
            with closing(self._open()) as connection:
                connection.execute(begin)
                try:
                    yield Transaction(connection)
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise InputError(f"the index {self._path} cannot be used: {error}. Try again.") from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"the index {self._path} is damaged: {error}. Run 'omni-gen3d envs repair'; it is made again from the "
                "folders."
            ) from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Changing the mode needs the file alone and does not wait for it, whatever the timeout.
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise InputError(f"the index {self._path} is of version {version}; this release reads {_VERSION}.")
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
