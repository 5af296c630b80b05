"""The start reader on its way into a bundle: held to the figures that its training shows."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from distill.nets import StartReader
from distill.start_samples import StartConfig, load_starts, write_file
from distill.start_train import as_input, load_starts_net, start_figures
from ecg.marks import END_KINDS
from export import ladder
from export.build import to_onnx
from export.jobs import JobSource
from export.to_onnx import starts_job


@pytest.fixture
def source(tmp_path: Path) -> JobSource:
    torch.manual_seed(0)
    torch.save({"net": StartReader().state_dict()}, tmp_path / "starts.ckpt")
    config = StartConfig(tmp_path / "starts", files=2, pages=1, seed=3)
    config.out.mkdir()
    for k in range(2):
        write_file(k, ([], []), config)
    return JobSource(tmp_path, starts=config.out)


def test_its_figures_are_those_of_its_training(source: JobSource) -> None:
    job = starts_job(source)
    assert source.starts is not None
    held = load_starts([source.starts / "starts-00000.npz"])
    net = load_starts_net(source.run / "starts.ckpt")
    with torch.no_grad():
        want = start_figures(net(as_input(held[0])).numpy(), held[1], held[2])
        assert job.figures is not None
        got = job.figures(lambda feed: [net(torch.from_numpy(np.asarray(feed["patch"], np.float32))).numpy()])
    assert got == pytest.approx(want, rel=1e-4, nan_ok=True)
    assert all(limit.figure in want for limit in job.limits)
    assert job.calibration is not None
    assert all(feed["patch"].shape == (1, 3, 96, 96) for feed in job.calibration())


def test_its_graph_climbs_the_ladder(source: JobSource, tmp_path: Path) -> None:
    job = starts_job(JobSource(source.run))
    assert job.calibration is None
    ladder.climb(job, "onnx", to_onnx(job, tmp_path / "start_reader.onnx"))
    run = onnxruntime.InferenceSession(str(tmp_path / "start_reader.onnx"), providers=["CPUExecutionProvider"])
    (out,) = run.run(None, {"patch": np.zeros((7, 3, 96, 96), np.float32)})
    assert out.shape == (7, len(END_KINDS), 102)
