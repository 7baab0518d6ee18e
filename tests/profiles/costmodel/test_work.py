import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.tflite_reader import _Reader, read_work
from fieldtune.profiles.costmodel.tflite_work import OP_CLASSES, OpWork, Work


def by_class(work):
    """The work of each class of ops, its kernels summed."""
    classes = {}
    for name, each in work.classes.items():
        op_class = name.partition(".")[0]
        if op_class != "call":
            classes[op_class] = classes[op_class] + each if op_class in classes else each
    return classes


def pool_options():
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = 2, 3
    return options


def matmul_options(adj_x=False):
    options = schema.BatchMatMulOptionsT()
    options.adjX = adj_x
    return options


def test_a_dense_layer_costs_two_operations_a_weight_and_sample_and_one_a_bias(
    build_model, graph, op
):
    # y[2,5] = x[2,3] w[5,3]^T + b[5]: 2*5 outputs, 3 multiply-adds and a bias each.
    dense = op("FULLY_CONNECTED", [[2, 3], [5, 3], [5]], [[2, 5]])
    work = read_work(build_model([graph([dense], "infer")]))["infer"]
    (found,) = by_class(work).values()
    assert (found.count, found.flops) == (1, 2 * 5 * (2 * 3 + 1))
    assert found.moved_bytes == 4 * (6 + 15 + 5 + 10)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "options", "op_class", "flops"),
    [
        ("FULLY_CONNECTED", [[2, 3], [5, 3]], [[2, 5]], None, "matmul", 2 * 30),
        ("BATCH_MATMUL", [[4, 2, 3], [4, 3, 5]], [[4, 2, 5]], matmul_options(), "matmul", 240),
        ("BATCH_MATMUL", [[3, 2], [3, 5]], [[2, 5]], matmul_options(True), "matmul", 60),
        # 1*4*4*8 outputs of 3*3*2 multiply-adds and a bias
        ("CONV_2D", [[1, 4, 4, 2], [8, 3, 3, 2], [8]], [[1, 4, 4, 8]], None, "conv", 128 * 37),
        ("DEPTHWISE_CONV_2D", [[1, 4, 4, 8], [1, 3, 3, 8]], [[1, 4, 4, 8]], None, "depthwise",
         128 * 18),
        # each of 1*2*2*3 inputs meets a filter of 3*3 for 5 outputs
        ("TRANSPOSE_CONV", [[4], [5, 3, 3, 3], [1, 2, 2, 3]], [[1, 4, 4, 5]], None, "conv",
         2 * 12 * 45),
        ("CONV_3D", [[1, 4, 4, 4, 2], [3, 3, 3, 2, 8]], [[1, 4, 4, 4, 8]], None, "conv",
         2 * 512 * 54),
        ("ADD", [[2, 6], [6]], [[2, 6]], None, "elementwise", 12),
        ("MAX_POOL_2D", [[1, 4, 6, 1]], [[1, 2, 2, 1]], pool_options(), "pool", 4 * 6),
        ("SUM", [[3, 7], [1]], [[3]], None, "reduce", 21),
        ("RESHAPE", [[2, 6]], [[12]], None, "move", 0),
        ("VAR_HANDLE", [], [[]], None, "variable", 0),
        # four gates of a cell of 3 units with 2 inputs, over 5 steps of a batch of 1
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", [[1, 5, 2], *[[3, 2]] * 4, *[[3, 3]] * 4], [[1, 5, 3]],
         None, "matmul", 2 * 5 * 60),
        ("HASHTABLE_SIZE", [[2]], [[3]], None, "other", 3),
    ],
)  # fmt: skip
def test_an_op_has_the_operations_counted_by_hand(
    build_model, graph, op, name, inputs, outputs, options, op_class, flops
):
    model = build_model([graph([op(name, inputs, outputs, options)], "infer")])
    classes = by_class(read_work(model)["infer"])
    assert list(classes) == [op_class]
    assert classes[op_class].count == 1
    assert classes[op_class].flops == flops


def test_an_exponential_costs_more_than_an_addition(build_model, graph, op):
    def flops(name):
        return read_work(build_model([graph([op(name, [[8]], [[8]])])]))["main"].flops

    assert flops("SOFTMAX") > flops("EXP") > flops("DIV") > flops("ADD")


def test_moved_bytes_follow_the_type_of_the_elements(build_model, graph, op):
    def moved(kind):
        add = op("ADD", [[10], [10]], [[10]], type=kind)
        return read_work(build_model([graph([add])]))["main"].moved_bytes

    assert [moved(kind) for kind in ("FLOAT64", "FLOAT32", "FLOAT16", "INT8", "INT4")] == [
        240, 120, 60, 30, 15,
    ]  # fmt: skip


def test_a_slice_moves_what_it_takes_out_and_not_the_whole_table(build_model, graph, op):
    rows = op("GATHER", [[1000, 16], [2]], [[2, 16]])
    assert read_work(build_model([graph([rows])]))["main"].moved_bytes == 2 * 4 * 32


def test_ops_of_a_class_are_summed(build_model, graph, op):
    add, mul = op("ADD", [[4], [4]], [[4]]), op("MUL", [[6], [6]], [[6]])
    work = read_work(build_model([graph([add, mul], "infer")]))["infer"]
    assert by_class(work) == {"elementwise": OpWork(2, 10, 4 * 30, runs=2, single=2)}
    assert (work.ops, work.flops, work.moved_bytes) == (2, 10, 120)


