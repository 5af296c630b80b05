"""``ecgscan-teacher render``: training pages as webdataset shards, by processes or on a Ray cluster.

A shard is a tar whose members NUMBER.jpg, NUMBER.npz and NUMBER.json are one sample: the page, its signals and masks,
and what is said of it.  It is written under another name and renamed when it is whole; a shard that is there is left,
so the same call goes on where another was cut off.  Samples follow from the seed and their number alone.
"""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError
from ecg.workers import run_shares
from teacher.config import TeacherConfig
from teacher.model import build_signal_encoder
from teacher.pool import JPEG_QUALITY, Arrays, Pool
from teacher.samples import Clocks, Sample, Source, make_sample

_MANIFEST = "render.json"


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make any shard."""

    config: TeacherConfig
    out: str
    shard_pages: int
    clocks: Clocks


def shard_path(out: Path, shard: int) -> Path:
    """The file of a shard."""
    return out / f"pages-{shard:06d}.tar"


def render_shards(
    config: TeacherConfig, out: Path, shard_pages: int, workers: int, ray_address: str | None = None
) -> tuple[int, int]:
    """Write the shards that aren't there; returns how many were written and how many there are.

    InputError where the folder holds shards of another configuration, EcgscanError where a worker failed.
    """
    Source(config)  # faults of the data end the command here, in one line
    task = ShardTask(config, str(out.resolve()), shard_pages, _clocks(config))
    _claim(task, out)
    shards = -(-config.data.pages // shard_pages)
    todo = [k for k in range(shards) if not shard_path(out, k).exists()]
    if ray_address is not None:
        _on_ray(task, todo, ray_address)
    else:
        run_shares(_worker, task, todo, 1 if len(todo) < 2 else workers)
    return len(todo), shards


def _clocks(config: TeacherConfig) -> Clocks:
    if config.signal.kind == "dbeta":  # its weights needn't be here to print pages
        rate, n = 500.0, 5000
    else:
        encoder = build_signal_encoder(config.signal)
        rate, n = encoder.fs_hz, encoder.n_samples
    return Clocks(rate, n, config.decoder.fs_hz, config.decoder.n_samples)


def _claim(task: ShardTask, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    config = task.config
    said = json.dumps({
        "data": {k: v for k, v in asdict(config.data).items() if k not in ("workers", "hearts")},
        "image": asdict(config.image), "seed": config.optim.seed, "clocks": asdict(task.clocks),
        "shard_pages": task.shard_pages,
    }, indent=1)  # fmt: skip
    path = out / _MANIFEST
    if not path.exists():
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(said, encoding="utf-8")
        part.replace(path)
    elif path.read_text(encoding="utf-8") != said:
        raise InputError(f"{out}: holds shards of another configuration; choose another folder or delete it")


def write_shard(task: ShardTask, shard: int) -> None:
    """Make and write one shard, whole or not at all."""
    source = Source(task.config)
    first = shard * task.shard_pages
    last = min(first + task.shard_pages, task.config.data.pages)
    path = shard_path(Path(task.out), shard)
    # Names of hosts and processes keep two writers of the same shard apart; the last rename wins, both are whole.
    part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    with tarfile.open(part, "w") as tar:
        for number in range(first, last):
            for name, data in _members(number, make_sample(number, source, task.config, task.clocks)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    os.replace(part, path)


def _members(number: int, sample: Sample) -> Iterator[tuple[str, bytes]]:
    page = np.ascontiguousarray(sample.page[..., ::-1])
    yield f"{number:08d}.jpg", cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, allow_pickle=False, mv=sample.mv.astype(np.float16), known=np.packbits(sample.known, axis=-1),
        target_mv=sample.target_mv.astype(np.float16), printed=np.packbits(sample.printed, axis=-1),
    )  # fmt: skip
    yield f"{number:08d}.npz", arrays.getvalue()
    said = {"sentence": sample.sentence, "group": sample.group, "record": sample.record,
            "samples": [sample.mv.shape[1], sample.target_mv.shape[1]]}  # fmt: skip
    yield f"{number:08d}.json", json.dumps(said).encode()


def read_shard(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a shard: page (H, W[, 3]) RGB, mv, known, target_mv, printed, sentence, group, record."""
    for row in _stored(path):
        picture: Any = cv2.imdecode(np.frombuffer(row.pop("jpeg"), np.uint8), cv2.IMREAD_UNCHANGED)
        yield {"page": picture[..., ::-1] if picture.ndim == 3 else picture, **row}


def _stored(path: Path) -> Iterator[dict[str, Any]]:
    """The same with the page as it is stored, "jpeg"."""
    try:
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m) for m in tar.getmembers()}
            data = {name: file.read() for name, file in members.items() if file is not None}
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{path}: can't be read as a shard of pages ({error}); delete it and run again") from error
    for key in sorted({name.split(".")[0] for name in data}):
        said = json.loads(data[f"{key}.json"])
        n, t = said.pop("samples")
        with np.load(io.BytesIO(data[f"{key}.npz"]), allow_pickle=False) as file:
            bits = {k: np.unpackbits(file[k], axis=-1, count=c).astype(bool) for k, c in (("known", n), ("printed", t))}
            signals: dict[str, NDArray[Any]] = {k: file[k].astype(np.float32) for k in ("mv", "target_mv")}
        yield {"jpeg": data[f"{key}.jpg"], **signals, **bits, **said}


class ShardPool(Pool):
    """Batches out of a folder of shards that ``render_shards`` wrote for this configuration."""

    def __init__(self, folder: Path, config: TeacherConfig) -> None:
        super().__init__(folder, config.data.pages, config.optim.draw_seed)
        size = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["shard_pages"]
        _claim(ShardTask(config, str(folder), size, _clocks(config)), folder)
        self.size = size
        if lacking := [k for k in range(self.parts) if not shard_path(folder, k).exists()]:
            raise InputError(f"{folder}: {len(lacking)} of {self.parts} shards are missing; run ecgscan-teacher render")

    def read(self, part: int) -> Arrays:
        """A shard's arrays, as a part has them."""
        rows = list(_stored(shard_path(self.folder, part)))
        out: Arrays = {k: np.stack([r[k] for r in rows]) for k in ("mv", "known", "target_mv", "printed")}
        jpegs = [np.frombuffer(r["jpeg"], np.uint8) for r in rows]
        out |= {"jpeg": np.concatenate(jpegs), "jpeg_end": np.cumsum([len(j) for j in jpegs])}
        return out | {k: np.array([r[k] for r in rows]) for k in ("sentence", "group", "record")}


def holds_shards(folder: Path) -> bool:
    """Whether a folder of pages is one of shards."""
    return (folder / _MANIFEST).exists()


def _worker(task: ShardTask, todo: Sequence[int]) -> None:
    cv2.setNumThreads(1)
    for shard in todo:
        write_shard(task, shard)


def _on_ray(task: ShardTask, todo: list[int], address: str) -> None:
    """One task a shard; the folder must be one that all nodes share."""
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs ray: pip install 'ecgscan[ray]'") from None
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1, max_retries=2)(_worker)
        waiting = [remote.remote(task, [k]) for k in todo]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            ray.get(done)
    except ray.exceptions.RayError as error:
        raise InputError(f"rendering on Ray failed: {str(error).splitlines()[0]}; run again to go on") from error
    finally:
        ray.shutdown()
