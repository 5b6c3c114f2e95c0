"""The library of environments on this machine: register, find, sample and remove, from any number of processes.

A folder is in the library when the index says so. Writers prepare a folder aside, rename it into its place and insert
it under the index' write lock; they take entries out of the index first and their folders away afterwards. So whoever
is killed, wherever, leaves the library as it was or as it was to become, and at most a folder that no entry names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omni_gen3d.envs.entry import Description, Entry, Filter, Split, check_tags, describe
from omni_gen3d.envs.home import Home, default_home
from omni_gen3d.envs.index import Index, Transaction
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from omni_gen3d.envs.intake import Opener

_ID = re.compile(r"[a-z0-9-]{1,80}")


@dataclass(frozen=True)
class Match:
    """An environment and how near its words are to those that were sought: the cosine of two text vectors."""

    entry: Entry
    similarity: float


@dataclass(frozen=True)
class Repair:
    """What ``Registry.repair`` did.

    Attributes:
        entries: Environments in the library now.
        added: Ids of folders that the index did not know.
        dropped: Ids that the index knew, but that have no sound folder.
        broken: Why a folder is not in the index, by its name; it is left where it is.
        leftovers: Staging folders of dead processes and folders of removed entries that were cleared.
    """

    entries: int
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    broken: dict[str, str]
    leftovers: int


class Receipt:
    """Where a new environment is written, and the entry that came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entry: Entry | None = None

    @property
    def entry(self) -> Entry:
        """Of the environment, once it has joined the library."""
        if self._entry is None:
            raise RuntimeError("the entry is there when the block of Registry.receiving has ended.")
        return self._entry


