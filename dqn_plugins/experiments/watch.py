"""Watch algorithms learn side by side, or a saved model play, on a page in the browser."""

import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from rich.console import Console

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import (
    ALGORITHMS,
    is_masked,
    learning_arguments,
    load_model,
    make_model,
    resolve,
)
from dqn_plugins.experiments.environments import (
    PLAIN,
    EnvironmentSettings,
    MasksFromInfo,
    make_environment,
)
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.experiments.record import check_spaces, trained_on
from dqn_plugins.experiments.running import check_at_least, end_with_parent, one_torch_thread
from dqn_plugins.experiments.settings import Settings, variants_in
from dqn_plugins.files import output_folder
from dqn_plugins.wrappers.live.live_page import FIRST_PORT, LivePage, PageAddress

__all__ = ["WatchSettings", "watch"]

PATIENCE_SECONDS = 1.0
INTERRUPTED = 130  # what shells expect of a command that Ctrl-C has ended


@dataclass(frozen=True)
class WatchSettings(Settings):
    """
    Watch algorithms learn, each in a process of its own, on one page; or a saved model play.

    :param model: File that `save` wrote, to see it play. Without it, something is trained.
    :param env: Environment, by its Gymnasium id. For a saved model, by default the one it was
        trained on, which the settings.json beside it tells.
    :param algo: Algorithm or variant from --config, by name; repeat for several. Of a saved model,
        the file tells it.
    :param timesteps: Environment steps of each training.
    :param seed: Seed of everything random.
    :param config: YAML file with variants; see docs/comparison.md.
    :param out: Folder of logs and models: those at the end, and those the page's button saves.
    :param host: Address to serve the page on; by default only this machine reaches it. On any other
        the page asks for a token, which the printed URL carries.
    :param port: First port to try.
    :param open: Open the page in the browser.
    :param wait: Begin when a browser shows the page, so that nothing is missed.
    """

    model: Path | None = None
    env: str | None = None
    algo: tuple[str, ...] = ()
    timesteps: int = 200_000
    seed: int = 0
    config: Path | None = None
    out: Path = Path("runs/watch")
    host: str | None = None
    port: int = FIRST_PORT
    open: bool = False
    wait: bool = True

    def check(self) -> None:
        """Refuse what is missing or out of its range, without importing an algorithm."""
        check_at_least(self, timesteps=1, seed=0)
        if self.model is not None:
            if len(self.algo) > 1:
                raise SettingsError(
                    f"algo: received {self.algo}, it must be that of the saved model."
                )
            return
        if self.env is None:
            raise SettingsError("env: received none. Pass one, such as --env LunarLander-v3.")
        if not self.algo:
            raise SettingsError("algo: received none. Pass at least one, such as --algo stream_q.")
        if len(set(self.algo)) < len(self.algo):
            raise SettingsError(f"algo: received {self.algo}, each may be named once.")