def test_each_signature_has_its_own_work(build_model, graph, op):
    graphs = [
        graph([op("ADD", [[4], [4]], [[4]])], "train"),
        graph([op("NEG", [[2]], [[2]])], "infer"),
    ]
    work = read_work(build_model(graphs))
    assert {name: found.flops for name, found in work.items()} == {"train": 4, "infer": 2}


def test_a_model_without_signatures_has_its_first_graph_called_main(build_model, graph, op):
    assert set(read_work(build_model([graph([op("NEG", [[2]], [[2]])])]))) == {"main"}


def test_the_body_of_a_loop_counts_once_and_of_a_call_once_not_at_all(build_model, graph, op):
    loop = schema.WhileOptionsT()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 2
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 2
    graphs = [
        graph([op("WHILE", [[1]], [[1]], loop), op("CALL_ONCE", [], [], once)], "train"),
        graph([op("LESS", [[1], [1]], [[1]])]),
        graph([op("ADD", [[8], [8]], [[8]])]),
    ]
    classes = by_class(read_work(build_model(graphs))["train"])
    assert classes["elementwise"] == OpWork(2, 9, 4 * (3 + 24), runs=2, single=2)
    assert classes["variable"].count == 1


def test_a_loop_that_names_itself_does_not_go_on_for_ever(build_model, graph, op):
    loop = schema.WhileOptionsT()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 0
    graphs = [graph([op("WHILE", [[1]], [[1]], loop)]), graph([op("LESS", [[1], [1]], [[1]])])]
    assert read_work(build_model(graphs))["main"].ops <= 4


def test_a_trainable_artefact_has_the_work_of_its_layers(data):
    # 8x8 image -> Dense(16, relu) -> Dense(10), batch 8, compiled with train, infer, load, weights.
    work = read_work((data / "mlp_8x8_16_10.tflite").read_bytes())
    assert set(work) == {"train", "infer", "load", "weights"}
    forward = 2 * 8 * (64 * 16 + 16 * 10)
    assert by_class(work["infer"])["matmul"].flops == forward
    assert work["infer"].flops == forward + 8 * (16 + 10)  # and the biases
    # The step runs forward, both filters' gradients, and the hidden layer's gradient.
    assert by_class(work["train"])["matmul"].flops == 2 * forward + 2 * 8 * 16 * 10
    # Reading the weights copies every one of them.
    assert work["weights"].moved_bytes == 2 * 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert work["weights"].flops == 0


def test_bytes_that_are_no_model_are_refused_in_a_sentence():
    with pytest.raises(UsageError, match="not a TFLite file: its identifier is b'YZ12'"):
        read_work(b"WXXXYZ12345")


def test_a_damaged_model_is_refused_in_a_sentence(data):
    model = (data / "mlp_8x8_16_10.tflite").read_bytes()
    with pytest.raises(UsageError, match="the TFLite file of 64 bytes is damaged"):
        read_work(model[:64])


numbers = st.floats(0, 1e12, allow_nan=False)
works = st.dictionaries(
    st.sampled_from([*OP_CLASSES, "conv.conv_2d.pointwise", "call.feed"]),
    st.builds(OpWork, st.integers(0, 10_000), *[numbers] * 6),
).map(Work)


@settings(deadline=None)
@given(works)
def test_work_survives_json(work):
    assert Work.from_json(work.to_json()) == work


def test_json_of_an_unknown_class_or_with_a_missing_number_is_refused():
    with pytest.raises(UsageError, match="class 'magic' is unknown"):
        Work.from_json({"magic": {"count": 1, "flops": 1, "moved_bytes": 1}})
    with pytest.raises(UsageError, match="class 'conv' lacks 'flops'"):
        Work.from_json({"conv": {"count": 1, "moved_bytes": 1}})


def test_a_subgraph_that_is_called_from_many_places_is_read_once(
    build_model, graph, op, monkeypatch
):
    depth, read = 12, []
    walk = _Reader._walk
    monkeypatch.setattr(
        _Reader, "_walk", lambda self, *given: read.append(given[0]) or walk(self, *given)
    )
    addition = op("ADD", [[4], [4]], [[4]])

    def calls(index):
        options = schema.IfOptionsT()
        options.thenSubgraphIndex = options.elseSubgraphIndex = index
        return op("IF", [[1]], [[1]], options)

    graphs = [graph([calls(index + 1)]) for index in range(depth)]
    work = read_work(build_model([*graphs, graph([addition])]))["main"]
    assert read == [*range(depth + 1)]
    assert max(each.count for each in work.classes.values()) == 2**depth


def test_a_small_file_of_very_many_tensors_is_refused():
    many = 400
    builder = flatbuffers.Builder(1024)
    tensor = schema.TensorT().Pack(builder)

    def repeated(start, offset):
        start(builder, many)
        for _ in range(many):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    tensors = repeated(schema.SubGraphStartTensorsVector, tensor)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = repeated(schema.ModelStartSubgraphsVector, schema.SubGraphEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    with pytest.raises(UsageError, match="more than 50000 ops and tensors"):
        read_work(bytes(builder.Output()))
