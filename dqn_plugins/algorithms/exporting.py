"""Export to ONNX: the policy alone, to be run without torch and without this package."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from torch import nn

from dqn_plugins.algorithms.model_files import written_whole
from dqn_plugins.algorithms.updates import Updates
from dqn_plugins.extras import require_extra
from dqn_plugins.policies import QNetwork
from dqn_plugins.policies.normalization import ObservationNormalizer

__all__ = ["Exporting"]

ONLY = "observation"
OUTPUTS = ("q_values", "action")


class Exporting(Updates):
    """The part of an algorithm that writes its policy for other programs."""

    gamma: float

    def export_onnx(self, path: str | os.PathLike[str]) -> Path:
        """
        Write the greedy policy as an ONNX file, which onnxruntime runs on a server, a small device
        or in a browser.

        Its input is ``observation``, or one input for each key of a dictionary, shape (n, ...) with
        any n and the number type of the observation space: observations as :meth:`predict` takes
        them, but images always with their channels first, as ``model.observation_space`` has them.
        Its outputs are ``q_values``, shape (n, n_actions), float32, in the units of the
        environment's rewards, and ``action``, shape (n,), int64: what ``predict(observation,
        deterministic=True)`` returns. Running statistics are inside, as they are now. A
        ``VecNormalize`` around the environment is not, as it is not part of ``predict`` either.

        :param path: The file; without a suffix, ``.onnx`` is appended. Missing folders are made.
            As with :meth:`save`, an earlier file of that name is replaced only by a whole one.
        :return: The file.
        :raises DependencyNotInstalled: If the extra ``export`` is not installed.
        :raises OSError: If the file cannot be written.
        """
        require_extra("export", "export_onnx", "onnx", "onnxscript")
        space = self.observation_space
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {ONLY: space}
        # A batch of one would be taken for a constant.
        samples = tuple(
            th.as_tensor(part.sample()).expand(2, *(part.shape or ())).contiguous()
            for part in parts.values()
        )
        batch = th.export.Dim("batch")
        with _quiet():
            program: Any = th.onnx.export(
                _GreedyPolicy(self.policy.greedy_q_net, tuple(parts)).eval(),
                samples,
                input_names=list(parts),
                output_names=list(OUTPUTS),
                dynamic_shapes={"observations": tuple({0: batch} for _ in parts)},
                dynamo=True,
                verbose=False,
            )
        model = program.model_proto
        for name, value in self._description().items():
            model.metadata_props.add(key=name, value=value)
        place = Path(path)
        if not place.suffix:
            place = place.with_name(f"{place.name}.onnx")
        with written_whole(place) as file:
            file.write(model.SerializeToString())
        return place

    def _description(self) -> dict[str, str]:
        from dqn_plugins import __version__

        return {
            "algorithm": type(self).__name__,
            "dqn_plugins": __version__,
            "num_timesteps": str(self.num_timesteps),
            "gamma": json.dumps(self.gamma),
            "observation_space": str(self.observation_space),
            "action_space": str(self.action_space),
        }


@contextmanager
def _quiet() -> Iterator[None]:
    """
    Keep back what torch's exporter warns of: that there is no torchvision, which nothing here uses,
    and what will be called otherwise in torch itself.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.disabled = was_disabled


class _GreedyPolicy(nn.Module):
    """A network with its statistics as constants: what is exported."""

    def __init__(self, network: QNetwork, keys: tuple[str, ...]) -> None:
        super().__init__()
        self.network = deepcopy(network).cpu().requires_grad_(False)
        self.scale = network.reward_scale
        self.keys = keys
        for name, module in self.network.named_children():
            if isinstance(module, ObservationNormalizer):
                setattr(self.network, name, module.frozen())

    def forward(self, *observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        observation: Any = dict(zip(self.keys, observations, strict=True))
        if self.keys == (ONLY,):
            (observation,) = observations
        values = self.network.learned_values(observation)
        return values * self.scale, values.argmax(dim=1)
