"""WFDB record: a header and a file of 16-bit samples, lead after lead within each sample.

https://physionet.org/physiotools/wag/header-5.htm, format 16.  -32768 is WFDB's own mark of an invalid sample.
"""

from __future__ import annotations

import numpy as np

from ecg.leads import LEADS
from edge_runtime.exports.document import ORIGIN, SOFTWARE, Document


def contents(document: Document, names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """The signal file and the header of a record; ``names`` are theirs, in this order."""
    return document.counts.T.astype("<i2").tobytes(), _header(document, *names).encode("ascii")


def _header(document: Document, dat_name: str, hea_name: str) -> str:
    record = hea_name.removesuffix(".hea")
    gain = 1000 / document.lsb_uv  # counts per mV
    lines = [f"{record} {len(LEADS)} {document.fs_hz:g} {document.n}"]
    for lead, counts in zip(LEADS, document.counts, strict=True):
        # The checksum is the 16-bit sum of the samples, signed as the C library writes it.
        checksum = int(np.array(counts.sum(dtype=np.int64)).astype(np.int16))
        lines.append(f"{dat_name} 16 {gain:g}(0)/mV 16 0 {counts[0]} {checksum} 0 {lead}")
    lines.append(f"# {SOFTWARE}. {ORIGIN}")
    lines.append("# Time 0 is the printed start. Samples of -32768 are not printed or could not be read.")
    for s in document.fills():
        lines.append(f"# {s.what} {s.lead} {s.start / document.fs_hz:.3f} {s.stop / document.fs_hz:.3f} s")
    return "\n".join(lines) + "\n"
