"""``ecgscan-edge doctor``: what is installed and found here, whether the bundle is whole, and a timed reading."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import ecg
from ecg.errors import EcgscanError

NEEDED: Final = {"numpy": "numpy", "cv2": "opencv-python-headless", "onnxruntime": "onnxruntime", "PIL": "pillow",
                 "pillow_heif": "pillow-heif", "pypdfium2": "pypdfium2"}  # fmt: skip
# What more can be installed, and what for.
OPTIONAL: Final = {
    "openvino": "--engine openvino", "tensorrt": "--engine trt", "pydicom": "--format dicom", "pyarrow": "batch",
    "ray": "batch --ray",
}  # fmt: skip
SELF_TEST_SEED: Final = 1
SELF_TEST_PX: Final = 2000
MIN_DB: Final = 8.0  # of the self-test's page; it reads far above
CAMERA_TIMEOUT_S: Final = 3.0
_AGAIN: Final = "pip install --force-reinstall ecgscan"
# Asks a V4L2 device for its name and what it can do, without starting it (VIDIOC_QUERYCAP of linux/videodev2.h).
_ASK_CAMERA: Final = """
import fcntl, json, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
said = fcntl.ioctl(fd, 0x80685600, bytes(104))
driver, card, bus, version, can, device = struct.unpack("16s32s32sIII", said[:92])
can = device if can & 0x80000000 else can
print(json.dumps({"name": card.split(bytes(1))[0].decode("utf-8", "replace"), "captures": bool(can & 0x1001)}))
"""


def examine(bundle: Path | None = None, engine: str = "auto") -> dict[str, Any]:
    """Everything as a JSON document; ``problems`` name what to do, ``usable`` is True where there are none."""
    problems: list[str] = []
    report: dict[str, Any] = {
        "ecgscan": ecg.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": _packages(problems),
        "optional": {name: {"version": _version(name), "for": use} for name, use in OPTIONAL.items()},
        "opencv": _checked(problems, "OpenCV", _opencv),
        "onnxruntime_providers": _checked(problems, "onnxruntime", _providers),
        "cameras": cameras(),
        "bundle": _checked(problems, "model bundle", lambda: _bundle(bundle)),
    }
    ready = not problems
    report["self_test"] = _checked(problems, "self-test", lambda: self_test(bundle, engine)) if ready else None
    return {"usable": not problems, "problems": problems, **report}


def _checked(problems: list[str], what: str, look: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What a look gives; where it fails, None and a problem in one line."""
    try:
        return look()
    except EcgscanError as err:
        problems.append(f"{what}: {err}")
    except Exception as err:  # a broken library may raise anything
        problems.append(f"{what}: {type(err).__name__}: {' '.join(str(err).split())[:160]}; {_AGAIN}")
    return None


def _packages(problems: list[str]) -> dict[str, str | None]:
    found = {}
    for module, package in NEEDED.items():
        found[module] = _version(module)
        try:
            importlib.import_module(module)
        except Exception as err:
            why = " ".join(str(err).split())[:120]
            problems.append(f"{module} can't be imported ({why}): pip install --force-reinstall {package}")
    return found


def _version(module: str) -> str | None:
    """The version of an installed module, unimported: openvino and tensorrt take seconds to load."""
    if importlib.util.find_spec(module) is None:
        return None
    for package in _distributions().get(module, ()):
        return importlib.metadata.version(package)
    return str(getattr(importlib.import_module(module), "__version__", "?"))  # bound to the system, without metadata


@cache
def _distributions() -> Mapping[str, list[str]]:
    """What provides each module; looking through all that is installed takes a second."""
    return importlib.metadata.packages_distributions()


def _opencv() -> dict[str, Any]:
    import cv2

    text = cv2.getBuildInformation()
    video = {}
    for name in ("GStreamer", "v4l/v4l2", "FFMPEG"):
        found = re.search(rf"^\s*{re.escape(name)}:\s*(\S+)", text, re.MULTILINE)
        video["V4L2" if name.startswith("v4l") else name] = bool(found and found[1].upper() == "YES")
    return {"version": cv2.__version__, "threads": cv2.getNumThreads(), "video": video}


