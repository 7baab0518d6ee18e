"""Which kernel computes an op, who computes it, and what comes from afar."""

import numpy as np
import pytest

from fieldtune.profiles.costmodel.cache_reuse import (
    FAR_BYTES,
    NEAR_BYTES,
    REMOTE_BYTES,
    cache_misses,
)
from fieldtune.profiles.costmodel.flops import Tensor
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.costmodel.xnnpack_delegate import delegated, partitions
from fieldtune.profiles.measure.sample_ops import MAKERS, samples
from fieldtune.profiles.measure.tflite_graphs import (
    GraphBuilder,
    Sample,
    chain,
    graph,
    independent_adds,
    variable,
)


def kernels(sample: Sample, copies: int = 1) -> list[str]:
    classes = read_work(graph([sample] * copies))["main"].classes
    return [name for name in classes if not name.startswith("call")]


def live(*shape: int) -> Tensor:
    return Tensor(shape, "FLOAT32")


def test_a_convolution_is_delegated_only_with_weights_that_the_file_holds():
    fixed = Tensor((4, 3, 3, 2), "FLOAT32", constant=True)
    image, result = live(1, 8, 8, 2), live(1, 8, 8, 4)
    assert delegated("CONV_2D", [image, fixed], [result])
    assert not delegated("CONV_2D", [image, live(4, 3, 3, 2)], [result])


def test_what_is_not_float_is_not_delegated():
    assert delegated("ADD", [live(4)] * 2, [live(4)])
    assert not delegated("ADD", [Tensor((4,), "INT32")] * 2, [Tensor((4,), "INT32")])


def test_long_concatenations_and_splits_are_not_delegated():
    assert delegated("CONCATENATION", [live(4)] * 5, [live(20)])
    assert not delegated("CONCATENATION", [live(4)] * 6, [live(24)])
    assert not delegated("SPLIT", [live(20)], [live(4)] * 5)


def test_ops_that_can_run_together_share_a_partition():
    # 0 and 2 are XNNPACK's and wait for nobody; 3 waits for 1, which is not XNNPACK's.
    taken, needs = [True, False, True, True], [[], [0], [], [1]]
    assert partitions(taken, needs) == [0, 1, 0, 2]


def test_a_chain_of_alternating_kernels_is_cut_at_every_change():
    taken = [True, False] * 3
    assert partitions(taken, [[], [0], [1], [2], [3], [4]]) == [0, 1, 2, 3, 4, 5]


def test_a_chain_of_additions_is_one_partition_with_two_inputs_at_its_border():
    work = read_work(chain("ADD", 8, 5))["main"].classes["call.partition"]
    assert (work.count, work.runs) == (1, 2)
    assert "call.partition" not in read_work(chain("ADD_N", 8, 5))["main"].classes


@pytest.mark.parametrize(
    ("sample", "name", "runs"),
    [
        (Sample("ADD", ((4, 6), (4, 6)), ((4, 6),)), "elementwise.binary", 1),
        (Sample("MUL", ((4, 6), (1, 6)), ((4, 6),)), "elementwise.binary.broadcast", 4),
        (Sample("MUL", ((4, 6), (4, 1)), ((4, 6),)), "elementwise.binary.broadcast", 4),
        (Sample("ADD_N", ((4,), (4,)), ((4,),)), "elementwise.add_n.plain", 0),
        (Sample("SUM", ((4, 6), np.array([1], np.int32)), ((4,),)), "reduce.sum.rows", 4),
        (Sample("SUM", ((4, 6), np.array([0], np.int32)), ((6,),)), "reduce.sum.columns", 4),
        (Sample("TRANSPOSE", ((4, 6), np.array([1, 0], np.int32)), ((6, 4),)), "move.transpose",
         24),
        (Sample("TRANSPOSE", ((2, 3, 5), np.array([1, 0, 2], np.int32)), ((3, 2, 5),)),
         "move.transpose.blocks", 6),
        (Sample("TRANSPOSE", ((1, 3, 5), np.array([1, 0, 2], np.int32)), ((3, 1, 5),)),
         "move.transpose.still", 1),
        # 7 rows are 2 tiles of 6, 20 columns 2 of 16; 3 deep.
        (Sample("BATCH_MATMUL", ((7, 3), (3, 20)), ((7, 20),), ("BatchMatMulOptions", {})),
         "matmul.batch_matmul", 12),
        # Eigen: a tile of 4 rows and one row left over, 2 panels of 8 columns and 4 left over.
        (Sample("FULLY_CONNECTED", ((5, 3), (20, 3)), ((5, 20),), ("FullyConnectedOptions", {})),
         "matmul.fully_connected.plain", pytest.approx(2 * (2 + 4 * 0.2) * 3)),
        (Sample("FULLY_CONNECTED", ((1, 3), (20, 3)), ((1, 20),), ("FullyConnectedOptions", {})),
         "matmul.fully_connected.row.plain", 0),
        # 8 channels at once; 3x3 taps are one pass of 9, as are the 2x2 of a pooling window
        (Sample("AVERAGE_POOL_2D", ((1, 4, 4, 12),), ((1, 2, 2, 12),),
                ("Pool2DOptions", {"strideW": 2, "strideH": 2, "filterWidth": 2,
                                   "filterHeight": 2})), "pool.average_pool_2d", 4 * 2 * 9),
        # a slice of the columns is a stretch a row, of the rows one stretch
        (Sample("SLICE", ((4, 6), np.array([0, 1], np.int32), np.array([4, 3], np.int32)),
                ((4, 3),)), "move.slice", 4),
        (Sample("SLICE", ((4, 6), np.array([1, 0], np.int32), np.array([2, 6], np.int32)),
                ((2, 6),)), "move.slice", 1),
    ],
)  # fmt: skip
def test_a_kernel_is_named_and_its_loops_are_counted_by_hand(sample, name, runs):
    work = read_work(graph([sample]))["main"].classes
    assert [key for key in work if not key.startswith("call")] == [name]
    assert work[name].runs == runs