def watch(settings: WatchSettings, console: Console | None = None) -> int:
    """
    Serve the page, and train or play until the end or Ctrl-C.

    :param settings: What to watch.
    :param console: Where the page's address is shown; standard error by default.
    :return: 0 if all went well, 1 if a training failed or the page was killed, 130 after Ctrl-C.
    :raises SettingsError: If a setting is wrong.
    """
    settings.check()
    console = console or Console(stderr=True, highlight=False)
    if settings.model is not None:
        return _play(settings, console)
    assert settings.env is not None
    variants = variants_in(settings.config)
    made = {}
    for name in settings.algo:
        made[name] = PLAIN
        if name in variants or name not in ALGORITHMS:  # which imports torch, or raises
            made[name] = resolve(name, settings.env, variants).environment
        with closing(make_environment(settings.env, made[name], render_mode="rgb_array")) as env:
            if env.render_mode != "rgb_array":
                raise SettingsError(
                    f"env: received {settings.env!r}, which has no pictures: its render_mode is "
                    f"{env.render_mode!r}. Set it to the argument of that name in its __init__."
                )
        if unused := sorted({*made[name].described()} - {"env_kwargs", "wrappers"}):
            line = f"{name}: {', '.join(unused)} left out: one environment is watched, as it is."
            console.print(line, markup=False, soft_wrap=True)
    output_folder(settings.out)
    page = _open_page(settings, console, [(name, settings.env) for name in settings.algo])
    # spawned, so that nothing that was imported here, torch's threads above all, is forked
    context = multiprocessing.get_context("spawn")
    trainings = [
        context.Process(target=_train, args=(settings, name, made[name], page.address), name=name)
        for name in settings.algo
    ]
    for training in trainings:
        training.start()
    try:
        for training in trainings:
            training.join()
    except KeyboardInterrupt:
        for training in trainings:
            training.join(PATIENCE_SECONDS)
            # Ctrl-C in a terminal has reached it, too, but not if it is paused; a signal to this
            # process alone has not.
            if training.is_alive() and training.pid is not None:
                os.kill(training.pid, signal.SIGTERM)
                training.join()
        console.print(
            f"Ended. The logs are in {settings.out}. Models are saved when their training is "
            "complete, or by the page's button.",
            markup=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    failed = [training.name for training in trainings if training.exitcode]
    for name in failed:
        console.print(f"Failed: {name}", style="red", markup=False)
    return 1 if failed else 0


def _open_page(
    settings: WatchSettings, console: Console, expected: list[tuple[str, str]]
) -> LivePage:
    try:
        page = LivePage(
            settings.host, settings.port, open_browser=settings.open, quiet=True, expected=expected
        )
    except (ValueError, OSError) as error:  # no such port or host
        raise SettingsError(str(error)) from error
    console.print(f"Watch at {page.url}", markup=False, soft_wrap=True)
    if settings.wait and not settings.open:
        console.print("It begins when a browser shows the page. Ctrl-C ends it.")
    return page


def _train(
    settings: WatchSettings, name: str, made: EnvironmentSettings, page: PageAddress
) -> None:
    """Train one algorithm, in a process of its own."""
    from dqn_plugins.wrappers import LiveView

    # SIGTERM ends also what is paused; SIGINT lets a transition be learned from first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert settings.env is not None
    env = make_environment(settings.env, made, render_mode="rgb_array")
    view = LiveView(env, name=name, folder=settings.out, page=page)
    try:
        _learn(settings, name, view)
    except KeyboardInterrupt:
        view.leave_page("Ended by Ctrl-C.")
        raise SystemExit(INTERRUPTED) from None
    except SettingsError as error:
        problem = str(error).removeprefix(f"{name}: ")
        view.leave_page(problem, failed=True)
        console = Console(stderr=True, highlight=False)
        console.print(f"Error: {name}: {problem}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(1) from error
    except Exception as error:
        view.leave_page(f"{type(error).__name__}: {error}", failed=True)
        raise


def _learn(settings: WatchSettings, name: str, view: Any) -> None:
    from dqn_plugins.wrappers import EpisodeReward
    from dqn_plugins.wrappers.video.video_writer import reserve_path

    view.reset(seed=settings.seed)
    view.show()  # while torch is still being imported
    assert settings.env is not None
    stem = _free_stem(settings.out, f"{folder_name(settings.env)}_{name}_seed_{settings.seed}")
    variant = resolve(name, settings.env, variants_in(settings.config))
    logged = EpisodeReward(view, log_file=settings.out / stem)
    with one_torch_thread():
        model = make_model(variant, logged, settings.seed)
        view.attach(model)
        if settings.wait:
            view.wait_until_watched()
        model.learn(settings.timesteps, **learning_arguments(model))
        path = reserve_path(settings.out / f"{stem}.zip")
        model.save(path)
    Console(stderr=True, highlight=False).print(f"Saved {path}", markup=False, soft_wrap=True)
    view.leave_page(f"Trained for {settings.timesteps:,} steps. Saved {path}")
    logged.close()


def _free_stem(folder: Path, stem: str) -> str:
    """Number a name, if need be, so that neither a log nor a model has it."""
    candidates = chain([stem], (f"{stem}_{number}" for number in count(1)))
    return next(each for each in candidates if not any(folder.glob(f"{each}.*")))


def _play(settings: WatchSettings, console: Console) -> int:
    """Play greedy episodes of a saved model while somebody watches."""
    from dqn_plugins.wrappers import LiveView

    assert settings.model is not None
    env_id, made, _ = trained_on(settings.model, settings.env)
    model: Any = load_model(settings.model, settings.algo[0] if settings.algo else None)
    env = MasksFromInfo(make_environment(env_id, made, render_mode="rgb_array"))
    check_spaces(model, env, env_id)
    page = _open_page(settings, console, [])
    view = LiveView(env, folder=settings.out, speed=1.0, page=page)
    view.attach(model, only_plays=True)
    seed = settings.seed
    try:
        with one_torch_thread():
            while view.wait_until_watched():
                observation, _ = view.reset(seed=seed)
                seed += 1
                is_over = False
                while not is_over:
                    known = {}
                    if is_masked(model, env):
                        known["action_masks"] = env.get_wrapper_attr("action_masks")()
                    action, _ = model.predict(observation, deterministic=True, **known)
                    observation, _, terminated, truncated, _ = view.step(int(action))
                    is_over = terminated or truncated
    except KeyboardInterrupt:
        view.leave_page("Ended by Ctrl-C.")
        console.print("Ended. A model that plays learns nothing, so nothing was saved.")
        return INTERRUPTED
    console.print("The page is gone, so nobody can watch.", style="red")
    return 1
