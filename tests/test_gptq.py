"""GPTQ against a slow oracle, on the grid, and better than rounding to the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.models import gptq


def case(inputs, outputs, seed=0, rows=400):
    """Correlated inputs, as activations are, a kernel for them and its grid."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs)) @ rng.normal(size=(inputs, inputs)) + 1
    kernel = rng.normal(size=(inputs, outputs))
    return x, kernel, np.abs(kernel).max(axis=0) / rng.uniform(5, 127, outputs).round()


def oracle(kernel, hessian, step):
    """One weight after another, with the inverse Hessian of those that are left worked out anew
    (optimal brain quantization in a fixed order: Frantar et al. 2022, equation 2)."""
    size = np.diag(hessian)
    damped = hessian + gptq.DAMPING * size.mean() * np.eye(len(hessian))
    kernel, left = kernel.copy(), list(np.argsort(-size, kind="stable"))
    while left:
        inverse = np.linalg.inv(damped[np.ix_(left, left)])
        first = left[0]
        done = np.clip(np.round(kernel[first] / step), -127, 127) * step
        kernel[left] -= np.outer(inverse[:, 0] / inverse[0, 0], kernel[first] - done)
        kernel[first] = done
        left.pop(0)
    return kernel


@pytest.mark.parametrize("inputs", [1, 3, 27, gptq.BLOCK + 5])
def test_it_is_the_slow_way_in_blocks(inputs):
    x, kernel, step = case(inputs, 4)
    got = gptq.rounded(kernel, x.T @ x, step)
    np.testing.assert_allclose(got, oracle(kernel, x.T @ x, step), atol=1e-6)


def test_the_result_lies_on_the_grid():
    x, kernel, step = case(30, 8)
    steps = gptq.rounded(kernel, x.T @ x, step) / step
    np.testing.assert_allclose(steps, steps.round(), atol=1e-9)
    assert np.abs(steps).max() <= gptq.LARGEST_WEIGHT + 1e-9


def test_the_output_moves_less_than_by_rounding_to_the_nearest():
    x, kernel, step = case(64, 16)
    ours = np.linalg.norm(x @ (gptq.rounded(kernel, x.T @ x, step) - kernel))
    nearest = np.linalg.norm(x @ (gptq.to_grid(kernel, step) - kernel))
    assert ours < 0.75 * nearest


def test_an_input_that_is_always_zero_is_rounded_to_the_nearest():
    x, kernel, step = case(12, 4)
    x[:, 5] = 0
    got = gptq.rounded(kernel, x.T @ x, step)
    np.testing.assert_array_equal(got[5], gptq.to_grid(kernel[5], step))
    silent = gptq.rounded(kernel, np.zeros((12, 12)), step)
    np.testing.assert_array_equal(silent, gptq.to_grid(kernel, step))


def test_channels_of_a_depthwise_kernel_are_layers_of_their_own():
    x, kernel, step = case(9, 5)
    hessians = np.stack([(x * scale).T @ (x * scale) for scale in range(1, 6)])
    got = gptq.rounded_each(kernel.T, hessians, step)
    for channel in range(5):
        alone = gptq.rounded(kernel[:, [channel]], hessians[channel], step[[channel]])
        np.testing.assert_array_equal(got[channel], alone[:, 0])