def test_a_pointwise_convolution_is_a_kernel_of_its_own():
    def conv(size):
        weights = np.ones((4, size, size, 2), np.float32)
        bias = np.zeros(4, np.float32)
        options = ("Conv2DOptions", {"strideW": 1, "strideH": 1})
        return Sample("CONV_2D", ((1, 8, 8, 2), weights, bias), ((1, 8, 8, 4),), options)

    assert kernels(conv(1)) == ["conv.conv_2d.pointwise"]
    assert kernels(conv(3)) == ["conv.conv_2d"]


def test_tensors_that_stay_in_a_cache_are_near_and_others_come_from_afar():
    def of_two_ops(size):
        """The second op reads what the first has just written, the first what is long ago."""
        return cache_misses([[(0, size)], [(1, size)]], [[(1, size)], [(2, size)]])

    tiny, small = NEAR_BYTES / 5, FAR_BYTES / 10
    large, huge = 0.6 * FAR_BYTES, 0.6 * REMOTE_BYTES
    assert of_two_ops(tiny) == [(0, 0, 0, 0)] * 2
    assert of_two_ops(small) == [(small, 0, 0, 0)] * 2
    assert of_two_ops(large) == [(large, large, 0, large), (large, 0, 0, 0)]
    assert of_two_ops(huge) == [(huge, huge, huge, huge), (huge, huge, 0, huge)]


def test_a_result_that_keeps_its_place_for_long_is_written_to_memory_and_read_from_it():
    big = 0.4 * REMOTE_BYTES
    # 0 -> 1 is wanted again by the last op, as an activation is; the others are done with at once.
    reads = [[(0, big)], [(1, big)], [(2, big)], [(3, big), (1, big)]]
    writes = [[(1, big)], [(2, big)], [(3, big)], [(4, big)]]
    remote = [gone.remote for gone in cache_misses(reads, writes)]
    assert remote == [big + 2 * big, 0, 0, big]
    # An output of the graph has a place of its own, whoever reads it.
    remote = [gone.remote for gone in cache_misses(reads, writes, kept={2})]
    assert remote == [big + 2 * big, 2 * big, 0, big]


def only(sample: Sample) -> OpWork:
    (work,) = [
        w for n, w in read_work(graph([sample]))["main"].classes.items() if not n.startswith("call")
    ]
    return work


def dense(columns: int, rows: int) -> OpWork:
    weights, bias = np.ones((columns, 60), np.float32), np.zeros(columns, np.float32)
    shapes = ((rows, 60), weights, bias), ((rows, columns),)
    return only(Sample("FULLY_CONNECTED", *shapes, ("FullyConnectedOptions", {})))


def test_products_by_constant_weights_count_half_tiles():
    # Of a vector the end of a tile's sum overlaps the start of the next one's by 20 steps.
    steps = [dense(columns, 1).runs for columns in (8, 16, 24, 31, 32, 33)]
    assert steps == [60 * n - 20 * (n - 1) for n in (1, 1, 3, 2, 2, 5)]
    tiles = [dense(columns, 6).runs / 60 for columns in (8, 12, 16, 24, 32)]
    assert tiles == pytest.approx([0.6, 1.2, 1, 1.8, 2])
    assert [dense(16, rows).starts for rows in (5, 6, 7)] == [1, 1, 2]


