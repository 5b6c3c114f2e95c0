"""A real worker process, asked the way Kit asks it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omni_gen3d.envs.registry import Registry
from omni_gen3d.kit import process
from omni_gen3d.kit.process import Call, WorkerProcess
from omni_gen3d.types import FreeSpace, GeneratedScene
from omni_gen3d.usd import write_environment
from omni_gen3d.worker.protocol import Failure, from_line, to_line

TIMEOUT_S = 300.0
CLUTTER = "/World/Environment/Clutter"


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "library"))
    running = WorkerProcess(Path(sys.executable))
    yield running
    running.close()
    assert not running.is_alive


def wait(worker: WorkerProcess, condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        worker.poll()
        time.sleep(0.01)


def answer(worker: WorkerProcess, task: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a request that ends well."""
    call = ended(worker, worker.ask(task, values))
    assert call.result is not None, call.failure
    return call.result


def refusal(worker: WorkerProcess, task: str, values: dict[str, Any] | None = None) -> Failure:
    """Why a request does not end well."""
    call = ended(worker, worker.ask(task, values))
    assert call.failure is not None, call.result
    return call.failure


def ended(worker: WorkerProcess, call: Call) -> Call:
    wait(worker, lambda: call.ended)
    return call


@pytest.fixture
def kept(worker: WorkerProcess, toy_scene: GeneratedScene, tmp_path: Path):
    """An entry of the library that the worker sees."""
    return Registry().add(write_environment(toy_scene, tmp_path / "toy").parent)


def test_the_library_is_read_searched_and_cleared(worker, kept):
    """Entries come with what the gallery shows; removing deletes the folder; unknown ids are refused in words."""
    (entry,) = answer(worker, "entries")["entries"]
    assert entry["id"] == kept.id and entry["folder"] == str(kept.folder) and entry["title"].startswith("a toy")
    assert answer(worker, "search", {"words": "a room"}) == {"ids": [kept.id]}
    failure = refusal(worker, "remove", {"id": "unheard-of"})
    assert failure.kind == "input" and "unheard-of" in failure.message
    assert answer(worker, "remove", {"id": kept.id}) == {"removed": kept.id}
    assert not kept.folder.exists()


def test_models_are_described_and_what_the_dead_left_is_cleared(worker, tmp_path):
    """A folder of a writer that no longer lives goes away; the presets are those of configs/."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    staging = tmp_path / "library" / "staging"
    (staging / f"{os.uname().nodename}.{dead.pid}.x").mkdir(parents=True)
    result = answer(worker, "models")
    assert "mini" in result["presets"] and result["cleared"] == 1 and not list(staging.iterdir())


@pytest.mark.parametrize(
    ("task", "values", "kind", "message"),
    [
        ("dance", {}, "defect", "there is no task 'dance'"),
        ("generate", {"prompt": ""}, "input", "prompt is empty"),
        ("generate", {"prompt": "a room", "colour": "red"}, "input", "colour"),
        ("generate", {"input": "clip.mp4"}, "input", "clip.mp4"),
        ("generate", {"input": "clip.mp4", "extent": "room"}, "input", "a film cannot have the extent room"),
        ("generate", {"prompt": "a room", "extent": "house"}, "input", "the extent is 'house'"),
        ("generate", {"prompt": "a room", "extent": "room", "preset": "lyra"}, "input", "extent view alone"),
        ("render", {"environments": []}, "input", "camera"),
    ],
)
def test_what_cannot_be_done_is_said(worker, task, values, kind, message):
    failure = refusal(worker, task, values)
    assert failure.kind == kind and message in failure.message


def test_a_sample_becomes_a_layer(worker, kept, tmp_path):
    """The same seed and index give the same sample; the layer recolours the splats and sets the friction."""
    from pxr import Sdf

    values = {"folder": str(kept.folder), "layer": str(tmp_path / "one.usda"), "seed": 3, "index": 1}
    first = answer(worker, "vary", values)["sample"]
    again = answer(worker, "vary", {**values, "layer": str(tmp_path / "two.usda")})["sample"]
    assert first == again and first["environment"] == kept.id
    assert first["placement"] == {"scale": 1.0, "yaw": 0.0}
    layer = Sdf.Layer.FindOrOpen(str(tmp_path / "one.usda"))
    assert layer.defaultPrim == "World"
    assert layer.GetAttributeAtPath("/World/Environment/Splats.radiance:sphericalHarmonicsCoefficients").default
    friction = layer.GetAttributeAtPath("/World/Environment/Collision/PhysicsMaterial.physics:staticFriction").default
    assert friction == pytest.approx(first["contact"]["static_friction"])


def test_clutter_of_a_named_pool_is_in_the_layer(worker, toy_scene, tmp_path):
    """Ranges that name a folder of meshes put things of it into the layer, as colliders."""
    import trimesh
    from pxr import Sdf

    space = FreeSpace(np.ones((20, 20, 10), bool), np.array([-2.0, -2.0, 0.0]), voxel_size=0.2)
    scene = replace(toy_scene, proxy=replace(toy_scene.proxy, free_space=space))
    folder = write_environment(scene, tmp_path / "free").parent
    (tmp_path / "meshes").mkdir()
    trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / "meshes" / "cube.ply")
    ranges = tmp_path / "ranges.yaml"
    ranges.write_text("clutter: {pool: meshes, count: 3, clearance: 0}")
    values = {"folder": str(folder), "layer": str(tmp_path / "one.usda"), "ranges": str(ranges)}
    things = answer(worker, "vary", values)["sample"]["clutter"]
    layer = Sdf.Layer.FindOrOpen(str(tmp_path / "one.usda"))
    assert things and len(things) == sum("thing_" in spec.name for spec in layer.GetPrimAtPath(CLUTTER).nameChildren)
    assert "PhysicsCollisionAPI" in str(layer.GetPrimAtPath(f"{CLUTTER}/thing_00").GetInfo("apiSchemas"))


def test_a_picture_is_drawn_as_the_delegate_draws_it(worker, kept):
    """What comes over the pipe is, byte for byte, what the delegate draws of the environment's own stage."""
    import base64

    from pxr import Usd, UsdGeom

    from omni_gen3d.render.delegate import SplatRenderDelegate
    from omni_gen3d.render.picture import color_to_image

    stage = Usd.Stage.Open(str(kept.usd))
    prim = UsdGeom.Camera(stage.GetPrimAtPath("/World/Environment/Cameras/Input"))
    matrix = UsdGeom.XformCache().GetLocalToWorldTransform(prim.GetPrim())
    identity = [float(i == j) for i in range(4) for j in range(4)]
    values = {
        "environments": [{"usd": str(kept.usd), "matrix": identity}],
        "camera": {
            "matrix": [matrix[i][j] for i in range(4) for j in range(4)],
            "focal_length": prim.GetFocalLengthAttr().Get(),
            "horizontal_aperture": prim.GetHorizontalApertureAttr().Get(),
            "vertical_aperture": prim.GetVerticalApertureAttr().Get(),
            "clipping_range": list(prim.GetClippingRangeAttr().Get()),
        },
        "width": 64,
        "height": 36,
    }
    result = answer(worker, "render", values)
    drawn = np.frombuffer(base64.b64decode(result["rgba"]), np.uint8).reshape(36, 64, 4)
    import torch

    with SplatRenderDelegate(stage, "cpu") as delegate:
        own = delegate.render("/World/Environment/Cameras/Input", aovs=("color",), size=(64, 36))
    expected = color_to_image(torch.as_tensor(own.aovs["color"][0]))
    # The lens of the toy is off centre, which the host does not send.
    assert drawn[..., :3].std() > 10 and (drawn[..., 3] == 255).all()
    assert np.abs(drawn[..., :3].mean((0, 1)) - expected.mean((0, 1))).max() < 12
    labels = answer(worker, "render", {**values, "aov": "semantic_id"})["labels"]
    assert "floor" in labels


