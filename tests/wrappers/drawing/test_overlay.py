"""Captions and Q-values: what is drawn is what the model says."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import StreamQ
from dqn_plugins.wrappers import FrameDetails, Overlay, QValueOverlay
from dqn_plugins.wrappers.drawing.lettering import fitted, legible, signed, text_width
from dqn_plugins.wrappers.drawing.overlay import q_value_function
from dqn_plugins.wrappers.drawing.panel import ACCENT, BAR, TRACK, Axis

FRAME = np.full((400, 600, 3), 77, dtype=np.uint8)


def details(observation: Any = None, **values: Any) -> FrameDetails:
    numbers = {"episode": 3, "step": 12, "reward": -0.5, "episode_return": 8.0} | values
    return FrameDetails(observation=observation, **numbers)


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Which pixels have exactly this colour."""
    return (picture == np.array(colour, dtype=np.uint8)).all(axis=2)


def bar_lengths(picture: np.ndarray) -> list[tuple[int, bool]]:
    """The bars from top to bottom: length in pixels, and whether it is the greedy one's."""
    panel = picture[400:, 275:]
    lengths = []
    for row in range(1, panel.shape[0]):
        for colour in (BAR, ACCENT):
            length = int(has_colour(panel[row : row + 1], colour).sum())
            before = int(has_colour(panel[row - 1 : row], colour).sum())
            if length > 8 and before <= 8:
                lengths.append((length, colour == ACCENT))
    return lengths


def test_the_frame_itself_is_untouched() -> None:
    picture = Overlay(caption=True).draw(FRAME, details())
    assert picture.dtype == np.uint8
    assert (picture[:400] == FRAME).all()
    assert 440 < picture.shape[0] < 480
    assert picture.shape[1] == 600


def test_every_number_of_the_caption_is_drawn() -> None:
    overlay = Overlay(caption=True)
    first = overlay.draw(FRAME, details())
    for change in ({"episode": 4}, {"step": 13}, {"reward": 0.5}, {"episode_return": 9.0}):
        assert (overlay.draw(FRAME, details(**change)) != first).any(), change
    assert (overlay.draw(FRAME, details()) == first).all()


def test_a_caption_of_ones_own() -> None:
    overlay = Overlay(caption=lambda frame: {"ε": "0.1", "a long label": "x" * 500})
    assert overlay.draw(FRAME, details()).shape[1] == 600


@pytest.mark.parametrize("greedy", [0, 1, 2, 3])
def test_the_bars_follow_the_values_and_mark_the_greedy_action(greedy: int) -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    values[greedy] = 8.0
    overlay = QValueOverlay(lambda observation: values)
    lengths = bar_lengths(overlay.draw(FRAME, details()))
    assert [marked for _, marked in lengths] == [index == greedy for index in range(4)]
    pixels = np.array([length for length, _ in lengths])
    np.testing.assert_allclose(pixels / pixels[greedy], values / 8, atol=0.02)


def test_many_actions_stand_side_by_side() -> None:
    values = np.linspace(-1, 1, 18)
    picture = QValueOverlay(lambda observation: values).draw(FRAME, details())
    marked = has_colour(picture[430:], ACCENT).any(axis=0)
    assert marked[560:].any()
    assert not marked[:540].any()


def test_impossible_actions_have_no_bar_and_no_part_in_the_scale() -> None:
    values = np.array([np.nan, 2.0, 8.0, 4.0])
    overlay = QValueOverlay(lambda observation: values, ["a", "b", "c", "d"])
    mask = np.array([False, True, False, True])
    bars = bar_lengths(overlay.draw(FRAME, details(action_mask=mask)))
    assert [marked for _, marked in bars] == [False, True]
    alone = QValueOverlay(lambda observation: values[mask], ["b", "d"])
    np.testing.assert_allclose(bars, bar_lengths(alone.draw(FRAME, details())), atol=1)
    assert not bar_lengths(overlay.draw(FRAME, details(action_mask=np.zeros(4, bool))))


def test_impossible_actions_of_many_have_no_column() -> None:
    overlay = QValueOverlay(lambda observation: np.arange(1.0, 19.0))
    possible = np.isin(np.arange(18), (3, 10))
    picture = overlay.draw(FRAME, details(action_mask=possible))[432:]
    columns = [has_colour(picture, colour).any(axis=0) for colour in (TRACK, BAR, ACCENT)]
    pitch = (584 - 256) / 18
    for index in range(18):
        middle = round(256 + pitch * (index + 0.5))
        seen = [bool(column[middle]) for column in columns]
        assert seen == [index == 3, index == 3, index == 10], index