class Registry:
    """A library of environments.

    Args:
        home: Its folder; ``$OMNI_GEN3D_HOME``, else ``~/.local/share/omni_gen3d``, where None. It must lie on a local
            disk: SQLite's log for several writers does not work on network file systems.
    """

    def __init__(self, home: Path | str | None = None) -> None:
        self.home = Home(default_home() if home is None else Path(home).expanduser().absolute())
        self._index = Index(self.home.index)

    def add(self, folder: Path | str, *, tags: Sequence[str] = ()) -> Entry:
        """Copy an environment folder into the library.

        The id comes from the content: registering the same environment twice gives the same entry, which then has the
        tags of both.

        Raises:
            InputError: The folder is no environment, a file differs from its digest, a tag is no word, or the library
                cannot be written.
        """
        source = Path(folder).expanduser()
        return self._take_in(lambda name: _opened(source / name), str(source), check_tags(tuple(tags)))

    def import_archive(self, archive: Path | str, *, tags: Sequence[str] = ()) -> Entry:
        """Add the environment of a file that ``export`` wrote, with its tags and ``tags``.

        Raises:
            InputError: The file is no such archive or a damaged one, or the library cannot be written.
        """
        from omni_gen3d.envs.archive import opened_archive
        from omni_gen3d.envs.intake import ENTRY_NAME, tags_of_note

        with opened_archive(Path(archive).expanduser()) as open_file:
            with open_file(ENTRY_NAME) as note:
                own_tags = tags_of_note(note, f"{archive}: {ENTRY_NAME}")
            return self._take_in(open_file, str(archive), check_tags((*own_tags, *tags)))

    def export(self, id_: str, target: Path | str) -> Path:
        """Write an environment as one zip file, whole or not at all; the same environment gives the same bytes.

        Raises:
            InputError: There is no such entry, its folder is damaged, or the file cannot be written.
        """
        from omni_gen3d.envs.archive import write_archive
        from omni_gen3d.envs.intake import ENTRY_NAME, inspect_entry
        from omni_gen3d.usd.manifest import Manifest
        from omni_gen3d.usd.target import MANIFEST_NAME

        entry, path = self.get(id_), Path(target).expanduser().absolute()
        inspect_entry(entry.folder)
        files = Manifest.read(entry.folder / MANIFEST_NAME).files
        write_archive(entry.folder, [ENTRY_NAME, MANIFEST_NAME, *sorted(files)], path)
        return path

    @contextmanager
    def receiving(self, *, tags: Sequence[str] = ()) -> Iterator[Receipt]:
        """Yield a place for a new environment, which joins the library when the body ends.

        Write an environment to ``receipt.folder``; afterwards ``receipt.entry`` is its entry. Nothing is copied.

        Raises:
            InputError: See ``add``.
        """
        from omni_gen3d.envs.intake import write_note
        from omni_gen3d.usd.manifest import Manifest
        from omni_gen3d.usd.target import MANIFEST_NAME

        checked = check_tags(tuple(tags))
        with self.home.staging() as staging:
            receipt = Receipt(staging / "environment")
            yield receipt
            description = describe(Manifest.read(receipt.folder / MANIFEST_NAME), checked)
            write_note(receipt.folder, description.tags)
            receipt._entry = self._place(description, receipt.folder, staging)

    def get(self, id_: str) -> Entry:
        """The entry of an id, or of the beginning of one that no other id shares.

        Raises:
            InputError: There is no such entry, or more than one.
        """
        if not isinstance(id_, str) or _ID.fullmatch(id_) is None:
            raise InputError(f"{str(id_)[:100]!r} is no id of an environment; 'omni-gen3d envs list' shows them.")
        with self._reading() as index:
            found = index.get(id_)
            ids = [] if found else index.starting_with(id_)
            if len(ids) == 1:
                found = index.get(ids[0])
        if found is None:
            reason = f"begins more than one id: {', '.join(ids[:5])}" if ids else "is not in the library"
            raise InputError(f"the environment '{id_}' {reason}. 'omni-gen3d envs list' shows what there is.")
        return self._entry(found)

    def entries(self, wanted: Filter | None = None) -> list[Entry]:
        """Entries in the order of their ids.

        Raises:
            InputError: The index cannot be read.
        """
        with self._reading() as index:
            everything = index.all()
        return [self._entry(found) for found in everything if wanted is None or wanted.accepts(found)]

    def sample(
        self,
        n: int,
        rng: np.random.Generator,
        *,
        split: Split | None = None,
        wanted: Filter | None = None,
        replacement: bool = False,
    ) -> list[Entry]:
        """Draw ``n`` environments; the same library and the same state of ``rng`` give the same ones.

        Args:
            n: How many.
            rng: Advanced by the draw.
            split: ``train`` or ``heldout``; which an environment belongs to, the hash of its id decides.
            wanted: Which may be drawn.
            replacement: One environment may be drawn several times.

        Raises:
            InputError: There are too few.
        """
        chosen = Filter() if wanted is None else wanted
        entries = self.entries(chosen if split is None else replace(chosen, split=split))
        if n < 0 or (n > 0 and len(entries) < (1 if replacement else n)):
            raise InputError(
                f"{n} environments were asked for, the library has {len(entries)} that are wanted; add more, ask for "
                "less or allow replacement."
            )
        return [entries[i] for i in rng.choice(len(entries), n, replace=replacement)] if n else []

    def search(self, words: str, *, limit: int = 10, wanted: Filter | None = None) -> list[Match]:
        """Environments whose title and tags come nearest in meaning to ``words``, the nearest first.

        The first search loads the text encoder, and later ones encode only what is new in the library.

        Raises:
            InputError: There are no words, or the limit is below 1.
            MissingDependencyError: The text encoder is not installed.
        """
        if not words.strip() or limit < 1:
            raise InputError(f"the search for {words!r} with limit {limit} needs a word and a limit of at least 1.")
        from omni_gen3d.envs.meaning import similarities

        entries = self.entries(wanted)
        scores = similarities(words, entries, self._index)
        order = sorted(range(len(entries)), key=lambda i: (-scores[i], entries[i].id))
        return [Match(entries[i], scores[i]) for i in order[:limit]]

    def remove(self, id_: str) -> Entry:
        """Take an environment out of the library and delete its folder; return what it was.

        Raises:
            InputError: There is no such entry, see ``get``.
        """
        entry = self.get(id_)
        with self._index.writing() as index:
            if not index.drop(entry.id):
                raise InputError(f"the environment '{entry.id}' is not in the library; somebody else removed it.")
            index.mark_for_removal(entry.id)
        self._finish_removal(entry.id)
        return entry

    def repair(self) -> Repair:
        """Make the index agree with the folders, whose every digest is checked, and clear what the dead left behind.

        Others may go on working meanwhile, unless the index itself is damaged: then it is deleted and made anew.

        Raises:
            InputError: The library cannot be read or written.
        """
        from omni_gen3d.envs.intake import inspect_entry

        self.home.create()
        if self._index.is_damaged():
            self._index.delete()
        with self._index.reading() as index:
            unfinished, known = index.marked_for_removal(), set(index.ids())
        for id_ in unfinished:
            self._finish_removal(id_)

        added, broken = [], {}
        folders = {folder.name: folder for folder in sorted(self.home.environments.iterdir())}
        for name, folder in folders.items():
            try:
                found = inspect_entry(folder)
            except InputError as error:
                broken[name] = str(error)
                continue
            with self._index.writing() as index:
                if folder.is_dir() and name not in index.marked_for_removal():
                    index.put(found)
                    if name not in known:
                        added.append(name)
        dropped = []
        for name in sorted(known - (set(folders) - set(broken))):
            with self._index.writing() as index:
                is_gone = not (self.home.environments / name).is_dir()
                if (is_gone or name in broken) and index.drop(name):
                    dropped.append(name)
        # A folder that another process took away while it was looked at is not broken.
        broken = {name: reason for name, reason in broken.items() if folders[name].exists()}
        leftovers = len(unfinished) + self.home.clear_leftovers()
        with self._index.reading() as index:
            return Repair(len(index.ids()), tuple(added), tuple(dropped), broken, leftovers)

    def _take_in(self, open_file: Opener, origin: str, tags: tuple[str, ...]) -> Entry:
        from omni_gen3d.envs.intake import take_in

        with self.home.staging() as staging:
            folder = staging / "environment"
            folder.mkdir()
            return self._place(take_in(open_file, origin, tags, folder), folder, staging)

    def _place(self, description: Description, folder: Path, staging: Path) -> Entry:
        """Move a prepared folder into the library, unless it is there; a folder that no entry names gives way."""
        from omni_gen3d.envs.intake import write_note

        target = self.home.environments / description.id
        with self._index.writing() as index:
            known = index.get(description.id)
            if known is not None:
                if known.digest != description.digest:
                    raise InputError(f"another environment has the id {known.id} already; give yours another title.")
                description = replace(known, tags=check_tags((*known.tags, *description.tags)))
                write_note(target, description.tags)
            else:
                if target.exists():
                    target.rename(staging / "replaced")
                folder.rename(target)
            index.put(description)
        return self._entry(description)

    def _finish_removal(self, id_: str) -> None:
        """Delete the folder of an entry that was taken out of the index, unless somebody put it back."""
        folder = self.home.environments / id_
        with self.home.staging() as staging, self._index.writing() as index:
            if id_ in index.marked_for_removal():
                if folder.exists():
                    folder.rename(staging / "removed")
                index.unmark(id_)

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        self.home.create()
        with self._index.reading() as index:
            yield index

    def _entry(self, found: Description) -> Entry:
        return Entry(**vars(found), folder=self.home.environments / found.id)


def _opened(path: Path):
    # A pipe would never end, and a folder cannot be read.
    if not path.is_file():
        raise InputError(f"{path} is missing or no file. Is its folder an environment?")
    return path.open("rb")
