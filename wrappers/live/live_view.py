"""A live page of a :class:`gymnasium.Env` in training."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.core import ActType, ObsType

from dqn_plugins.wrappers.drawing.action_names import action_names_of, known_action_names
from dqn_plugins.wrappers.environment_id import check_pictures, environment_metadata, id_of
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.live_page import FIRST_PORT, LivePage, PageAddress, embedded
from dqn_plugins.wrappers.live.pace import Pace
from dqn_plugins.wrappers.live.protocol import REQUEST
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.live.training import Training
from dqn_plugins.wrappers.observing.observer import ObservedEnv, Observer, SharedReference
from dqn_plugins.wrappers.rewards.episode import INTERVENTIONS
from dqn_plugins.wrappers.video.recording import package_versions

__all__ = ["LiveView"]

DEFAULT_FPS = 30


class View(Observer):
    """What the views of one and of several environments have in common: they tell the page."""

    _wants_every_step = False
    _page: LivePage | PageAddress
    _owned_page: LivePage | None
    _scene: Scene
    _training: Training

    def __init__(
        self,
        env: Any,
        model: Any = None,
        *,
        action_names: Sequence[str] | None = None,
        name: str | None = None,
        host: str | None = None,
        port: int = FIRST_PORT,
        open_browser: bool = False,
        folder: str | os.PathLike[str] = "live",
        speed: float = 0.0,
        page: LivePage | PageAddress | None = None,
    ):
        arguments = dict(locals())
        del arguments["self"], arguments["env"], arguments["__class__"]
        if isinstance(page, LivePage):
            arguments["page"] = page.address
        super().__init__(env, **arguments)  # type: ignore[call-arg]
        check_pictures(env)
        self._render_mode: str | None = env.render_mode
        self._observe()
        self._owned_page = None
        if not isinstance(page, LivePage | PageAddress | None):
            raise TypeError(
                f"page: received {page!r}, it must be a LivePage, its address, or None for a page "
                "of its own. Pass LivePage() or page.address."
            )
        if page is None:
            page = self._owned_page = LivePage(host, port, open_browser=open_browser)
        self._page = page
        self._scene = self._scene_of(env)
        env_id, kind, spec = id_of(env), "Environment", None
        if self._scene.environments:
            first = self._scene.environments[0]
            names, kind, spec = action_names_of(first), type(first.unwrapped).__name__, first.spec
        else:  # of one in another process only its id is known
            names, spec = known_action_names(env_id), gym.registry.get(env_id or "")
        # SDL, with which many environments draw, would take SIGTERM from the training.
        os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
        threshold = getattr(spec, "reward_threshold", None) or math.nan
        pace = Pace(float(environment_metadata(env).get("render_fps") or DEFAULT_FPS), speed)
        hello = {
            "name": name or env_id or kind,
            "n_envs": self._scene.n_envs,
            "environment": env_id or kind,
            "threshold": threshold if math.isfinite(threshold) else None,
            "action_names": names if action_names is None else [str(each) for each in action_names],
            "folder": os.fspath(folder),
            "versions": package_versions(),
        }
        link = Link(page.address if isinstance(page, LivePage) else page, hello)
        self._training = Training(self._scene, link, pace, env.action_space, folder, name, spec)
        if isinstance(model, SharedReference):  # rebuilt from a spec
            model = model.value
        if model is not None:
            self.attach(model)

    def _scene_of(self, env: Any) -> Scene:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """What to open in a browser. It carries the token, if there is one."""
        return self._page.url

    @property
    def is_watched(self) -> bool:
        """Whether a browser shows the page, as of the last step."""
        return self._training.is_watched

    def attach(self, model: Any, *, only_plays: bool = False) -> None:
        """
        Show what a model thinks, and let the page's controls change it. Like ``step``, this is for
        the thread that trains.

        :param model: A Stable-Baselines3 model, or a function from one observation to the Q-values,
            shape (n_actions,).
        :param only_plays: Whether the model acts but does not learn here.
        """
        self._training.attach(model, only_plays)

    def show(self) -> None:
        """
        Show where the environment is, also if nobody watches yet, so that the first browser sees
        something at once. Call it after a reset.
        """
        self._informed().show()

    def wait_until_watched(self, seconds: float = float("inf")) -> bool:
        """
        Wait for a browser to open the page, so that it misses nothing of the training.

        :param seconds: For how long at most.
        :return: Whether there is one.
        """
        return self._informed().wait_until_watched(seconds)

    def leave_page(self, words: str = "Training is over.", failed: bool = False) -> None:
        """
        Take leave of the page, which keeps the curve as long as somebody looks. ``close`` does so,
        too.

        :param words: What the page says of the end.
        :param failed: Whether an error ended the training.
        """
        self._training.close(words, failed)
        self._scene.leave()
        if self._owned_page is not None:
            self._owned_page.close()

    def _repr_html_(self) -> str:
        return embedded(self.url)

    def _before_reset(self, indices: Sequence[int]) -> None:
        self._training.obey()

    def _informed(self) -> Training:
        """Give the training, once it sees where the environments are."""
        self._scene.seen, self._scene.infos = self._observations, self._infos
        return self._training

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        for index in ended:
            infos[index][INTERVENTIONS] = self._training.end_episode(index)

    def _resets(self, over: Any) -> Iterator[int]:
        """Cut the episodes that the page resets, but for those that are over."""
        resets = self._training.resets_now
        while resets:
            index = resets.pop()
            if not over[index]:
                self._episodes[index].end(terminated=False, truncated=True)
                yield index

    def _after_failure(self, error: Exception) -> None:
        self._training.fail(error)

    def _before_close(self) -> None:
        self.leave_page()


class LiveView(View, ObservedEnv[ObsType, ActType]):
    """
    Show a training on a web page of this machine while it goes on: the environment, the Q-values of
    its actions, the return of each episode, and controls to pause it, slow it down and intervene.

    The page is served by a process of its own. While nobody looks at it nothing is rendered, and a
    step costs less than two microseconds more. Looking changes no weight. What a control changed in
    an episode is in the info of its last step, under ``"interventions"`` ("" for nothing), and in
    the log of an :class:`dqn_plugins.wrappers.EpisodeReward` around this wrapper. Training waits
    for the page only where a control says so, until the last browser leaves. Its vector twin is
    :class:`dqn_plugins.wrappers.VecLiveView`.

    :param env: The environment, made with a ``render_mode`` that returns pictures
        (``"rgb_array"``, or one ending in ``_list``).
    :param model: Whose Q-values are shown: a Stable-Baselines3 model, or a function from one
        observation to an array of Q-values. A model that is made with this wrapper as its
        environment is attached later, by :meth:`attach` or
        :class:`dqn_plugins.wrappers.LiveCallback`.
    :param action_names: Names of the actions; by default those the environment or a table of
        well-known environments knows, or else numbers.
    :param name: Name of the training on the page; by default the algorithm's.
    :param host: See :class:`dqn_plugins.wrappers.LivePage`.
    :param port: See :class:`dqn_plugins.wrappers.LivePage`.
    :param open_browser: Whether to open the page in a browser.
    :param folder: Where the page's button saves models; made when it is used.
    :param speed: Pace at the beginning, and when the last browser has left: 1 for real time, 10 for
        ten times that, 0 for full speed.
    :param page: A page to appear on beside others, or its address; None makes a new page.
    :raises ValueError: If the environment's render mode gives no pictures, ``port`` is no port, or
        ``speed`` is negative or not finite.
    :raises TypeError: If ``page`` is something else.
    :raises DependencyNotInstalled: If the extra ``live`` is not installed.
    :raises OSError: If the page cannot be served or reached.

    Example::

        import gymnasium as gym
        from dqn_plugins import StreamQ
        from dqn_plugins.wrappers import LiveView

        env = LiveView(gym.make("CartPole-v1", render_mode="rgb_array"))
        model = StreamQ("MlpPolicy", env)
        env.attach(model)
        model.learn(1_000)
        env.close()
    """

    def _scene_of(self, env: Any) -> Scene:
        return Scene([env], self._episodes, lambda _: env.render())

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Take a step; before it, show where the agent is, and do what the controls say.

        :param action: Passed on, unless the page says to disturb an algorithm that does not explore
            by itself.
        :return: Observation, reward, terminated, truncated and info. The page's reset truncates an
            episode; the info of an episode's last step has the entry ``"interventions"``.
        """
        training = self._training
        link = training.link
        if not training.is_held and link.memory[REQUEST] == link.answered:  # nobody wants anything
            return ObservedEnv.step(self, action)
        (action,) = self._informed().before_step([action])
        observation, reward, terminated, truncated, info = ObservedEnv.step(self, action)
        training.showing.show_td_error(lambda _: observation)
        for index in self._resets([terminated or truncated]):
            info[INTERVENTIONS], truncated = training.end_episode(index), True
        return observation, reward, terminated, truncated, info

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]
        """The environment's render mode, as it was made."""
        return self._render_mode
