"""Export to ONNX: the policy alone, to be run without torch and without this package."""

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
from dqn_plugins.extras import require_extra
from dqn_plugins.policies import QNetwork
from dqn_plugins.policies.normalization import ObservationNormalizer, RewardNormalizer

__all__ = ["export_onnx"]

OUTPUTS = ("q_values", "action")


def export_onnx(
    network: QNetwork,
    observation_space: spaces.Space[Any],
    path: str | os.PathLike[str],
    description: dict[str, Any],
) -> Path:
    """
    Write a network and its greedy action as an ONNX file, for ``export_onnx`` of the algorithms.

    :param network: The network.
    :param observation_space: Its observation space.
    :param path: The file; without a suffix, ``.onnx`` is appended.
    :param description: What the file's metadata say beside the version and the observation space.
    :return: The file.
    :raises ValueError: If the network cannot be written as ONNX. There is no file then.
    """
    require_extra("export", "export_onnx", "onnx", "onnxscript")
    parts = {"observation": observation_space}
    if is_dict := isinstance(observation_space, spaces.Dict):
        parts = observation_space.spaces
    taken = [key for key in parts if key in OUTPUTS]
    if taken:
        raise ValueError(
            f"observation_space: received the keys {list(parts)}, {taken} must not be among them: "
            "the outputs of an exported policy have these names. Rename the key in the environment."
        )
    # A batch of one would be taken for a constant.
    samples = tuple(
        th.as_tensor(part.sample()).expand(2, *(part.shape or ())).contiguous()
        for part in parts.values()
    )
    batch = th.export.Dim("batch")
    try:
        with _quiet():
            program: Any = th.onnx.export(
                _GreedyPolicy(network, tuple(parts) if is_dict else None).eval(),
                samples,
                input_names=list(parts),
                output_names=list(OUTPUTS),
                dynamic_shapes={"observations": tuple({0: batch} for _ in parts)},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ValueError(
            f"policy: received a network on {observation_space} that torch cannot write as ONNX "
            f"({type(error).__name__}). See the error above for the operation that is missing."
        ) from error
    from dqn_plugins import __version__

    model = program.model_proto
    description |= {"dqn_plugins": __version__, "observation_space": observation_space}
    for name, value in description.items():
        model.metadata_props.add(key=name, value=str(value))
    place = Path(path)
    if not place.suffix:
        place = place.with_name(f"{place.name}.onnx")
    with written_whole(place) as file:
        file.write(model.SerializeToString())
    return place


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
    """
    A network with its statistics as constants: what is exported.

    Its inputs are one observation, or with keys the parts of a dictionary.
    """

    def __init__(self, network: QNetwork, keys: tuple[str, ...] | None) -> None:
        super().__init__()
        self.network = deepcopy(network).cpu().requires_grad_(False)
        self.scale = network.reward_scale
        self.keys = keys
        for name, module in self.network.named_children():
            if isinstance(module, (ObservationNormalizer, RewardNormalizer)):
                setattr(self.network, name, module.frozen())

    def forward(self, *observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        observation: Any = observations[0]
        if self.keys is not None:
            observation = dict(zip(self.keys, observations, strict=True))
        values = self.network.learned_values(observation)
        return values * self.scale, values.argmax(dim=1)
