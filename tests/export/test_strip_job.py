"""The decoder is exported for windows of any width, as the runtime reads rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.nets import StripDecoder
from ecg.marks import STRIP_ROWS
from edge_runtime.decoder_windows import MOST_TILES, tiles_columns
from edge_runtime.engines.ort import OrtEngine
from export import build, to_onnx
from export.jobs import JobSource


def test_any_width_gives_what_torch_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = StripDecoder((8, 8, 16, 16, 16)).eval()
    monkeypatch.setattr(to_onnx, "load_net", lambda what, path: net)
    spec = build.build_net(to_onnx.strip_job(JobSource(tmp_path)), tmp_path, int8=False)
    bundle = build.write_bundle(tmp_path, name="t", version="1", nets={"decoder": spec}, training_data=())
    engine = OrtEngine(bundle, "decoder", threads=1)
    for n in (1, 2, MOST_TILES):
        x = np.random.default_rng(n).uniform(0, 255, (1, 4, STRIP_ROWS, tiles_columns(n))).astype(np.float32)
        got = engine(x)
        with torch.no_grad():
            height, presence = net(torch.from_numpy(x))
        assert got["height"].shape == (1, STRIP_ROWS // 2, tiles_columns(n))
        assert np.abs(got["height"] - height.numpy()).max() < 1e-3
        assert np.abs(got["presence"] - presence.numpy()).max() < 1e-3
