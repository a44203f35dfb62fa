"""Trainings in threads, and a browser without a screen."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import gymnasium as gym
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE = 120.0  # a busy machine may take its time; a test that passes does not wait for it


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"it never came: {what or condition}"
        time.sleep(0.02)


def port_of(url: str) -> int:
    return int(url.partition("?")[0].rsplit(":", 1)[1].strip("/"))


def until_the_page_is_gone(url: str) -> None:
    def is_gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port_of(url))) != 0

    until(is_gone, "the end of the page's process")


class Counting(gym.Env[Any, Any]):
    """Observes how many steps the episode has, and notes the actions it is given."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, length: int = 50, render_mode: str | None = "rgb_array"):
        self.length = length
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, np.inf, (1,), np.float32)
        # So many that a random action is not the agent's by chance
        self.action_space = gym.spaces.Discrete(1_000_000_000)
        self.actions: list[int] = []
        self.renders = 0
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.actions.append(int(action))
        self.steps += 1
        observation = np.array([self.steps], np.float32)
        return observation, 1.0, self.steps == self.length, False, {}

    def render(self) -> Any:
        self.renders += 1
        return np.full((40, 60, 3), self.steps % 256, np.uint8)


class Masked(Counting):
    """Tells in each state which of its three actions can be taken: not the one of its step."""

    def __init__(self, length: int = 50):
        super().__init__(length)
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, **kwargs: Any) -> Any:
        observation, _ = super().reset(**kwargs)
        return observation, {"action_mask": self.mask()}

    def step(self, action: Any) -> Any:
        *result, _ = super().step(action)
        return *result, {"action_mask": self.mask()}

    def mask(self) -> Any:
        return np.arange(3) != self.steps % 3


class Steps(threading.Thread):
    """Takes steps until it is stopped: a training without an algorithm."""

    def __init__(self, env: Any, pause: float = 0.0005):
        super().__init__(daemon=True)
        self.env = env
        self.count = 0
        self.endings: list[Any] = []
        self._pause = pause
        self._is_stopped = threading.Event()

    def run(self) -> None:
        self.env.reset(seed=0)
        while not self._is_stopped.is_set():
            _, _, terminated, truncated, info = self.env.step(0)
            self.count += 1
            time.sleep(self._pause)
            if terminated or truncated:
                self.endings.append((terminated, truncated, info))
                self.env.reset()

    def __enter__(self) -> Steps:
        self.start()
        return self

    def stop(self) -> None:
        """Stop, and leave the environment open."""
        self._is_stopped.set()
        self.join(PATIENCE)
        assert not self.is_alive()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.env.close()


class VecSteps(Steps):
    """The same of several environments; keeps what the steps gave that ended an episode."""

    def run(self) -> None:
        self.env.reset()
        while not self._is_stopped.is_set():
            results = self.env.step(np.zeros(self.env.num_envs, np.int64))
            self.count += 1
            time.sleep(self._pause)
            if np.any(results[2]):
                self.endings.append(results)


class Learning(threading.Thread):
    """Has a model learn until it is stopped."""

    def __init__(self, model: Any, steps: int = 10_000_000):
        super().__init__(daemon=True)
        self.model = model
        self._steps = steps
        self._is_stopped = False
        self._work: list[Callable[[], object]] = []

    def run(self) -> None:
        self.model.learn(self._steps, callback=self._on_step)

    def _on_step(self, *_: object) -> bool:
        while self._work:
            self._work.pop(0)()
        return not self._is_stopped

    def between_steps(self, work: Callable[[], object]) -> None:
        """Have something done by the thread that learns."""
        self._work.append(work)

    def __enter__(self) -> Learning:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped = True
        self.join(PATIENCE)
        assert not self.is_alive()


def balancing(env: Any) -> Any:
    """Make a model that balances CartPole from the first step on, for as long as it may."""
    import torch as th  # not for the script that imports this module in a process of its own

    from dqn_plugins import NaiveDQN

    model = NaiveDQN(
        "MlpPolicy",
        env,
        learning_rate=0.0,
        exploration_fraction=0.0,
        exploration_final_eps=0.0,
        policy_kwargs={"net_arch": []},
    )
    (layer,) = model.q_net.q_net
    push = th.tensor([0.1, 0.5, 5.0, 1.0])
    with th.no_grad():
        layer.weight.copy_(th.stack([-push, push]))
        layer.bias.zero_()
    return model


class Client:
    """What a browser does, without one: connects, reads, sends controls."""

    def __init__(self, url: str, origin: str | None = None):
        address, _, query = url.partition("?")
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(
            connect(
                address.replace("http", "ws", 1) + "socket" + (f"?{query}" if query else ""),
                origin=origin or address.rstrip("/"),  # type: ignore[arg-type]
                max_size=None,
                close_timeout=0.5,  # what was not read would have to be first
            )
        )
        # Read at once, as a browser does: one that does not answer is let go.
        self._messages: queue.Queue[str | bytes | None] = queue.Queue()
        threading.Thread(target=self._receive, daemon=True).start()
        self.known: dict[str, Any] = {}
        self.episodes: list[Any] = []
        self.states: list[dict[str, Any]] = []
        self.pictures: list[bytes] = []
        self.events: list[dict[str, Any]] = []

    def send(self, control: str, value: Any = None, run: int | None = 0) -> None:
        self._socket.send(json.dumps({"run": run, "control": control, "value": value}))

    def use(self, control: str, value: Any) -> None:
        """Set a control, and wait until the page says that it is set."""
        self.send(control, value)
        self.until(lambda: self.known.get("controls", {}).get(control) == value)

    def send_text(self, text: str) -> None:
        self._socket.send(text)

    def _receive(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in self._socket:
                self._messages.put(message)
        self._messages.put(None)

    def read(self) -> None:
        """Take in the next message."""
        message = self._messages.get(timeout=PATIENCE)
        assert message is not None, "the page has ended the connection"
        if isinstance(message, bytes):
            length = int.from_bytes(message[:4], "little")
            header = json.loads(message[4 : 4 + length])
            self.states.append(header)
            if len(message) > 4 + length:
                self.pictures.append(message[4 + length :])
            return
        for event in json.loads(message):
            self.events.append(event)
            self.known |= event
            self.known |= event.get("snapshot", {})
            if "snapshot" in event:
                self.episodes = event["snapshot"]["recent"]
            self.episodes += event.get("episodes", [])

    def all_of(self, control: str) -> list[Any]:
        """What a control has been: of two changes in one message, only the last is known."""
        return [event["controls"][control] for event in self.events if "controls" in event]

    def all(self, kind: str) -> list[Any]:
        """All events of a kind."""
        return [event[kind] for event in self.events if kind in event]

    @property
    def snapshots(self) -> dict[int, dict[str, Any]]:
        """The newest of each training."""
        return {event["run"]: event["snapshot"] for event in self.events if "snapshot" in event}

    @property
    def ended(self) -> dict[int, str]:
        """What the page says of the end of each training that has ended."""
        told = (
            {"run": each.get("run"), **each, **each.get("snapshot", {})} for each in self.events
        )
        return {each["run"]: each["ended"] for each in told if "ended" in each}

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < deadline, "it never came"
            self.read()
        return value

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
