"""The command line: what each verb prints, refuses, writes and leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import omni_gen3d
from omni_gen3d.cli import app
from omni_gen3d.types import GeneratedScene
from omni_gen3d.usd import write_environment

MAIN = [sys.executable, "-c", "from omni_gen3d.cli import main; main()"]


def invoke(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result, words: str) -> None:
    """One line on standard error that says ``words``, nothing on standard output, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    line, *rest = result.stderr.splitlines()
    assert line.startswith("error: ") and words in line and not rest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def environment(toy_scene: GeneratedScene, tmp_path: Path) -> Path:
    return write_environment(toy_scene, tmp_path / "toy").parent


@pytest.fixture
def package_path() -> dict[str, str]:
    """Variables with which a subprocess finds the package that is being tested."""
    return {**os.environ, "PYTHONPATH": str(Path(omni_gen3d.__file__).parents[1])}


# ------------------------------------------------------------------------------------------------- all verbs


@pytest.mark.parametrize("verb", ["generate", "convert", "inspect", "validate", "render"])
def test_every_verb_has_help(verb: str) -> None:
    """The overview names the verb, and its own help describes it."""
    assert verb in invoke("--help").stdout
    result = invoke(verb, "--help")
    assert result.exit_code == 0 and "Usage" in result.stdout and "--help" in result.stdout


def test_help_loads_nothing_heavy(package_path: dict[str, str]) -> None:
    """Help comes at once because neither torch nor USD nor even rich is imported for it."""
    code = (
        "import sys; from typer.testing import CliRunner; from omni_gen3d.cli import app\n"
        "assert CliRunner().invoke(app, ['generate', '--help']).exit_code == 0\n"
        "print({'torch', 'pxr', 'numpy', 'PIL', 'rich', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=package_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_version_is_the_packages() -> None:
    """--version prints the version and nothing else."""
    assert invoke("--version").stdout == f"{omni_gen3d.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["generate", "--bogus"], ["generate", "a", "--seed", "one"], ["fly"], ["render"]]
)
def test_usage_errors_exit_with_two(arguments: list[str], here: Path) -> None:
    """What the parser does not understand is bad input too."""
    result = invoke(*arguments)
    assert result.exit_code == 2 and result.stdout == "" and result.stderr
    assert not any(here.iterdir())


# -------------------------------------------------------------------------------------------------- generate


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], "prompt is empty"),
        ([" \t\n"], "prompt is empty"),
        ([], "prompt is empty"),
        (["x" * 1001], "1001 characters"),
        (["\udcff"], "not valid Unicode"),
        (["a hall", "--seed", "-1"], "seed is -1"),
        (["a hall", "--steps", "0"], "steps is 0"),
        (["a hall", "--steps", "51"], "between 1 and 50"),
        (["a hall", "--fov", "60"], "without an image"),
        (["a hall", "--preset", "gigantic"], "gigantic"),
        (["--image", "absent.png"], "absent.png does not exist"),
        (["--image", ".."], "is a folder"),
        (["--image", "a.png", "--video", "a.mp4"], "exclude each other"),
        (["--video", "a.mp4", "--extent", "room"], "a film cannot have the extent room"),
        (["a hall", "--times", "5"], "belong to --video"),
        (["a hall", "--fps", "5"], "belong to --video"),
        (["--video", "absent.mp4"], "absent.mp4 does not exist"),
        (["--video", "absent.mp4", "--times", "1"], "times is 1"),
        (["--video", "absent.mp4", "--fps", "0"], "frames per second are 0"),
        (["--video", "absent.mp4", "--fov", "200"], "field of view is 200"),
    ],
)
def test_generate_refuses_bad_requests(arguments: list[str], words: str, here: Path) -> None:
    """Each bad request is one line and exit code 2, and leaves nothing behind."""
    assert_refused(invoke("generate", *arguments), words)
    assert not any(here.iterdir())


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "huge", "tiny"])
def test_generate_refuses_bad_pictures(kind: str, here: Path, tmp_path: Path) -> None:
    """A truncated, fake, empty, 100-megapixel or tiny picture is refused in one line and leaves nothing behind."""
    picture = tmp_path / "picture.png"
    if kind in ("huge", "tiny"):
        Image.new("1", (10_000, 10_000) if kind == "huge" else (16, 16)).save(picture)
    else:
        Image.effect_noise((256, 256), 50).save(picture)
        whole = picture.read_bytes()
        picture.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[kind])
    assert_refused(invoke("generate", "--image", picture), "picture.png")
    assert not any(here.iterdir())


