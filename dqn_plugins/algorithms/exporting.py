"""Export to ONNX: the policy alone, to be run without torch and without this package."""

import logging
import os
import warnings
from collections.abc import Container, Iterator
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

MASK = "action_mask"
OUTPUTS = ("q_values", "action")


def export_onnx(
    network: QNetwork,
    observation_space: spaces.Space[Any],
    path: str | os.PathLike[str],
    description: dict[str, Any],
    action_masks: bool = False,
) -> Path:
    """
    Write a network and its greedy action as an ONNX file, for ``export_onnx`` of the algorithms.

    :param description: What the file's metadata say beside the version and the observation space.
    :param action_masks: Whether the last input is which actions are possible.
    :raises ValueError: If the network cannot be written as ONNX. There is no file then.
    """
    require_extra("export", "export_onnx", "onnx", "onnxscript")
    parts, keys = {"observation": observation_space}, None
    if isinstance(observation_space, spaces.Dict):
        keys = tuple(observation_space.spaces)
        parts = {str(key): part for key, part in observation_space.spaces.items()}
    if action_masks:
        parts = {**parts, _unlike(MASK, parts): spaces.MultiBinary(int(network.action_space.n))}
    # A batch of one would be taken for a constant.
    samples = [
        th.as_tensor(part.sample()).expand(2, *(part.shape or ())).contiguous()
        for part in parts.values()
    ]
    if action_masks:
        samples[-1] = samples[-1].bool()
    batch = th.export.Dim("batch")
    try:
        with _quiet():
            program: Any = th.onnx.export(
                _GreedyPolicy(network, keys, action_masks).eval(),
                tuple(samples),
                input_names=list(parts),
                output_names=[_unlike(name, parts) for name in OUTPUTS],
                dynamic_shapes={"inputs": tuple({0: batch} for _ in parts)},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ValueError(
            f"policy: received a network on {observation_space} that torch cannot write as ONNX "
            f"({type(error).__name__}). See the error above for the operation that is missing."
        ) from error
    graph = program.model.graph
    for value in [*graph.initializers.values(), *(each for node in graph for each in node.outputs)]:
        while value.name in parts:
            value.name = f"inner.{value.name}"
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


def _unlike(name: str, names: Container[str]) -> str:
    """Append underscores to a name until it is none of the others, as ONNX has it."""
    while name in names:
        name += "_"
    return name


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

    Its inputs are one observation, or with keys the parts of a dictionary, and then the masks.
    """

    def __init__(self, network: QNetwork, keys: tuple[str, ...] | None, action_masks: bool) -> None:
        super().__init__()
        self.network = deepcopy(network).cpu().requires_grad_(False)
        self.scale = network.reward_scale
        self.keys, self.action_masks = keys, action_masks
        for name, module in self.network.named_children():
            if isinstance(module, (ObservationNormalizer, RewardNormalizer)):
                setattr(self.network, name, module.frozen())

    def forward(self, *inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        observation: Any = inputs[0]
        if self.keys is not None:
            observation = dict(zip(self.keys, inputs, strict=False))
        values = self.network.learned_values(observation)
        choices = values
        if self.action_masks:
            choices = values.where(inputs[-1], -th.inf)
        return values * self.scale, choices.argmax(dim=1)
