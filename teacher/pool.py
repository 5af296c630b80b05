"""A run's samples on disk: parts of a few samples each, written whole or not at all, drawn from in epochs."""

from __future__ import annotations

import json
import logging
import multiprocessing as mp
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecg.errors import InputError
from ecg.files import write_npz
from teacher.config import TeacherConfig
from teacher.model import Batch
from teacher.samples import Clocks, Sample, Source, make_sample

_log = logging.getLogger(__name__)

PART_SAMPLES = 16
JPEG_QUALITY = 92
_PARTS_TOGETHER = 8  # shuffled among each other; as many stay in memory
Arrays = dict[str, NDArray[Any]]


# ------------------------------------------------------------------------------------------------------------- parts


def part_path(folder: Path, part: int) -> Path:
    """The file of a part."""
    return folder / f"part-{part:06d}.npz"


def n_parts(pages: int) -> int:
    """Parts that hold so many pages."""
    return -(-pages // PART_SAMPLES)


def write_part(path: Path, samples: list[Sample]) -> None:
    """Pages as JPEG, signals in half precision (1/2048 of their size at most), masks as bits."""
    jpegs = [
        cv2.imencode(".jpg", np.ascontiguousarray(s.page[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        for s in samples
    ]
    flat = [np.asarray(j, np.uint8).reshape(-1) for j in jpegs]
    out: Arrays = {
        "jpeg": np.concatenate(flat),
        "jpeg_end": np.cumsum([len(j) for j in flat]),
        "mv": np.stack([s.mv for s in samples]).astype(np.float16),
        "known": np.packbits(np.stack([s.known for s in samples]), axis=-1),
        "target_mv": np.stack([s.target_mv for s in samples]).astype(np.float16),
        "printed": np.packbits(np.stack([s.printed for s in samples]), axis=-1),
        "sentence": np.array([s.sentence for s in samples]),
        "group": np.array([s.group for s in samples]),
        "record": np.array([s.record for s in samples]),
    }
    write_npz(path, out)


def read_part(path: Path) -> Arrays:
    """A part's arrays; InputError where the file is missing or broken."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: can't be read as rendered pages ({error}); delete it and run again") from error
    except Exception as error:  # zipfile raises its own for truncated files
        raise InputError(f"{path}: is broken ({type(error).__name__}); delete it and run again") from error
    n, t = found["mv"].shape[-1], found["target_mv"].shape[-1]
    found["known"] = np.unpackbits(found["known"], axis=-1, count=n).astype(bool)
    found["printed"] = np.unpackbits(found["printed"], axis=-1, count=t).astype(bool)
    return found


# ------------------------------------------------------------------------------------------------------------ rendering


def _render(
    todo: list[int], folder: Path, config: TeacherConfig, clocks: Clocks, each: Callable[[], None] | None = None
) -> None:
    """Write these parts, one after another."""
    source = Source(config)
    for part in todo:
        first = part * PART_SAMPLES
        last = min(first + PART_SAMPLES, config.data.pages)
        write_part(part_path(folder, part), [make_sample(k, source, config, clocks) for k in range(first, last)])
        if each:
            each()
    if source.skipped:
        _log.warning("%d records can't be used", len(source.skipped))


def _render_process(todo: list[int], folder: Path, config: TeacherConfig, clocks: Clocks) -> None:
    cv2.setNumThreads(1)
    _render(todo, folder, config, clocks)


def render_parts(
    folder: Path, config: TeacherConfig, clocks: Clocks, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the parts that aren't there yet, by ``config.data.workers`` processes; ``progress(parts done, parts)``.

    InputError where the folder holds pages of another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, config, clocks)
    parts = n_parts(config.data.pages)
    todo = [k for k in range(parts) if not part_path(folder, k).exists()]

    def tell() -> None:
        if progress:
            progress(sum(part_path(folder, k).exists() for k in range(parts)), parts)

    if not todo:
        return
    if config.data.workers < 2:
        _render(todo, folder, config, clocks, tell)
        return
    Source(config)  # faults of the data end the command here, in one line
    context = mp.get_context("spawn")
    jobs = [
        context.Process(target=_render_process, args=(todo[w :: config.data.workers], folder, config, clocks))
        for w in range(config.data.workers)
    ]
    for job in jobs:
        job.daemon = True
        job.start()
    while any(job.is_alive() for job in jobs):
        for job in jobs:
            job.join(0.5)
        tell()
    if failed := [w for w, job in enumerate(jobs) if job.exitcode]:
        raise InputError(f"rendering failed in processes {failed}: their messages stand above; run again to go on")


def _claim(folder: Path, config: TeacherConfig, clocks: Clocks) -> None:
    """The folder is for pages of this configuration only: what decides them is written beside them."""
    decides = {
        "data": {k: v for k, v in asdict(config.data).items() if k not in ("workers", "hearts")},
        "seed": config.optim.seed,
        "page": config.image.page,
        "size": [config.image.height_px, config.image.width_px],
        "clocks": asdict(clocks),
    }
    said, path = json.dumps(decides, indent=1), folder / "pages.json"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(said, encoding="utf-8")
        os.replace(part, path)
    elif path.read_text(encoding="utf-8") != said:
        raise InputError(f"{folder}: holds pages of another configuration; choose another folder or delete it")


# -------------------------------------------------------------------------------------------------------------- reading


class Pool:
    """Batches out of a folder of rendered parts."""

    def __init__(self, folder: Path, pages: int, seed: int, text: Callable[[list[str]], Tensor] | None = None) -> None:
        self.folder, self.pages, self.seed = folder, pages, seed
        self.text = text
        self.size = PART_SAMPLES
        self._kept: OrderedDict[int, Arrays] = OrderedDict()

    def read(self, part: int) -> Arrays:
        """A part's arrays, from disk."""
        return read_part(part_path(self.folder, part))

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.pages // self.size)

    def part(self, part: int) -> Arrays:
        """A part's arrays, out of memory if it was read lately."""
        if part in self._kept:
            self._kept.move_to_end(part)
        else:
            self._kept[part] = self.read(part)
            while len(self._kept) > _PARTS_TOGETHER + 1:
                self._kept.popitem(last=False)
        return self._kept[part]

    def sentences(self) -> list[str]:
        """All different sentences, sorted."""
        found: set[str] = set()
        for k in range(self.parts):
            found.update(str(s) for s in self.part(k)["sentence"])
        return sorted(found)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The pages' numbers as an epoch takes them: parts shuffled, then pages within a few parts together."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        parts = rng.permutation(self.parts)
        out = []
        for k in range(0, len(parts), _PARTS_TOGETHER):
            numbers = np.concatenate(
                [np.arange(p * self.size, min((p + 1) * self.size, self.pages)) for p in parts[k : k + _PARTS_TOGETHER]]
            )
            out.append(rng.permutation(numbers))
        return np.concatenate(out)

    def numbers(self, batches: int, batch: int, first: int) -> Iterator[NDArray[np.int64]]:
        """``batches`` batches of page numbers from the ``first`` on; an epoch's odd rest is left."""
        per_epoch = self.pages // batch
        if not per_epoch:
            raise InputError(f"{self.pages} pages are fewer than one batch of {batch}; render more or lower the batch")
        epoch, order = -1, np.zeros(0, np.int64)
        for k in range(first, first + batches):
            if k // per_epoch != epoch:
                epoch = k // per_epoch
                order = self.order(epoch)
            start = (k % per_epoch) * batch
            yield order[start : start + batch]

    def batch(self, numbers: NDArray[np.int64], with_pages: bool = True) -> Batch:
        """The pages of these numbers as tensors."""
        rows = [(self.part(int(k) // self.size), int(k) % self.size) for k in numbers]
        sentences = [str(p["sentence"][i]) for p, i in rows]
        text = self.text(sentences) if self.text else torch.zeros(len(rows), 0)
        pages = np.stack([page_of(p, i) for p, i in rows]) if with_pages else np.zeros((len(rows), 0), np.uint8)
        return Batch(
            pages=torch.from_numpy(pages),
            mv=_stacked(rows, "mv").float(),
            known=_stacked(rows, "known"),
            text=text,
            target_mv=_stacked(rows, "target_mv").float(),
            printed=_stacked(rows, "printed"),
            record=_ids([str(p["record"][i]) for p, i in rows]),
            sentence=_ids([str(p["group"][i]) for p, i in rows]),
        )


def page_of(part: Arrays, i: int) -> NDArray[np.uint8]:
    """The i-th page of a part, (C, H, W)."""
    start = int(part["jpeg_end"][i - 1]) if i else 0
    stored: Any = cv2.imdecode(part["jpeg"][start : int(part["jpeg_end"][i])], cv2.IMREAD_UNCHANGED)
    if stored.ndim == 2:
        return np.asarray(stored, np.uint8)[None]
    return np.ascontiguousarray(np.asarray(stored, np.uint8)[..., ::-1].transpose(2, 0, 1))


def _stacked(rows: list[tuple[Arrays, int]], name: str) -> Tensor:
    return torch.from_numpy(np.stack([p[name][i] for p, i in rows]))


def _ids(names: list[str]) -> Tensor:
    """Numbers that are equal where the names are, in every process."""
    return torch.tensor([crc32(n.encode()) for n in names], dtype=torch.int64)