def test_a_request_is_cancelled_before_and_while_it_runs(worker):
    """A running task stops at its next step, one that waits never begins, and the worker takes the next request."""
    running = worker.ask("generate", {"prompt": "a corridor", "device": "cpu"})
    waiting = worker.ask("models")
    wait(worker, lambda: running.stage)
    waiting.cancel()
    running.cancel()
    wait(worker, lambda: running.ended and waiting.ended, 2.0)
    assert [call.failure and call.failure.kind for call in (running, waiting)] == ["cancelled", "cancelled"]


def test_a_worker_that_is_killed_says_so(worker):
    """Its calls end with the name of the signal, and nothing waits for ever."""
    call = worker.ask("generate", {"prompt": "a corridor", "device": "cpu"})
    wait(worker, lambda: call.stage)
    os.kill(worker.pid, signal.SIGTERM)
    wait(worker, lambda: call.ended, 5.0)
    assert call.failure is not None
    assert call.failure.kind == "lost" and "SIGTERM" in call.failure.message


def test_a_python_without_the_libraries_says_what_to_install(tmp_path, monkeypatch):
    """The message names the missing package and the command; the details hold the traceback."""
    monkeypatch.setenv("OMNI_GEN3D_HOME", str(tmp_path / "library"))
    # The package alone, as in a checkout; beside an installed one lie the libraries, too.
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "omni_gen3d").symlink_to(Path(process.__file__).parents[1])
    monkeypatch.setattr(process, "ROOT", tmp_path / "checkout")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    worker = WorkerProcess(tmp_path / "bare" / "bin" / "python")
    failure = refusal(worker, "generate", {"prompt": "a room"})
    worker.close()
    assert failure.kind == "input" and "-m pip install" in failure.message and "Traceback" in failure.details


def test_something_that_is_no_python_is_explained(tmp_path):
    """A program that ends at once leaves its last words in the details."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho wrong turn >&2\nexit 7\n")
    script.chmod(0o755)
    worker = WorkerProcess(script)
    failure = refusal(worker, "models")
    worker.close()
    assert failure.kind == "lost" and "code 7" in failure.message and "wrong turn" in failure.details


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_host(tmp_path, way):
    """A host that is killed while its worker generates leaves neither a process nor half an environment."""
    code = (
        "import sys, time; from pathlib import Path; from omni_gen3d.kit.process import WorkerProcess\n"
        "worker = WorkerProcess(Path(sys.executable)); call = worker.ask('generate', {'prompt': 'a room'})\n"
        "while call.stage != 'load libraries': worker.poll(); time.sleep(0.01)\n"
        "print(worker.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "OMNI_GEN3D_HOME": str(tmp_path / "library")}
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    host.send_signal(way)
    host.wait()
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not list((tmp_path / "library" / "environments").iterdir())


def test_lines_hold_one_object_each():
    """What is written is read back; a line that is none is taken for nothing."""
    values = {"id": 1, "values": {"prompt": "zwei\nZeilen ü \ud800"}}
    line = to_line(values)
    assert line.count(b"\n") == 1 and from_line(line) == values
    for nonsense in (b"", b"[1]", b"{", b"\xff", b"1" * 5000):
        assert from_line(nonsense) == {}