def test_the_values_are_those_of_the_network() -> None:
    env = gym.make("CartPole-v1")
    model = DQN("MlpPolicy", env, seed=0, buffer_size=10)
    overlay = QValueOverlay(model)
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        values = overlay._ask(observation)
        assert values is not None
        action, _ = model.predict(observation, deterministic=True)
        assert values.shape == (2,)
        assert int(np.argmax(values)) == int(action)


def test_the_values_are_those_that_predict_acts_by() -> None:
    env = gym.make("CartPole-v1")
    model = StreamQ("MlpPolicy", env, policy_kwargs={"averaging_window": 500}, seed=0)
    model.learn(500)
    observation, _ = env.reset(seed=0)
    values = q_value_function(model)(observation)
    with torch.no_grad():
        tensor, _ = model.policy.obs_to_tensor(observation)
        average, newest = model.policy.average_q_net(tensor), model.q_net(tensor)
    assert np.array_equal(values, average[0].numpy())
    assert not np.allclose(values, newest.numpy(), atol=1e-3)


def test_dictionary_observations() -> None:
    class Pair(gym.Env):
        observation_space = gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,), np.float32)})
        action_space = gym.spaces.Discrete(3)

        def reset(self, **kwargs: Any) -> Any:
            return self.observation_space.sample(), {}

    model = DQN("MultiInputPolicy", DummyVecEnv([Pair]), buffer_size=10)
    picture = QValueOverlay(model).draw(FRAME, details(Pair.observation_space.sample()))
    assert picture.shape[1] == 600


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_do_not_break_the_video(bad: float) -> None:
    for count in (3, 9):
        values = np.arange(float(count))
        values[1] = bad
        picture = QValueOverlay(lambda observation, values=values: values).draw(FRAME, details())
        if np.isnan(bad):
            assert not has_colour(picture, ACCENT).any()
    everything = np.full(3, bad)
    QValueOverlay(lambda observation: everything).draw(FRAME, details())


def test_equal_values_and_huge_ones() -> None:
    for values in ([0.0, 0.0], [5.0, 5.0], [-5.0, -5.0], [1e30, -1e30], [1e9, 1e9 + 1]):
        QValueOverlay(lambda observation, values=values: values).draw(FRAME, details())


def test_small_frames_are_enlarged_and_grey_ones_coloured() -> None:
    picture = Overlay().draw(np.full((210, 160), 9, dtype=np.uint8), details())
    assert picture.shape[1] == 480
    assert (picture[:630] == 9).all()


def test_a_caption_that_is_no_dictionary() -> None:
    overlay = Overlay(caption=lambda details: "step 3")  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="caption: the function returned 'step 3'"):
        overlay.draw(FRAME, details())


def test_wrong_number_of_names() -> None:
    overlay = QValueOverlay(lambda observation: [1.0, 2.0], ["left"])
    with pytest.raises(ValueError, match="action_names: received 1 names for 2 Q-values"):
        overlay.draw(FRAME, details())


def test_no_model() -> None:
    with pytest.raises(TypeError, match="model: received None"):
        QValueOverlay(None)


def test_axis_holds_zero_unless_that_hides_the_differences() -> None:
    assert Axis().follow(np.array([1.0, 3.0])) == (0.0, 3.0, 0.0)
    low, high, origin = Axis().follow(np.array([100.0, 101.0]))
    assert 99 < low == origin < 100
    assert high == 101
    low, high, origin = Axis().follow(np.array([-1.0, 1.0]))
    assert (low, high, origin) == (-1.0, 1.0, 0.0)


def test_axis_shrinks_slowly() -> None:
    axis = Axis()
    axis.follow(np.array([-10.0, 10.0]))
    _, high, _ = axis.follow(np.array([-1.0, 1.0]))
    assert 9 < high < 10
    for _ in range(500):
        _, high, _ = axis.follow(np.array([-1.0, 1.0]))
    assert high == pytest.approx(1.0, abs=0.01)


def test_numbers_and_texts() -> None:
    assert signed(-0.001, 2) == "0.00"
    assert signed(-1.5, 1) == "−1.5"
    assert signed(float("-inf"), 1) == "−inf"
    assert signed(-123456.78, 2, longest=8) == "−123457"
    assert signed(-123456.78, 2, longest=7) == "−123457"
    assert signed(-1234567.8, 2, longest=7) == "−1.2e6"
    assert signed(1e30, 1, longest=9) == "1.0e30"
    assert legible("two\nlines", 12) == "two lines"
    assert fitted("short", 12, 500) == "short"
    assert text_width(fitted("a very long name indeed", 12, 60), 12) <= 62