def test_generate_refuses_targets_that_cannot_be_written(here: Path) -> None:
    """A path below a regular file, and a folder that holds something else, are refused and left as they were."""
    (here / "file").write_text("text")
    (here / "thesis").mkdir()
    (here / "thesis" / "chapter1.tex").write_text("irreplaceable")
    assert_refused(invoke("generate", "a hall", "--out", "file/env"), "file")
    assert_refused(invoke("generate", "a hall", "--out", "thesis"), "chapter1.tex")
    assert (here / "thesis" / "chapter1.tex").read_text() == "irreplaceable"
    assert sorted(path.name for path in here.iterdir()) == ["file", "thesis"]


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["A small café, with pallets!", "--seed", "7"], "a-small-cafe-with-pallets-seed7"),
        (["--image", "../Living Room.png"], "living-room-seed0"),
        (["仓库"], "environment-seed0"),
        (["warehouse " * 20], "warehouse-warehouse-warehouse-warehouse-seed0"),
    ],
)
def test_folder_is_named_after_what_was_asked(arguments: list[str], folder: str, here: Path) -> None:
    """Without --out the folder is named after prompt or picture, and seed; one that holds other files is refused."""
    (here / folder).mkdir()
    (here / folder / "notes.txt").write_text("mine")
    assert_refused(invoke("generate", *arguments), f"{folder}' exists and is not an environment")