def _providers() -> dict[str, Any]:
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def cameras(folder: Path = Path("/dev")) -> list[dict[str, Any]]:
    """The V4L2 devices, asked one by one in a process of their own: a broken driver may never answer."""
    devices = sorted((p for p in folder.glob("video*") if p.name[5:].isdigit()), key=lambda p: int(p.name[5:]))
    out = []
    for device in devices:
        found: dict[str, Any] = {"device": str(device)}
        try:
            asked = subprocess.run([sys.executable, "-c", _ASK_CAMERA, str(device)], capture_output=True, text=True,
                                   timeout=CAMERA_TIMEOUT_S, check=True)  # fmt: skip
            found |= json.loads(asked.stdout)
        except subprocess.TimeoutExpired:
            found["problem"] = f"no answer within {CAMERA_TIMEOUT_S:g} s; unplug it and plug it in again"
        except subprocess.CalledProcessError as err:
            last = (err.stderr.strip().splitlines() or ["?"])[-1]
            denied = "Permission" in last
            found["problem"] = "no permission; add yourself to the group video" if denied else last[:120]
        out.append(found)
    return out


def _bundle(bundle: Path | None) -> dict[str, Any]:
    """The bundle, every file of it compared with its hash."""
    from ecg.bundle import load_bundle
    from edge_runtime.reader import SHIPPED

    loaded = load_bundle(bundle or SHIPPED)
    return {
        "path": str(loaded.info.path), "name": loaded.name, "version": loaded.info.version,
        "sha256": loaded.info.sha256, "nets": sorted(loaded.nets),
    }  # fmt: skip


def self_test(bundle: Path | None, engine: str) -> dict[str, Any]:
    """Render the demo's page, read it twice (the first time warms up), compare; raises ``EcgscanError``."""
    from ecg.metrics import score_reading
    from ecg.page import Photo, Reading
    from edge_runtime.demo import demo_photo
    from edge_runtime.engines import chosen
    from edge_runtime.evaluation import page_truth
    from edge_runtime.reader import Reader

    shot = demo_photo(SELF_TEST_SEED, SELF_TEST_PX)
    start = time.perf_counter()
    reader = Reader.open(bundle, engine=engine)
    opened = time.perf_counter()
    first = reader.read(Photo(shot.rgb, "self-test"))
    between = time.perf_counter()
    result = reader.read(Photo(shot.rgb, "self-test"))
    seconds = time.perf_counter() - between
    if not isinstance(result, Reading) or not isinstance(first, Reading) or shot.page is None:
        why = "" if isinstance(result, Reading) else f" ({result.reason})"
        raise EcgscanError(f"the demo's page can't be read{why}; install ecgscan again, or name another --engine")
    score = score_reading(page_truth(shot.page), result.signal.mv, result.signal.fs_hz)
    if not score.db >= MIN_DB:
        raise EcgscanError(
            f"the demo's page reads at {score.db:.1f} dB, {MIN_DB:g} are expected; try --engine ort, and report it"
        )
    return {
        "engine": chosen(engine), "db": round(score.db, 1), "open_s": round(opened - start, 2),
        "first_s": round(between - opened, 2), "read_s": round(seconds, 2), "stages_ms": result.timings_ms,
    }  # fmt: skip


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for a terminal."""
    yield f"ecgscan {report['ecgscan']}, Python {report['python']}, {report['system']}"
    yield "packages: " + ", ".join(f"{name} {version or 'missing'}" for name, version in report["packages"].items())
    if cv := report["opencv"]:
        with_video = ", ".join(f"{'with' if there else 'without'} {name}" for name, there in cv["video"].items())
        yield f"OpenCV {cv['version']}, {with_video}, {cv['threads']} threads"
    if ort := report["onnxruntime_providers"]:
        yield f"onnxruntime {ort['version']}: {', '.join(ort['providers'])}"
    for name, found in report["optional"].items():
        yield f"{name}: {found['version'] or 'not installed'} (for {found['for']})"
    for camera in report["cameras"]:
        said = camera.get("problem") or f"{camera['name']}{'' if camera['captures'] else ', gives no pictures'}"
        yield f"camera {camera['device']}: {said}"
    if not report["cameras"]:
        yield "cameras: none found (/dev/video*)"
    if bundle := report["bundle"]:
        yield f"model bundle {bundle['name']} {bundle['version']}, {bundle['sha256'][:12]}: all files whole"
    if test := report["self_test"]:
        yield (f"self-test: read in {test['read_s']} s ({test['first_s']} s the first time) with {test['engine']}, "
               f"{test['db']} dB against the truth")  # fmt: skip
    for problem in report["problems"]:
        yield f"PROBLEM {problem}"
    yield "usable" if report["usable"] else "not usable: see the problems above"
