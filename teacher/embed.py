"""``ecgscan-teacher embed``: the teacher's embeddings of records, in one file that students learn from.

``targets.npz`` (read with ``load_targets``; unit vectors of the teacher's shared space are float32, d long):

| array | shape | holds |
|---|---|---|
| record | (n,) str | the record's name, as ``ecg.records.RecordRef.name`` gives it |
| source | (n,) str | its kind, such as "ptbxl" |
| fold | (n,) int64 | its fold, 0 where there is none |
| codes, superclasses | (n,) str | SCP codes and superclasses, joined by spaces |
| image | (n, v, d) | embeddings of v views of the record's page: view 0 a clean 3x4+1 print, the others photos |
| signal | (n, d) | embedding of the whole recording's signal: label-free target for any page of it |
| printed | (n, d) | embedding of the signal that a 3x4+1 page prints of it |
| sentence | (m,) str | every prompt's sentence |
| sentence_concept | (m,) str | the SCP code or superclass that it stands for |
| text | (m, d) | its embedding |
| concept | (k,) str | SCP codes, then the five superclasses |
| concept_vector | (k, d) | the unit mean of a concept's sentences: score = embedding @ concept_vector |
| head:NAME | | weights of the text projection, where the text encoder is MiniLM: for sentences of one's own |
| teacher | () str | sha256 of the run's teacher.safetensors |

Lost gains are drawn without the record's labels, from its name: the same in every run.  For pages that aren't here
(synthetic hearts, other prints), ``teacher.train.load_teacher(run)`` gives ``embed_pages`` (B, 1, 768, 768) uint8 and
``embed_signals`` (mv, known: (B, 12, 1000) at 100 Hz).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError
from ecg.files import write_npz
from ecg.layouts import LAYOUTS
from ecg.page import F32
from ecg.records import EcgRecord
from teacher.eval_pages import USUAL, eval_set, held_out_refs, read_refs
from teacher.evaluate import page_features, signal_features
from teacher.model import Teacher, build_text_encoder
from teacher.prompts import PROMPTS, SUPERCLASS_PROMPTS, class_vectors
from teacher.samples import Clocks
from teacher.signal_set import CONCEPTS, layout_mask
from teacher.train import TEACHER, load_teacher

VIEWS = ("clean", "photo")
HEAD = "head:"


def embed(
    run: Path,
    data: tuple[str, ...],
    out: Path,
    photos: bool = False,
    tell: Callable[[str], None] = print,
    each: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``out`` for all records of ``data``; with ``photos``, each page is embedded as photographed too."""
    net = load_teacher(run)
    if not hasattr(net, "signal"):
        raise InputError(f"{run}: was trained without signals (image_signal and gramian are 0): nothing to distil")
    refs = held_out_refs(data, ())
    kinds = {ref.path: spec.partition(":")[0] for spec in data for ref in held_out_refs([spec], ())}
    records = read_refs(refs, tell)
    kind_of = {ref.name: kinds[ref.path] for ref in refs}
    arrays = _record_arrays(net, records, run / "eval", photos, each)
    arrays |= _text_arrays(net)
    arrays["source"] = np.array([kind_of[r.name] for r in records])
    arrays["teacher"] = np.array(sha256((run / TEACHER).read_bytes()).hexdigest())
    write_npz(out, arrays)
    return out


def _record_arrays(
    net: Teacher, records: list[EcgRecord], cache: Path, photos: bool, each: Callable[[int, int], None] | None
) -> dict[str, Any]:
    config, encoder = net.config, net.signal.encoder
    clocks = Clocks(encoder.fs_hz, encoder.n_samples, config.decoder.fs_hz, config.decoder.n_samples)
    sets = [eval_set(records, c, config, clocks, cache, USUAL, each) for c in (VIEWS if photos else VIEWS[:1])]
    one = sets[0]
    mask = layout_mask(LAYOUTS[USUAL], clocks.signal_samples, clocks.signal_hz, 10.0)
    return {
        "record": np.array([r.name for r in records]),
        "fold": np.array([r.fold for r in records], np.int64),
        "codes": np.array([" ".join(r.codes) for r in records]),
        "superclasses": np.array([" ".join(r.superclasses) for r in records]),
        "image": np.stack([page_features(net, s.pages)["shared"] for s in sets], axis=1).astype(np.float32),
        "signal": signal_features(net, one.mv, one.known)["shared"].astype(np.float32),
        "printed": signal_features(net, one.mv, one.known & mask)["shared"].astype(np.float32),
    }


def _text_arrays(net: Teacher) -> dict[str, Any]:
    encoder = build_text_encoder(net.config.text)
    concepts = list(CONCEPTS)
    said = [*PROMPTS.values(), *SUPERCLASS_PROMPTS.values()]
    flat = [s for one in said for s in one]
    head = {f"{HEAD}{k}": v.numpy() for k, v in net.text_projection.state_dict().items()}
    return (head if net.config.text.kind == "minilm" else {}) | {
        "sentence": np.array(flat),
        "sentence_concept": np.array([c for c, one in zip(concepts, said, strict=True) for _ in one]),
        "text": net.embed_text(encoder.embed(flat)).numpy(),
        "concept": np.array(concepts),
        "concept_vector": class_vectors(said, lambda s: net.embed_text(encoder.embed(s))).numpy(),
    }


@dataclass(frozen=True, eq=False)
class Targets:
    """The arrays of a targets file; the module's docstring says what each holds."""

    record: NDArray[np.str_]
    source: NDArray[np.str_]
    fold: NDArray[np.int64]
    codes: tuple[tuple[str, ...], ...]
    superclasses: tuple[tuple[str, ...], ...]
    image: F32
    signal: F32
    printed: F32
    sentence: NDArray[np.str_]
    sentence_concept: NDArray[np.str_]
    text: F32
    concept: NDArray[np.str_]
    concept_vector: F32
    teacher: str
    text_head: dict[str, F32]


def load_targets(path: Path) -> Targets:
    """The targets of a file; InputError where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            a: dict[str, Any] = {k: file[k] for k in file.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as targets ({error}); make them with ecgscan-teacher embed") from error
    for name in ("codes", "superclasses"):
        a[name] = tuple(tuple(one.split()) for one in a[name].tolist())
    a["teacher"] = str(a["teacher"])
    a["text_head"] = {k.removeprefix(HEAD): a.pop(k) for k in list(a) if k.startswith(HEAD)}
    return Targets(**a)