@pytest.mark.parametrize("as_json", [False, True])
def test_generate_prints_where_the_environment_is(
    as_json: bool, toy_scene: GeneratedScene, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Around a generator of the toy room: every option arrives, stages go to standard error, the result to output."""
    asked = {}

    def generate_toy(prompt, *, out, progress, cancelled, **options):
        asked.update(options, prompt=prompt, cancelled=cancelled())
        progress("depth", 0.0)
        usd = write_environment(toy_scene, out)
        values = {"usd": usd, "environment": usd.parent, "timings_s": {"decode": 0.25}, "num_gaussians": 50}
        return SimpleNamespace(**values, notes=("a note",), warnings=("a warning",), usdz=None)

    monkeypatch.setitem(vars(omni_gen3d), "generate", generate_toy)  # the real one need not load
    options = ["--image", "a.png", "--fov", "60", "--seed", "5", "--device", "cpu", "--steps", "4", "--out", "new/env"]
    options += ["--extent", "room"]
    result = invoke("generate", "a toy", *options, *(["--json"] if as_json else []))
    usd = here / "new" / "env" / "environment.usda"
    assert result.exit_code == 0 and usd.is_file()
    assert asked == {
        "prompt": "a toy",
        "image": Path("a.png"),
        "fov_deg": 60.0,
        "seed": 5,
        "preset": "mini",
        "device": "cpu",
        "steps": 4,
        "extent": "room",
        "weights": None,
        "max_memory": None,
        "cancelled": False,
    }
    assert result.stderr.splitlines()[0].endswith(" depth")
    if as_json:
        assert json.loads(result.stdout) == {
            "usd": str(usd),
            "environment": str(usd.parent),
            "timings_s": {"decode": 0.25},
            "num_gaussians": 50,
            "notes": ["a note"],
            "warnings": ["a warning"],
        }
    else:
        assert result.stdout == f"{usd}\n"
        assert result.stderr.splitlines()[1:] == ["note: a note", "warning: a warning"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_generation_leaves_nothing(
    number: signal.Signals, tmp_path: Path, package_path: dict[str, str]
) -> None:
    """A signal after the first line of progress ends a real generation with one error, code 130 and no file."""
    command = [*MAIN, "generate", "a small warehouse", "--out", "new/env"]
    process = subprocess.Popen(command, cwd=tmp_path, env=package_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("["), first + process.stderr.read()
    process.send_signal(number)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("error: ") and "Traceback" not in rest
    assert not any(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------- inspect


def test_inspect_prints_the_manifest_as_json(environment: Path) -> None:
    """One JSON object holds what the manifest holds, without the packed free-space bits."""
    result = invoke("inspect", environment, "--json")
    values = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (values["schema_version"], values["kind"], values["seed"], values["model"]) == (1, "static", 3, "mini")
    assert values["num_gaussians"] == 50 and values["floor_height_m"] == 0.0
    assert values["proxy"]["faces"] == 48 and values["timings_s"] == {"decode": 0.25}
    assert values["files"]["splats.usdc"]["bytes"] == (environment / "splats.usdc").stat().st_size
    assert np.shape(values["bounds_m"]) == (2, 3) and "data" not in values["free_space"]
    assert values["warnings"] == ["The ceiling was not seen."]


def test_inspect_shows_tables_and_warnings(environment: Path) -> None:
    """The tables name prompt, scores and files; warnings and notes go to standard error; the printed path works too."""
    result = invoke("inspect", environment / "environment.usda")
    assert result.exit_code == 0
    for words in ("a toy: room with a table", "bounds [m]", "faces", "48", "splats.usdc", "decode"):
        assert words in result.stdout
    assert "warning: The ceiling was not seen." in result.stderr.splitlines()


def test_inspect_shows_no_escape_sequences_of_a_strangers_manifest(environment: Path) -> None:
    """Control characters in a prompt do not reach the terminal, nor does its markup."""
    manifest = environment / "environment.yaml"
    text = manifest.read_text().replace("model: mini", 'model: "\\e[2J[red]mini"')
    manifest.write_text(text)
    result = invoke("inspect", environment)
    assert "[2J[red]mini" in result.stdout and "\x1b" not in result.stdout


def test_inspect_shows_an_environment_without_a_collider(toy_scene: GeneratedScene, tmp_path: Path) -> None:
    """Splats alone have no free space, no floor and no spawn poses, and say so."""
    folder = write_environment(dataclasses.replace(toy_scene, proxy=None), tmp_path / "splats").parent
    assert invoke("inspect", folder).exit_code == 0
    values = json.loads(invoke("inspect", folder, "--json").stdout)
    assert values["free_space"] is None and values["spawn_poses"] == [] and values["floor_height_m"] is None


@pytest.mark.parametrize("verb", [["inspect"], ["validate"], ["render", "--out", "a.png"]])
def test_missing_environments_are_bad_input(verb: list[str], here: Path) -> None:
    """Every reading verb says that the path does not exist."""
    assert_refused(invoke(*verb, "absent"), "does not exist")
    assert not any(here.iterdir())


@pytest.mark.parametrize("verb", [["inspect"], ["render", "--out", "a.png"]])
def test_folders_that_are_no_environments_are_bad_input(verb: list[str], here: Path) -> None:
    """An ordinary folder, and a manifest that is no YAML, are refused in one line."""
    (here / "plain").mkdir()
    assert_refused(invoke(*verb, "plain"), "environment.yaml")
    (here / "plain" / "environment.yaml").write_text("a: [1,\nb: }")
    assert_refused(invoke(*verb, "plain"), "not valid YAML")
    assert [path.name for path in here.iterdir()] == ["plain"]


# -------------------------------------------------------------------------------------------------- validate


def test_validate_is_silent_about_a_clean_environment(environment: Path) -> None:
    """No error, exit code 0, for the folder and for its root layer."""
    result = invoke("validate", environment)
    assert result.exit_code == 0 and "error:" not in result.stdout
    assert result.stderr.startswith("0 errors")
    assert invoke("validate", environment / "environment.usda").exit_code == 0


def test_validate_prints_one_finding_a_line(environment: Path) -> None:
    """A changed file is found, on a line of its own that names it, with exit code 1."""
    preview = environment / "preview.png"
    preview.write_bytes(preview.read_bytes() + b"\0")
    result = invoke("validate", environment)
    assert result.exit_code == 1
    assert any(line.startswith("error: preview.png") for line in result.stdout.splitlines())
    assert all(line.startswith(("error: ", "warning: ")) for line in result.stdout.splitlines())


# ---------------------------------------------------------------------------------------------------- render


def test_render_writes_the_input_cameras_picture(environment: Path, here: Path) -> None:
    """By default camera 0 at its own size, in colour; the path is printed; the file alone is left."""
    result = invoke("render", environment, "--out", "a.png")
    assert (result.exit_code, result.stdout) == (0, "a.png\n"), result.stderr
    with Image.open("a.png") as image:
        assert (image.size, image.mode) == ((320, 176), "RGB")
        assert np.asarray(image).std() > 1
    assert [path.name for path in here.iterdir()] == ["a.png"]
    invoke("render", environment, "--out", "b.png", "--camera", "0")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    invoke("render", environment, "--out", "b.png", "--camera", "5")
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()


@pytest.mark.parametrize(("aov", "mode"), [("color", "RGB"), ("depth", "RGB"), ("alpha", "L")])
def test_render_looks_from_anywhere(aov: str, mode: str, environment: Path, here: Path) -> None:
    """--eye with negative coordinates, --size and every AOV give a picture that shows something."""
    view = ["--eye", "-1.9", "-1.9", "1.5", "--target", "0", "0", "0.5", "--size", "96x64", "--aov", aov]
    result = invoke("render", environment, "--out", "a.png", *view)
    assert result.exit_code == 0, result.stderr
    with Image.open("a.png") as image:
        assert (image.size, image.mode) == ((96, 64), mode)
        assert len(np.unique(np.asarray(image))) > 8


def test_render_films(environment: Path, here: Path) -> None:
    """A film of half a second from camera 0 to camera 3 is written, and its path is printed."""
    arguments = ["--to-camera", "3", "--seconds", "0.5", "--fps", "8", "--size", "64x48"]
    result = invoke("render", environment, "--video", "a.mp4", *arguments)
    assert result.exit_code == 0 and result.stdout == "a.mp4\n"
    assert [path.name for path in here.iterdir()] == ["a.mp4"]


def test_render_shows_an_appearance(environment: Path, here: Path) -> None:
    """The dim picture is darker than the neutral one, which is the default; a look that is not there is refused."""
    view = ["--size", "96x64"]
    for look in ("neutral", "dim"):
        result = invoke("render", environment, "--out", f"{look}.png", *view, "--appearance", look)
        assert result.exit_code == 0, result.stderr
    invoke("render", environment, "--out", "default.png", *view)
    assert Path("default.png").read_bytes() == Path("neutral.png").read_bytes()
    with Image.open("dim.png") as dim, Image.open("neutral.png") as neutral:
        darker = np.asarray(neutral).astype(int) - np.asarray(dim)
    assert darker.min() >= 0 and darker.max() > 20
    assert invoke("render", environment, "--out", "a.png", "--appearance", "sepia").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a.jpg"], "must end in .png"),
        (["--out", "absent/a.png"], "no existing folder"),
        (["--out", "folder.png"], "is a folder"),
        (["--out", "a.png", "--camera", "7"], "cameras 0 to 6"),
        (["--out", "a.png", "--camera", "-1"], "camera -1"),
        (["--out", "a.png", "--camera", "0", "--eye", "0", "0", "1", "--target", "1", "0", "1"], "exclude each other"),
        (["--out", "a.png", "--eye", "0", "0", "1"], "belong together"),
        (["--out", "a.png", "--target", "0", "0", "1"], "belong together"),
        (["--out", "a.png", "--eye", "0", "0", "1", "--target", "0", "0", "1"], "view direction"),
        (["--out", "a.png", "--eye", "nan", "0", "1", "--target", "0", "0", "1"], "finite"),
        (["--out", "a.png", "--size", "8x64"], "from 16 to 4096"),
        (["--out", "a.png", "--size", "64x5000"], "from 16 to 4096"),
        (["--out", "a.png", "--size", "big"], "WIDTHxHEIGHT"),
        ([], "either --out for a picture or --video"),
        (["--out", "a.png", "--video", "a.mp4"], "either --out for a picture or --video"),
        (["--video", "a.avi"], "must end in .mp4"),
        (["--out", "a.png", "--seconds", "3"], "belong to --video"),
        (["--video", "a.mp4", "--aov", "depth"], "shows colours"),
        (["--video", "a.mp4", "--to-eye", "0", "0", "1"], "--to-eye and --to-target belong together"),
        (["--video", "a.mp4", "--to-camera", "9"], "cameras 0 to 6"),
        (["--video", "a.mp4", "--size", "33x64"], "must be even"),
        (["--video", "a.mp4", "--seconds", "-1"], "film of -1 s"),
    ],
)
def test_render_refuses_bad_views(arguments: list[str], words: str, environment: Path, here: Path) -> None:
    """Each bad option is one line and exit code 2, and leaves nothing behind."""
    (here / "folder.png").mkdir()
    assert_refused(invoke("render", environment, *arguments), words)
    assert [path.name for path in here.iterdir()] == ["folder.png"]
