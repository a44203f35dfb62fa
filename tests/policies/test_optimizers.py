import math

import pytest
import torch as th

from dqn_plugins.policies import KerasAdam


def parameter(*values: float) -> th.nn.Parameter:
    return th.nn.Parameter(th.tensor(values, dtype=th.float64))


def step(optimizer: th.optim.Optimizer, param: th.nn.Parameter, *gradient: float) -> None:
    param.grad = th.tensor(gradient, dtype=param.dtype)
    optimizer.step()


def test_the_first_two_steps_are_those_worked_out_by_hand():
    param = parameter(1.0)
    optimizer = KerasAdam([param], lr=0.1, betas=(0.9, 0.99), eps=0.5)
    # m = 0.1·2 = 0.2, v = 0.01·4 = 0.04, √v = 0.2
    # step = 0.1·√(1−0.99)/(1−0.9)·0.2/(0.2+0.5) = 0.1·0.1/0.1·0.2/0.7 = 0.02/0.7
    step(optimizer, param, 2.0)
    first = 1.0 - 0.02 / 0.7
    assert param.item() == pytest.approx(first, rel=1e-12)
    # m = 0.9·0.2 + 0.1·(−1) = 0.08, v = 0.99·0.04 + 0.01·1 = 0.0496
    # step = 0.1·√(1−0.9801)/(1−0.81)·0.08/(√0.0496+0.5)
    step(optimizer, param, -1.0)
    change = 0.1 * math.sqrt(0.0199) / 0.19 * 0.08 / (math.sqrt(0.0496) + 0.5)
    assert param.item() == pytest.approx(first - change, rel=1e-12)


def test_a_parameter_without_a_gradient_stays():
    with_gradient, without = parameter(1.0), parameter(1.0)
    optimizer = KerasAdam([with_gradient, without])
    step(optimizer, with_gradient, 1.0)
    assert with_gradient.item() != 1.0
    assert without.item() == 1.0
    assert without not in optimizer.state


def test_groups_have_their_own_learning_rate():
    slow, fast = parameter(0.0), parameter(0.0)
    optimizer = KerasAdam([{"params": [slow], "lr": 0.0}, {"params": [fast]}], lr=0.5, eps=1e-12)
    slow.grad = fast.grad = th.ones(1, dtype=th.float64)
    optimizer.step()
    assert slow.item() == 0.0
    assert fast.item() == pytest.approx(-0.5)


def test_its_state_has_the_names_of_torchs_adam():
    states = []
    for optimizer_class in (KerasAdam, th.optim.Adam):
        param = parameter(1.0)
        optimizer = optimizer_class([param])
        step(optimizer, param, 1.0)
        states.append(optimizer.state_dict()["state"][0])
    assert states[0].keys() == states[1].keys()
    assert {k: v.shape for k, v in states[0].items()} == {k: v.shape for k, v in states[1].items()}
    th.testing.assert_close(states[0], states[1])


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned():
    param = parameter(3.0)
    optimizer = KerasAdam([param], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    assert param.item() < 3.0
