import numpy as np
import pytest

from ecg.synth.nonecg import NON_ECG_KINDS, non_ecg


@pytest.mark.parametrize("kind", NON_ECG_KINDS)
def test_pictures_come_the_same_from_the_same_seed(kind: str) -> None:
    one, other = (non_ecg(kind, np.random.default_rng(3), 700) for _ in range(2))
    assert one.dtype == np.uint8
    assert one.shape[2] == 3
    assert 500 <= max(one.shape) <= 700
    assert np.array_equal(one, other)
    assert one.std() > 2


def test_other_seed_gives_another_picture() -> None:
    one, other = (non_ecg("receipt", np.random.default_rng(s), 600) for s in (1, 2))
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="kind must be one of receipt"):
        non_ecg("cat", np.random.default_rng(1))
