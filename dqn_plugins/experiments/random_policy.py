"""Random actions as an algorithm of Stable-Baselines3: what any learning has to beat."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

__all__ = ["RandomPolicy"]


class RandomActions(BasePolicy):
    """The policy of :class:`RandomPolicy`, with a generator of its own."""

    rng: np.random.Generator

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        assert isinstance(self.action_space, spaces.Discrete)
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        actions = self.rng.integers(self.action_space.n, size=len(first))
        return th.as_tensor(self.action_space.start + actions)


class RandomPolicy(BaseAlgorithm):
    """
    Takes every action with the same probability and learns nothing.

    :param policy: Name of a policy; all mean the same.
    :param env: The environment, with discrete actions.
    :param seed: Seed of the actions and of the environment.
    :param settings: Keyword arguments of Stable-Baselines3's ``BaseAlgorithm``.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = dict.fromkeys(
        ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), RandomActions
    )
    policy: RandomActions

    def __init__(self, policy: Any, env: Any, seed: int | None = None, **settings: Any) -> None:
        build = settings.pop("_init_setup_model", True)
        super().__init__(
            policy,
            env,
            0.0,
            seed=seed,
            support_multi_env=True,
            supported_action_spaces=(spaces.Discrete,),
            **settings,
        )
        if build:
            self._setup_model()

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)
        self.policy = RandomActions(self.observation_space, self.action_space)
        # Evaluating must not change which episodes are played while "training".
        seeds = np.random.SeedSequence(self.seed).spawn(2)
        self.acting, self.policy.rng = (np.random.default_rng(seed) for seed in seeds)

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 1,
        tb_log_name: str = "RandomPolicy",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> "RandomPolicy":
        """Play without learning; the arguments are those of every ``learn``."""
        total, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        space = self.action_space
        assert self.env is not None
        assert isinstance(space, spaces.Discrete)
        while self.num_timesteps < total:
            actions = space.start + self.acting.integers(space.n, size=self.n_envs)
            new_obs, rewards, dones, infos = self.env.step(actions)
            self.num_timesteps += self.n_envs
            callback.update_locals(locals())
            if not callback.on_step():
                break
            self._last_obs = new_obs  # type: ignore[assignment]
        callback.on_training_end()
        return self
