"""Many environments of a list of wishes: what is there is left alone, and what fails does not lose the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from omni_gen3d.envs.entry import Description, slug
from omni_gen3d.envs.registry import Registry
from omni_gen3d.errors import CancelledError, InputError, OmniGen3DError
from omni_gen3d.request import check_seed

if TYPE_CHECKING:
    from omni_gen3d.finishing import GeneratedEnvironment

MAX_WISHES = 100_000
_MAX_PROMPTS_BYTES = 2**20


@dataclass(frozen=True)
class Wish:
    """An environment that is wanted: from a sentence, a picture or both, by one model and with one seed.

    Attributes:
        prompt: None where only a picture says what it is.
        input_sha256: Digest of the picture; None without one.
        seed: Of every random draw.
        model: Family of the model.
    """

    prompt: str | None
    input_sha256: str | None
    seed: int
    model: str

    def __str__(self) -> str:
        return f"{self.prompt or 'from the picture'}, seed {self.seed}"

    def is_met_by(self, folder: Path) -> bool:
        """Whether the environment of a folder is this one."""
        from omni_gen3d.usd.manifest import Manifest
        from omni_gen3d.usd.target import MANIFEST_NAME

        if not (folder / MANIFEST_NAME).is_file():
            return False
        found = Manifest.read(folder / MANIFEST_NAME)
        return self == Wish(found.prompt, found.input_sha256, found.seed or 0, found.model)


@dataclass(frozen=True)
class Outcome:
    """What became of a wish.

    Attributes:
        wish: The wish.
        state: ``made`` just now, ``found`` where it was, or ``failed``.
        usd: Root layer of the environment; None where there is none.
        error: Why it failed.
        made: What the generator says about it, where it was made.
    """

    wish: Wish
    state: Literal["made", "found", "failed"]
    usd: Path | None = None
    error: str | None = None
    made: GeneratedEnvironment | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        usd = None if self.usd is None else str(self.usd)
        return {
            "prompt": self.wish.prompt,
            "seed": self.wish.seed,
            "state": self.state,
            "usd": usd,
            "error": self.error,
        }


class Place(Protocol):
    """Where environments go."""

    def find(self, wish: Wish) -> Path | None:
        """The root layer of the environment that is wanted, if it is there."""
        ...

    def receive(self, wish: Wish, write: Callable[[Path], GeneratedEnvironment]) -> GeneratedEnvironment:
        """Have an environment written to a folder of this place."""
        ...


class Folders:
    """Folders side by side in one directory, named after what they hold."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, wish: Wish) -> Path | None:
        folder = self._folder(wish)
        return folder / "environment.usda" if wish.is_met_by(folder) else None

    def receive(self, wish: Wish, write: Callable[[Path], GeneratedEnvironment]) -> GeneratedEnvironment:
        return write(self._folder(wish))

    def _folder(self, wish: Wish) -> Path:
        # Long sentences may begin alike.
        digest = hashlib.sha256(f"{wish.prompt}\0{wish.input_sha256}\0{wish.model}".encode()).hexdigest()[:8]
        return self._directory / f"{slug(wish.prompt or 'picture')}-{digest}-seed{wish.seed}"


class Library:
    """The library of environments; what others add meanwhile is not looked at again."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[tuple[str | None, int | None, str], list[Path]] = {}
        for entry in registry.entries():
            self._known.setdefault(_key(entry), []).append(entry.folder)

    def find(self, wish: Wish) -> Path | None:
        alike = self._known.get((wish.prompt, wish.seed, wish.model), [])
        return next((folder / "environment.usda" for folder in alike if wish.is_met_by(folder)), None)

    def receive(self, wish: Wish, write: Callable[[Path], GeneratedEnvironment]) -> GeneratedEnvironment:
        return write_to_library(self._registry, write)


def write_to_library(registry: Registry, write: Callable[[Path], GeneratedEnvironment]) -> GeneratedEnvironment:
    """Have an environment written straight into a library; what is returned says where it lies there."""
    with registry.receiving() as receipt:
        made = write(receipt.folder)
    entry = receipt.entry
    package = entry.folder / "environment.usdz"
    return replace(made, usd=entry.usd, environment=entry.folder, usdz=package if package.is_file() else None)


def read_prompts(path: Path | str) -> list[str]:
    """Sentences of a UTF-8 file, one a line; empty lines and those that begin with # do not count.

    Raises:
        InputError: The file cannot be read, is larger than 1 MiB, no UTF-8, or holds no sentence.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_PROMPTS_BYTES + 1)
        if len(content) > _MAX_PROMPTS_BYTES:
            raise InputError(f"{file} is larger than {_MAX_PROMPTS_BYTES} bytes.")
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error}") from error
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise InputError(f"{file} holds no prompt; write one a line.")
    return prompts


def wishes_for(
    prompts: Sequence[str | None], *, input_sha256: str | None, seed: int, count: int, model: str
) -> list[Wish]:
    """Every prompt with the seeds ``seed`` to ``seed + count - 1``, each wish once; all prompts before the next seed.

    Raises:
        InputError: ``count`` is not positive, there are too many, or a seed is too large.
    """
    if not 1 <= count <= MAX_WISHES // max(1, len(prompts)):
        raise InputError(
            f"the count is {count}, for {len(prompts)} prompts; at least 1 environment and at most {MAX_WISHES} in all."
        )
    check_seed(seed + count - 1)
    every = (Wish(prompt, input_sha256, seed + i, model) for i in range(count) for prompt in prompts)
    return list(dict.fromkeys(every))


def fill(
    wishes: Sequence[Wish],
    place: Place,
    write: Callable[[Wish, Path], GeneratedEnvironment],
    *,
    cancelled: Callable[[], bool],
    begun: Callable[[int, Wish], None] = lambda number, wish: None,
) -> Iterator[Outcome]:
    """Make what is not there yet, one after the other, and tell what became of each wish.

    Args:
        wishes: In the order in which they are made.
        place: Where they go. Every environment is there whole or not at all, so that a stopped run can be repeated.
        write: Makes one in a folder; may raise ``CancelledError``.
        cancelled: Polled between two wishes.
        begun: Told the number of a wish, from 0, before it is made.

    Raises:
        CancelledError: ``cancelled`` returned True or ``write`` was stopped; what was made before is kept.
    """
    for number, wish in enumerate(wishes):
        if cancelled():
            raise CancelledError(f"cancelled before environment {number + 1} of {len(wishes)}; the others are kept.")
        try:
            usd = place.find(wish)
            if usd is not None:
                yield Outcome(wish, "found", usd)
                continue
            begun(number, wish)
            made = place.receive(wish, partial(write, wish))
        except CancelledError as error:
            raise CancelledError(
                f"cancelled in environment {number + 1} of {len(wishes)}; those before are kept."
            ) from error
        except OmniGen3DError as error:
            yield Outcome(wish, "failed", error=str(error))
        except Exception as error:  # Whatever it is, the others may still succeed.
            yield Outcome(wish, "failed", error=f"{type(error).__name__}: {error}")
        else:
            yield Outcome(wish, "made", made.usd, made=made)


def _key(entry: Description) -> tuple[str | None, int | None, str]:
    return entry.prompt, entry.seed, entry.model
