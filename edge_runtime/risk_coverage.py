"""``python -m edge_runtime.risk_coverage``: what accuracy costs in refusals, on rendered and on real photos.

Photos are sorted by the gate's trust (refused ones last); the curve says how well the surest share of them is read.
Pictures that are no ECG are read too: none may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from ecg.errors import EcgscanError
from ecg.page import Photo
from ecg.synth.nonecg import NON_ECG_KINDS, non_ecg
from edge_runtime.cli import BundleOption, one_line_errors
from edge_runtime.evaluation import Row, paired_rows, read_row
from edge_runtime.reader import Reader
from edge_runtime.results_log import REPO, append_result, conditions
from edge_runtime.scan import PhotoReader

GOOD_DB: Final = 12.0  # a reading this good should never be refused
POOR_DB: Final = 6.0
SHARES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
PAIRED: Final = REPO.parent / "shared" / "data" / "photos" / "paired"
FIT_SEED: Final = 11  # the gate's thresholds were fitted on photos of this seed: measure on another

app = typer.Typer(
    add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


def curve(trust: Sequence[float], db: Sequence[float]) -> list[dict[str, float]]:
    """Rows of the risk-coverage curve: for each of ``SHARES`` the surest photos' median and mean dB and how many are
    poor, with the trust that the last of them has.

    ``db`` NaN: not scored, counts as 0.
    """
    order = np.argsort(-np.asarray(trust, dtype=np.float64), kind="stable")
    sorted_db = np.maximum(np.nan_to_num(np.asarray(db, dtype=np.float64))[order], 0.0)
    out = []
    for share in SHARES:
        n = max(1, round(share * len(order)))
        kept = sorted_db[:n]
        out.append(
            {"share": share, "n": n, "least_trust": float(np.asarray(trust)[order[n - 1]]),
             "median_db": float(np.median(kept)), "mean_db": float(kept.mean()), "min_db": float(kept.min()),
             "poor": float((kept < POOR_DB).mean())}
        )  # fmt: skip
    return out


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The curve and what it says in short: how many are read, how the refused compare with the kept."""
    trust = [r.quality.get("trust", 0.0) if r.status == "read" else -1.0 for r in rows]
    db = [r.db for r in rows]
    read = [d for d, r in zip(db, rows, strict=True) if r.status == "read"]
    return {
        "n": len(rows),
        "n_read": len(read),
        "median_db_read": float(np.median(read)) if read else float("nan"),
        "poor_read": sum(d < POOR_DB for d in read),
        "curve": curve(trust, db),
    }


def non_ecg_rows(reader: PhotoReader, seed: int, count: int) -> Iterator[Row]:
    """``count`` pictures of each of ``NON_ECG_KINDS``."""
    for k in range(count):
        for i, kind in enumerate(NON_ECG_KINDS):
            rgb = non_ecg(kind, np.random.default_rng([seed, 3, k, i]))
            yield read_row(reader, Photo(rgb), f"{kind} {k:02d}", group=kind)


def _told(rows: Iterator[Row]) -> list[Row]:
    out = []
    for row in rows:
        out.append(row)
        reason = row.reason or f"trust {row.quality.get('trust', float('nan')):.3f}"
        typer.echo(f"{row.name:28s} {row.status:10s} {row.db:6.2f} dB  {reason}")
    return out


def _photo_line(row: Row) -> dict[str, Any]:
    keys = ("trust", "confidence", "einthoven_error", "repeat_error", "lattice_residual_mm", "grid", "coverage")
    return row.as_json() | {k: row.quality[k] for k in keys if k in row.quality}


@app.command()
def main(
    results: Annotated[Path | None, typer.Option("--results", help="Append lines of figures to this .jsonl.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only rendered, real or non-ecg (repeatable).")] = None,
    count: Annotated[int, typer.Option(help="Rendered photos.")] = 40,
    pictures: Annotated[int, typer.Option(help="Pictures of each kind that is no ECG.")] = 5,
    seed: Annotated[int, typer.Option(help="Other hearts, pages and photos; the thresholds were fitted on 11.")] = 1,
    photos: Annotated[Path, typer.Option(help="Real photos with photos.csv and their signals.")] = PAIRED,
    bundle: BundleOption = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the nets; all cores if not given.")] = None,
) -> None:
    """Measure the risk-coverage curves and the refusal of pictures that are no ECG."""
    parts = part or ["rendered", "real", "non-ecg"]
    with one_line_errors():
        reader = Reader.open(bundle, threads=threads)
        for name in parts:
            line = _part(name, reader, count, pictures, seed, photos)
            typer.echo("  ".join(f"{k} {v}" for k, v in line["figures"].items() if k != "curve"))
            if results:
                append_result(results, line)


def _part(name: str, reader: Reader, count: int, pictures: int, seed: int, photos: Path) -> dict[str, Any]:
    """One part measured: a line for the results."""
    if name == "rendered":
        from edge_runtime.rendered import LONG_SIDE_PX, photographed_rows

        rows = _told(photographed_rows(reader, seed, count))
        data, figures = f"ecg.synth, {count} photos, long side {LONG_SIDE_PX} px", summary(rows)
    elif name == "real":
        if not (photos / "photos.csv").exists():
            raise EcgscanError(f"{photos.name}: no photos.csv there; give --photos DIR, or --part rendered")
        rows = _told(paired_rows(reader, photos, None))
        data, figures = f"photos/{photos.name}", summary(rows)
    elif name == "non-ecg":
        rows = _told(non_ecg_rows(reader, seed, pictures))
        read = [r.name for r in rows if r.status == "read"]
        data = f"ecg.synth.nonecg, {pictures} of each of {len(NON_ECG_KINDS)} kinds"
        figures = {"n": len(rows), "n_read": len(read), "read": read}
    else:
        raise EcgscanError(f"--part {name}: give rendered, real or non-ecg")
    told = conditions(data, seed=None if name == "real" else seed, bundle=reader.bundle)
    return {"task": f"gate/{name}", **told, "figures": figures, "photos": [_photo_line(r) for r in rows]}


if __name__ == "__main__":
    app()
