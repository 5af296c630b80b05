import pytest
import torch

from distill.precision import training_precision


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_only_where_the_cpu_computes_it(monkeypatch, fast):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    with training_precision():
        said = torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3))
    assert said.dtype == (torch.bfloat16 if fast else torch.float32)
