"""The compiled backend: for perceptrons and small convolutions on the CPU. The fast one."""

from typing import Any, NoReturn

import numpy as np
import torch as th
from typing_extensions import override

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.compiled import rules
from dqn_plugins.learning.compiled.announcing import announced
from dqn_plugins.learning.compiled.compilation import by_reference
from dqn_plugins.learning.compiled.memory import Memory
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.limits import check_optimizer
from dqn_plugins.learning.rules import RolloutRule, Rule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite, rows_of
from dqn_plugins.policies import QPolicy

__all__ = ["CompiledLearner"]

NOTHING = np.empty(0, np.int64), np.empty(0, np.float32)


class CompiledLearner(Learner):
    """
    Applies a rule in one call of compiled code, to a policy that ``reason_against_compiling`` has
    nothing against. See :class:`Learner`.
    """

    def __init__(self, policy: QPolicy, rule: Rule, n_envs: int, *rollout: Any) -> None:
        super().__init__(policy, rule, n_envs, *rollout)
        self._memory = memory = Memory(policy, n_envs)
        state = rules.state_of(memory, rule, n_envs)
        self._numbers, self._td_errors = state.numbers, state.td_errors
        self._network, self._steps_in_torch = memory.network, memory.optimizer is None
        self._rows = memory.inputs.rows
        self._structure, self._learn = by_reference(state), rules.RULES[type(rule)]
        self._no_values = np.empty((0, int(policy.q_net.action_space.n)), np.float32)
        self._compiled_for: set[bool] = set()

    @override
    def set_rule(self, rule: Rule) -> None:
        super().set_rule(rule)
        self._numbers[:] = rules.numbers_of(rule)
        self.set_exploration_rate(self._exploration_rate)

    @override
    def set_exploration_rate(self, exploration_rate: float) -> None:
        super().set_exploration_rate(exploration_rate)
        self._numbers[rules.EXPLORATION_RATE] = exploration_rate

    @override
    def is_current(self, thorough: bool = True) -> bool:
        return self._memory.is_current(thorough)

    @override
    def compile(self, masked: bool = False) -> None:
        if masked in self._compiled_for:
            return
        memory = self._memory
        rows: Any = np.empty((0, memory.inputs.n))
        indices = np.empty(0, np.int64)
        rewards, flags = np.empty(0, np.float32), np.empty(0, np.bool_)
        with announced():
            if isinstance(self.rule, RolloutRule):
                rows = rows.astype(memory.inputs.dtype)
                self._learn(self._structure, rows, indices, rewards, indices, 0, self._no_values)
            else:
                rows = rows.astype(memory.inputs.row_dtype)
                masks = np.empty((0, 1), np.bool_) if masked else None
                rules.observe(self._network, rows)
                rules.greedy_actions(self._network, rows, indices, masks)
                transitions = rows, indices, rewards, rows, flags, flags, flags
                self._learn(self._structure, *transitions, 0, masks, masks)
        self._compiled_for.add(masked)

    @override
    def _clear_traces(self) -> None:
        self._memory.traces[:] = 0
        self._memory.returns[:] = 0

    @override
    def _observe(self, obs: Observation) -> None:
        if not self._compiled_for:
            self.compile()
        rules.observe(self._network, self._rows(obs))

    @override
    def greedy_actions(
        self, obs: Observation, action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        if isinstance(self.rule, RolloutRule):
            return super().greedy_actions(obs, action_masks)
        rows = self._rows(obs)
        actions = np.empty(len(rows), np.int64)
        rules.greedy_actions(self._network, rows, actions, action_masks)
        return actions

    @override
    def _apply(self, transition: Transition) -> np.ndarray:
        obs, actions, rewards, next_obs, terminated, dones, _, valid, _, first, *masks = transition
        rows = self._rows
        arrays = rows(obs), actions, rewards, rows(next_obs), terminated, dones, valid
        if self._steps_in_torch:
            self._learn_in_turn(arrays, transition)
        else:
            self._memory.update_settings()
            result = self._learn(self._structure, *arrays, first, masks[0], masks[1])
            if result != rules.LEARNED:
                self._refuse(result, transition)
        return self._td_errors[: len(actions)]

    def _learn_in_turn(self, arrays: tuple[np.ndarray, ...], transition: Transition) -> None:
        """Compute gradients in compiled code, and take each step in torch."""
        check_optimizer(self.policy.optimizer)
        first, masks = transition.first_env_index, transition[10:12]
        raise_if_not_finite(transition.obs, transition.rewards, transition.next_obs, first)
        n, td_errors = len(transition.actions), np.zeros(self.n_envs, np.float32)
        step = 1 if self.rule.update == "each" else max(n, 1)
        result = rules.LEARNED
        for start in range(0, n, step):
            rows = slice(start, start + step)
            group, group_masks = ([rows_of(a, rows) for a in some] for some in (arrays, masks))
            result = self._learn(self._structure, *group, first, *group_masks)
            td_errors[rows] = self._td_errors[:step]
            if result != rules.LEARNED:
                break
            if transition.valid[rows].any():
                self._memory.step_in_torch()
        self._td_errors[:] = td_errors
        if result != rules.LEARNED:
            self._refuse(start + result, transition)

    def _refuse(self, result: int, transition: Transition) -> NoReturn:
        """Say why compiled code refused a batch: what it returned, other than ``LEARNED``."""
        first = transition.first_env_index
        if result == rules.NOT_FINITE:
            raise_if_not_finite(transition.obs, transition.rewards, transition.next_obs, first)
        raise DivergenceError(first + result, float(self._td_errors[result]))

    @override
    def action_values(self, obs: Any) -> th.Tensor:
        return th.from_numpy(self._values_to_act_by(obs))

    @override
    def _values_to_act_by(self, obs: Any) -> np.ndarray:
        rows, (actions, targets) = self._memory.inputs.rows_of_rollout(obs), NOTHING
        values = np.empty((len(rows), self._no_values.shape[1]), np.float32)
        order = np.arange(len(rows))
        rules.learn_minibatches(self._structure, rows, actions, targets, order, 0, values)
        return values

    @override
    def fit(
        self, obs: Any, actions: th.Tensor, targets: th.Tensor, rows: np.ndarray, n_batches: int
    ) -> bool:
        rows_of_rollout = self._memory.inputs.rows_of_rollout(obs)
        arrays = rows_of_rollout, actions.numpy(), targets.numpy()
        if not self._steps_in_torch:
            self._memory.update_settings()
            result = self._learn(self._structure, *arrays, rows, n_batches, self._no_values)
            return result == rules.LEARNED
        for batch in np.array_split(rows, n_batches):
            result = self._learn(self._structure, *arrays, batch, 1, self._no_values)
            if result != rules.LEARNED:
                return False
            self._memory.step_in_torch()
        return True

    @override
    def snapshot(self) -> Any:
        if self._steps_in_torch:
            return super().snapshot()
        return [array.copy() for array in self._memory.changing]

    @override
    def restore(self, state: Any) -> None:
        if self._steps_in_torch:
            super().restore(state)
            return
        for array, before in zip(self._memory.changing, state, strict=True):
            array[:] = before