def test_a_product_of_two_results_packs_one_of_them_and_one_by_weights_does_not():
    options = ("BatchMatMulOptions", {})
    assert only(Sample("BATCH_MATMUL", ((7, 3), (3, 20)), ((7, 20),), options)).outer == 2 * 3
    assert dense(20, 7).outer == 0


@pytest.mark.parametrize(("taps", "paid"), [(2, 4), (3, 9), (5, 25), (6, 36)])
def test_a_depthwise_window_is_paid_up_to_the_taps_of_its_kernel(taps, paid):
    weights, bias = np.ones((1, taps, taps, 16), np.float32), np.zeros(16, np.float32)
    options = ("DepthwiseConv2DOptions", {"strideW": 1, "strideH": 1, "depthMultiplier": 1})
    image = (1, 8, 8, 16)
    work = only(Sample("DEPTHWISE_CONV_2D", (image, weights, bias), (image,), options))
    assert (work.runs, work.starts, work.outer) == (64 * 2 * paid, 64 * 2, 0)


def a_graph(build) -> dict[str, OpWork]:
    """The work of a graph of vectors of 40 numbers, in which ``build`` puts more ops."""
    builder = GraphBuilder()
    first = builder.tensor((40,))
    made = builder.tensor((40,))
    builder.op("NEG", [first], [made])
    return dict(read_work(builder.finish([first], build(builder, made)))["main"].classes)


def reshaped(builder: GraphBuilder, made: int, *more: int) -> list[int]:
    flat = builder.tensor((4, 10))
    builder.op("RESHAPE", [made, builder.constant(np.array([4, 10], np.int32))], [flat])
    result = builder.tensor((4, 10))
    builder.op("NEG", [flat], [result])
    return [result, *more]


def assigned(builder: GraphBuilder, value: int) -> None:
    handle = builder.tensor((), "RESOURCE")
    builder.op("VAR_HANDLE", [], [handle], ("VarHandleOptions", {"sharedName": "v"}))
    builder.op("ASSIGN_VARIABLE", [handle, value], [], ("AssignVariableOptions", {}))


def test_a_result_that_only_a_reshape_wants_is_not_copied():
    alone = a_graph(reshaped)["move.reshape"]
    assert (alone.count, alone.moved_bytes) == (1, 0)
    kept = a_graph(lambda builder, made: reshaped(builder, made, made))["move.reshape"]
    assert (kept.count, kept.moved_bytes) == (1, 2 * 160 + 8)  # and the shape


def test_a_result_that_only_a_variable_wants_is_made_in_its_memory():
    def build(builder, made, *more):
        assigned(builder, made)
        result = builder.tensor((40,))
        builder.op("NEG", [builder.constant(np.ones(40, np.float32))], [result])
        return [result, *more]

    assert a_graph(build)["variable.assign_variable"].moved_bytes == 0
    kept = a_graph(lambda builder, made: build(builder, made, made))
    assert kept["variable.assign_variable"].moved_bytes == 2 * 160


def test_what_a_model_computes_is_the_same_in_copies():
    sample = samples(3)[0]
    one, three = (read_work(graph([sample] * copies))["main"] for copies in (1, 3))
    assert three.flops == 3 * one.flops
    assert three.ops == 3 * one.ops


def test_class_call_is_no_op():
    work = read_work(chain("ADD", 8, 5))["main"]
    assert work.ops == 5
    assert {name.partition(".")[0] for name in work.classes} == {"elementwise", "call"}
    assert Work({"call.feed": work.classes["call.feed"]}).moved_bytes == 0


def test_a_large_graph_leaves_its_caller_with_cold_caches():
    cold = [
        read_work(independent_adds(size, 4))["main"].classes["call.feed"].runs
        for size in (8, 10_000, 10**6)
    ]
    assert cold[0] < 0.001 < 0.4 < cold[1] < 0.6 < 0.95 < cold[2] < 1


def test_every_class_of_op_has_a_sample():
    found = {name.split(".")[0] for sample in samples() for name in kernels(sample)}
    assert found == {
        "matmul", "conv", "depthwise", "elementwise", "pool", "reduce", "move",
    }  # fmt: skip
    assert any(name.startswith("variable") for name in read_work(variable(4, 1))["main"].classes)


def test_the_samples_are_the_same_for_a_seed():
    assert len(samples(1)) == sum(count for _, count in MAKERS)
    first, again, other = ([graph([sample]) for sample in samples(seed)[:20]] for seed in (1, 1, 2))
    assert first == again
    assert first != other
