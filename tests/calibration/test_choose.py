"""The choice of a calibration: least loss wins, and nodes go back to float until the limits hold."""

from __future__ import annotations

from calibration.choose import MOST_FLOAT, Limit, calibrate
from calibration.ranges import METHODS


def eight_bit(model) -> int:
    return sum("_q8" in i for n in model.graph.node if n.op_type == "DequantizeLinear" for i in n.input[:1])


def test_the_method_with_the_least_loss(net, feeds) -> None:
    rising = [1.0 + 0.1 * k for k in range(len(METHODS))]
    losses = iter([1.0, *rising[::-1], *rising])
    said: list[str] = []
    made = calibrate(net, feeds, lambda model: {"loss": next(losses)}, say=said.append)
    assert made.method == {"ort": METHODS[-1], "trt": METHODS[0]}
    assert made.keep_float == ()
    assert set(made.models) == {"ort", "trt"}
    assert len(said) == 2
    assert all(m in line for line in said for m in METHODS)
    assert made.as_json()["figures"]["ort"] == made.figures["ort"]
    assert set(made.as_json()["node_sqnr_db"]) == {"a0", "b0", "c0", "f0_places", "f0_beside", "maps", "score"}


def test_a_limit_goes_before_the_loss(net, feeds) -> None:
    """A method that spoils what is rare loses to one that doesn't, whatever the sum of all says."""
    sizes = iter([(1.0, 0.0), *[(0.5, 0.3), (0.9, 0.01)] * 2])
    made = calibrate(
        net, feeds, lambda model: dict(zip(("loss", "size"), next(sizes), strict=True)), [Limit("size", 0.02, False)],
        methods=METHODS[:2],
    )  # fmt: skip
    assert made.method == {"ort": METHODS[1], "trt": METHODS[1]}


def test_nodes_go_back_to_float(net, feeds) -> None:
    """Each node on 8 bits costs 0.1 dB of the task; 0.35 are allowed."""

    def measure(model) -> dict[str, float]:
        return {"loss": 0.0, "db": 20 - 0.1 * eight_bit(model)}

    made = calibrate(net, feeds, measure, [Limit("db", 0.35)], methods=("minmax",))
    assert len(made.keep_float) == 4  # of seven: one convolution is taken apart
    assert list(made.keep_float) == list(made.node_sqnr_db)[:4]
    assert eight_bit(made.models["trt"]) == 2
    most = calibrate(net, feeds, measure, [Limit("db", 0.0)], methods=("minmax",))
    assert len(most.keep_float) == MOST_FLOAT
    assert MOST_FLOAT >= 6
    assert most.figures["ort"]["db"] == 20 - 0.1 * (7 - MOST_FLOAT)


def test_the_signed_graph_may_be_the_narrow_one(net, feeds) -> None:
    """Where anything beside convolutions and products on 8 bits costs too much."""

    def measure(model) -> dict[str, float]:
        made = {out for n in model.graph.node for out in n.output}
        joined = any(n.op_type == "Concat" and all("_dq_" in i for i in n.input) for n in model.graph.node)
        return {"loss": 0.0, "db": 19.0 if joined and "c" in made else 20.0}  # unsigned graphs have no Relu c

    made = calibrate(net, feeds, measure, [Limit("db", 0.5)], methods=("minmax",))
    assert made.figures["trt"]["db"] == 20
    assert eight_bit(made.models["trt"]) == 6
    assert not any(n.op_type == "Concat" and "_dq_" in n.input[0] for n in made.models["trt"].graph.node)


def test_limits_know_which_way_is_worse() -> None:
    assert Limit("db", 0.3).excess({"db": 16.0}, {"db": 15.5}) > 0
    assert Limit("db", 0.3).excess({"db": 16.0}, {"db": 17.0}) < 0
    assert Limit("mm", 0.02, higher_is_better=False).excess({"mm": 0.1}, {"mm": 0.13}) > 0
