"""What an artefact does in the runtime."""

import numpy as np
import pytest

from fieldtune.server.compiler.manifest import CompileOptions, ModelSpec

pytestmark = pytest.mark.integration


def mlp(**options):
    return ModelSpec("mlp", {"width": 5}, (6,), 3, CompileOptions(micro_batch=4, **options))


def zoo(what, loss="mse", size=64):
    options = CompileOptions(micro_batch=16, loss=loss)
    return ModelSpec("recipes:zoo", {"what": what}, (size,), size, options)


def test_two_micro_batches_take_the_step_of_one_batch_of_all(trained):
    net = trained(mlp())
    x, y = net.samples()
    net.train(x, y, learning_rate=0.3)
    whole = net.weights()
    net.load(net.artefact.initial_weights)
    half = np.array([0.25, 0.25, 0, 0], np.float32)
    first = net.train(x, y, half, apply=False, learning_rate=0.3)
    np.testing.assert_array_equal(net.weights(), net.artefact.initial_weights)
    second = net.train(x, y, half[::-1].copy(), learning_rate=0.3)
    np.testing.assert_allclose(net.weights(), whole, rtol=1e-5, atol=1e-6)
    net.load(net.artefact.initial_weights)
    assert net.train(x, y, learning_rate=0.3) == pytest.approx(first + second, rel=1e-5)


def test_a_sample_of_weight_zero_changes_nothing(trained):
    net = trained(mlp())
    x, y = net.samples()
    weight = np.array([1 / 3, 1 / 3, 1 / 3, 0], np.float32)
    net.train(x, y, weight)
    before = net.weights()
    net.load(net.artefact.initial_weights)
    x[3], y[3] = 1e6, 2
    net.train(x, y, weight)
    np.testing.assert_array_equal(net.weights(), before)


def test_load_and_reset_clear_momentum_and_accumulated_gradient(trained):
    net = trained(mlp())
    x, y = net.samples()
    for clear in (lambda: net.load(net.weights()), lambda: net.run["reset"]()):
        net.train(x, y, momentum=0.9)
        net.train(x, y, apply=False)
        state = net.run["state"]()
        assert all(np.abs(slot).max() > 0 for slot in state.values())
        clear()
        assert all(np.abs(slot).max() == 0 for slot in net.run["state"]().values())


def test_the_same_calls_give_the_same_bits(trained):
    ends = []
    for _ in range(2):
        net = trained(ModelSpec("mlp", {"width": 5, "dropout": 0.5}, (6,), 3))
        for step in range(5):
            net.train(*net.samples(step), seed=11)
        ends.append(net.weights())
    np.testing.assert_array_equal(*ends)


def test_evaluate_gives_the_weighted_loss_and_the_logits_of_infer(trained):
    net = trained(mlp())
    x, y = net.samples()
    weight = np.array([0.5, 0.25, 0.25, 0], np.float32)
    out = net.run["evaluate"](x=x, y=y, sample_weight=weight)
    np.testing.assert_array_equal(out["logits"], net.run["infer"](x=x)["logits"])
    z = out["logits"].astype(float)
    each = np.log(np.exp(z).sum(1)) - z[np.arange(4), y]
    assert out["loss"][0] == pytest.approx((weight * each).sum(), rel=1e-5)


def test_evaluate_counts_each_class_and_weighs_every_sample(trained):
    net = trained(mlp())
    x, _ = net.samples()
    chosen = net.run["infer"](x=x)["logits"].argmax(1)
    y = np.array([chosen[0], chosen[1], (chosen[2] + 1) % 3, chosen[3]], np.int32)
    weight = np.array([1, 0.5, 2, 0], np.float32)
    out = net.run["evaluate"](x=x, y=y, sample_weight=weight)
    right = weight * np.array([1, 1, 0, 1])
    np.testing.assert_array_equal(out["hits"], np.bincount(y, right, 3))
    np.testing.assert_array_equal(out["predicted"], np.bincount(chosen, weight, 3))
    np.testing.assert_array_equal(out["actual"], np.bincount(y, weight, 3))
    np.testing.assert_array_equal(out["correct"], [1.5])


def test_a_frozen_layer_keeps_its_weights_and_moving_statistics_move_at_every_call(trained):
    options = CompileOptions(micro_batch=4)
    net = trained(ModelSpec("recipes:zoo", {"what": "frozen"}, (4,), 3, options))
    before = net.named_weights()
    net.train(*net.samples(), apply=False)
    after = net.named_weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"norm/moving_mean", "norm/moving_variance"}
    net.train(*net.samples(), learning_rate=0.5)
    np.testing.assert_array_equal(net.named_weights()["fixed/kernel"], before["fixed/kernel"])
    trainable = {weight.name for weight in net.manifest.weights if weight.trainable}
    assert not trainable & {"fixed/kernel", "fixed/bias", "norm/moving_mean"}
    count = sum(weight.size for weight in net.manifest.weights if weight.trainable)
    assert net.run["state"]()["momentum"].shape == (count,)


def test_proximal_pulls_towards_the_loaded_weights(trained):
    net = trained(mlp(extras=("proximal",)))
    distances = []
    for proximal in (0.0, 1.0, 5.0):
        net.load(net.artefact.initial_weights)
        for step in range(10):
            net.train(*net.samples(step), learning_rate=0.1, proximal=proximal)
        distances.append(np.abs(net.weights() - net.artefact.initial_weights).sum())
    assert distances[0] > distances[1] > distances[2] > 0


def test_clip_norm_bounds_the_step_and_zero_turns_it_off(trained):
    net = trained(mlp(extras=("clip_norm",)))
    steps = []
    for clip_norm in (0.0, 0.01, 1e6):
        net.load(net.artefact.initial_weights)
        net.train(*net.samples(), learning_rate=1.0, clip_norm=clip_norm)
        steps.append(np.linalg.norm(net.weights() - net.artefact.initial_weights))
    assert steps[0] == pytest.approx(steps[2])
    assert steps[1] == pytest.approx(0.01, rel=1e-4)


def test_noise_is_normal_fresh_at_each_step_and_repeats_with_the_seed(trained):
    net = trained(zoo("noise"))
    x, _ = net.samples()
    target = np.zeros((16, 64), np.float32)
    net.run["reset"]()
    losses = [net.train(x, target, learning_rate=0.0, seed=5) for _ in range(40)]
    # The mean square of 16 * 64 * 40 numbers of variance 1: within 5 standard errors.
    assert np.mean(losses) == pytest.approx(1.0, abs=5 * np.sqrt(2 / (16 * 64 * 40)))
    assert len(set(losses)) == 40
    net.run["reset"]()
    assert net.train(x, target, learning_rate=0.0, seed=5) == losses[0]
    net.run["reset"]()
    assert net.train(x, target, learning_rate=0.0, seed=6) != losses[0]


def test_dropout_keeps_its_share_of_units_and_scales_them(trained):
    net = trained(zoo("dropout", "mae"))
    x, _ = net.samples()
    target = np.zeros((16, 64), np.float32)
    kept = [net.train(x, target, learning_rate=0.0, seed=9) / 4 for _ in range(40)]
    assert np.mean(kept) == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / (16 * 64 * 40)))
    assert len(set(kept)) > 10
