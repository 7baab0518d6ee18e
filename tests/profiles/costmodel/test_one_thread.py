"""Ops that one thread does alone lose nothing by further threads."""

import numpy as np
import pytest

from fieldtune.profiles.costmodel.flops import Tensor
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.one_thread import one_thread_share
from fieldtune.profiles.costmodel.tflite_graph import Op
from fieldtune.profiles.costmodel.tflite_reader import TfliteFile
from fieldtune.profiles.device.load import load_profile
from fieldtune.profiles.measure.tflite_graphs import GraphBuilder, chain


def share(op_class, result, flops=0.0, *, operand=(), delegated=True):
    operands, results = [Tensor(operand, "FLOAT32")], [Tensor(result, "FLOAT32")]
    return one_thread_share(
        Op("", [0], [1], operands, results, None), op_class, flops, delegated=delegated
    )


@pytest.mark.parametrize(
    ("op_class", "result", "flops", "found"),
    [
        ("matmul", (6, 8), 1e6, 1.0),  # one tile
        ("matmul", (1, 8), 100, 1.0),
        ("matmul", (1, 16), 100, 0.75),  # two tiles of few operations
        ("matmul", (1, 64), 2**14, 0.5),
        ("conv", (1, 7, 1, 8), 2**15, 0.0),
        ("depthwise", (1, 1, 1, 8), 1e6, 0.0),  # counts by its operations alone
        ("depthwise", (1, 1, 1, 8), 100, 0.75),
        ("elementwise", (1, 1024), 20480, 1.0),
        ("elementwise", (1, 1025), 1025, 0.0),
        ("move", (32, 32), 0, 1.0),
    ],
)
def test_a_tile_of_xnnpack_is_done_by_one_thread_and_a_small_product_in_part(
    op_class, result, flops, found
):
    assert share(op_class, result, flops) == found


@pytest.mark.parametrize(
    ("op_class", "result", "flops", "found"),
    [
        ("matmul", (64, 64), 2**13 - 1, 1.0),
        ("matmul", (64, 64), 2**13, 0.0),
        ("depthwise", (1, 1, 1, 8), 2**13, 0.0),
        ("elementwise", (1, 64), 64, 1.0),
        ("elementwise", (1, 65), 65, 0.0),
    ],
)
def test_small_ops_of_the_runtime_itself_have_one_thread(op_class, result, flops, found):
    assert share(op_class, result, flops, delegated=False) == found


def test_a_reduction_is_as_small_as_what_it_reads():
    assert share("reduce", (1, 8), operand=(1, 64, 64, 8)) == 0.0
    assert share("pool", (1, 8), operand=(1, 4, 4, 8)) == 1.0


def recurrent(steps=40, units=16):
    """Steps of a recurrent layer: a product, additions and an activation of few elements each."""
    builder = GraphBuilder()
    first = state = builder.tensor((1, units))
    for _ in range(steps):
        weights = builder.constant(np.ones((4 * units, units), np.float32))
        gates, parts = builder.tensor((1, 4 * units)), [builder.tensor((1, units)) for _ in "ifco"]
        builder.op("FULLY_CONNECTED", [state, weights], [gates], ("FullyConnectedOptions", {}))
        axis = builder.constant(np.array(1, np.int32))
        builder.op("SPLIT", [axis, gates], parts, ("SplitOptions", {"numSplits": 4}))
        for part in parts:
            active, total = builder.tensor((1, units)), builder.tensor((1, units))
            builder.op("LOGISTIC", [part], [active])
            builder.op("ADD", [active, state], [total], ("AddOptions", {}))
            state = total
    return builder.finish([first], [state])


@pytest.mark.parametrize("runtime", ["xnnpack", "plain"])
@pytest.mark.parametrize(
    ("content", "slower"),
    # A recurrent layer's products have several tiles, for which four threads do wait a little.
    [(chain("ADD", 16, 200), 1.001), (recurrent(), 1.9)],
    ids=["single tiles", "recurrent"],
)
@pytest.mark.parametrize("name", ["raspberry-pi-4b", "raspberry-pi-5", "x86-mini-pc"])
def test_very_many_tiny_ops_are_not_much_slower_with_several_threads(
    name, content, slower, runtime
):
    work = TfliteFile(content).work("main", runtime)
    one, two, four = (call_ms(load_profile(name), work, threads=n).value for n in (1, 2, 4))
    assert max(two, four) <= slower * one
