"""The page in a real browser: what it shows, and that every control does what it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import gymnasium as gym
import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs

from dqn_plugins import StreamQ
from dqn_plugins.wrappers import LivePage, LiveView
from tests.wrappers.live.helpers import Counting, Learning, Masked, Steps, balancing, until

FILES = Path(__file__).parents[3] / "wrappers" / "live" / "page"


class Shown:
    """The page of one training, as a user finds it."""

    def __init__(self, browser: Any, url: str):
        self.browser = browser
        browser.get(url)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, part: str) -> str:
        text: str = self.browser.execute_script(
            "return document.querySelector(arguments[0])?.textContent ?? ''", f"[data-is='{part}']"
        )
        return text

    def phase(self) -> str:
        """What the page says that the training does."""
        phase: str = self.browser.execute_script(
            "return document.querySelector('article')?.dataset.phase ?? ''"
        )
        return phase

    def button(self, control: str, value: str | None = None) -> Any:
        more = "" if value is None else f"[data-value='{value}']"
        return self.find(f"button[data-control='{control}']{more}")

    def click(self, control: str, value: str | None = None) -> None:
        self.button(control, value).click()

    def press(self, key: str) -> None:
        self.find("body").send_keys(key)

    def pictures(self) -> int:
        return int(self.browser.execute_script("return runs[0]?.pictures ?? 0"))

    def pixel(self) -> list[int]:
        pixel: list[int] = self.browser.execute_script(
            "return [...document.querySelector('canvas').getContext('2d')"
            ".getImageData(5, 5, 1, 1).data]"
        )
        return pixel[:3]

    def is_pressed(self, control: str, value: str | None = None) -> bool:
        return bool(self.button(control, value).get_attribute("aria-pressed") == "true")


@pytest.fixture(scope="module")
def lander(tmp_path_factory: Any) -> Iterator[tuple[LiveView[Any, Any], StreamQ]]:
    """One training for several tests, held up between them by nothing."""
    folder = tmp_path_factory.mktemp("models")
    env = LiveView(gym.make("CartPole-v1", render_mode="rgb_array"), port=0, folder=folder)
    model = StreamQ("MlpPolicy", env, seed=0, exploration_final_eps=0.125, exploration_fraction=0)
    env.attach(model)
    with Learning(model):
        yield env, model
    env.close()


@pytest.fixture
def shown(browser: Any, lander: Any) -> Shown:
    page = Shown(browser, lander[0].url)
    until(lambda: page.pictures() > 0, "a picture")
    return page


def test_frames_numbers_and_bars_change(shown: Shown) -> None:
    assert shown.browser.title == "StreamQ on CartPole-v1"
    until(lambda: shown.text("status") == "Training")
    before = shown.pictures(), shown.text("steps")
    until(lambda: shown.pictures() > before[0] + 5)
    until(lambda: shown.text("steps") != before[1])
    assert len(shown.browser.find_elements("css selector", "[data-is='values'] li")) == 2
    until(lambda: len(shown.browser.find_elements("css selector", "li.greedy")) == 1)
    until(lambda: shown.text("td_error") not in {"", "–"})
    until(lambda: "steps/s" in shown.text("speed"))
    assert "MiB" in shown.text("memory")


def test_the_curve_and_its_table_grow(shown: Shown) -> None:
    def count() -> int:
        return int(shown.browser.execute_script("return runs[0].points.length"))

    until(lambda: count() > 3)
    before = count()
    until(lambda: count() > before)
    until(lambda: shown.browser.find_elements("css selector", "#returns canvas"))
    until(
        lambda: shown.browser.execute_script(
            "const c = document.querySelector('#returns canvas');"
            "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x > 0)"
        ),
        "a painted chart",
    )
    shown.find("#episodes summary").click()
    # Read in one go: the rows are renewed with every episode.
    rows = until(
        lambda: shown.browser.execute_script(
            "return [...document.querySelectorAll('#rows tr')].map(row => row.textContent)"
        )
    )
    assert len(rows) <= 100
    assert rows[0].strip().startswith("StreamQ")
    # CartPole-v1 counts as solved from 475 on.
    assert shown.browser.execute_script("return runs[0].known.threshold") == 475
    shown.find("[data-axis='seconds']").click()
    until(lambda: shown.browser.execute_script("return charts[0].layout.startsWith('seconds')"))


def test_the_picture_is_the_environment_s(browser: Any) -> None:
    env = LiveView(Counting(), port=0)
    with Steps(env, pause=0.005):
        page = Shown(browser, env.url)
        until(lambda: page.pictures() > 0 and page.phase() == "training")
        page.press(" ")
        until(lambda: page.phase() == "paused")
        length = env.unwrapped.steps
        until(lambda: page.text("length") == str(length))
        until(lambda: page.pixel() == [length] * 3, "the picture of the state it is paused in")
        # Of two pictures at once the last one stays.
        browser.execute_script(
            """
            const picture = async (colour) => {
              const canvas = new OffscreenCanvas(60, 40);
              const pen = canvas.getContext("2d");
              pen.fillStyle = colour;
              pen.fillRect(0, 0, 60, 40);
              return new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
            };
            Promise.all([picture("#f00"), picture("#00f")]).then((both) => {
              for (const each of both) runs[0].draw(each);
            });
            """
        )
        until(lambda: page.pixel() == [0, 0, 255])
        until(lambda: "No model is attached" in page.text("no-values"))
        assert page.button("save").get_attribute("aria-disabled") == "true"
        page.press(" ")
        until(lambda: env.unwrapped.steps != length)


def test_buttons_slider_and_keys_do_what_they_say(shown: Shown, lander: Any) -> None:
    view, model = lander
    shown.click("pause")
    until(lambda: shown.text("status") == "Paused")
    assert shown.button("pause").text.startswith("Go on")
    before = model.num_timesteps
    shown.click("step")
    until(lambda: model.num_timesteps == before + 1)
    shown.press(".")
    until(lambda: model.num_timesteps == before + 2)
    shown.click("pause")
    until(lambda: model.num_timesteps > before + 100)
    shown.click("speed", "1")
    until(lambda: shown.is_pressed("speed", "1") and view._training.pace.speed == 1)
    shown.press("3")
    until(lambda: shown.is_pressed("speed", "0") and view._training.pace.speed == 0)
    until(lambda: shown.text("rate") == "0.13")
    shown.browser.execute_script(
        "const slider = document.querySelector('[data-is=slider]'); slider.value = 0.5;"
        "slider.dispatchEvent(new Event('input'))"
    )
    until(lambda: model.exploration_rate == 0.5)
    until(lambda: shown.button("exploration").text.startswith("Release ε"))
    shown.click("exploration")
    until(lambda: model.exploration_rate == 0.125)
    shown.click("learning")
    until(lambda: shown.text("status") == "Learning is off")
    assert not shown.is_pressed("learning")
    shown.press("l")
    until(lambda: shown.is_pressed("learning"))
    shown.click("disturb")
    shown.press("r")
    for words in ("exploration rate held at 0.5", "learning off", "8 random actions", "reset"):
        until(
            lambda words=words: any(
                words in point[4]  # which stays there, however fast episodes end
                for point in shown.browser.execute_script("return runs[0].points")
            ),
            words,
        )
    shown.press("s")
    until(lambda: shown.text("notice").startswith("Saved "))
    assert Path(shown.text("notice").removeprefix("Saved ")).is_file()


def test_greedy_look_and_film(browser: Any, tmp_path: Path) -> None:
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    # The look is still there when the browser comes round to it.
    endless = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=1_000_000)
    view = LiveView(endless, port=0, speed=1)
    model = balancing(view)
    view.attach(model)
    with Learning(model):
        shown = Shown(browser, view.url)
        until(lambda: shown.pictures() > 0)
        shown.press("g")
        until(lambda: shown.phase() == "look")
        shown.press("g")
        until(lambda: shown.text("notice").startswith("Greedy look: return"))
        shown.press("f")
        until(lambda: shown.is_pressed("film"))
        before = shown.pictures()
        until(lambda: shown.pictures() > before + 60)  # an encoder that begins drops some
        shown.press("f")
        # An unfinished download has a further suffix.
        name = "CartPole-v1_NaiveDQN"
        videos = [tmp_path / f"{name}.mp4", tmp_path / f"{name}.webm"]
        video = until(lambda: next((e for e in videos if e.exists() and e.stat().st_size), None))
        assert not shown.is_pressed("film")
        n_frames, _ = count_frames_and_secs(str(video))
        assert n_frames > 1
    view.close()


def test_side_by_side(browser: Any) -> None:
    live = LivePage(port=0, quiet=True)
    views = [LiveView(Counting(), name=name, page=live) for name in ("left", "right")]
    with Steps(views[0]) as left, Steps(views[1]) as right:
        page = Shown(browser, live.url)
        until(lambda: len(browser.find_elements("css selector", "article")) == 2)
        until(lambda: browser.execute_script("return runs.every(run => run.pictures > 0)"))
        # Read in one go: text that changes may move them.
        tops = "return runs.map(run => run.element.getBoundingClientRect().top)"
        assert len(set(browser.execute_script(tops))) == 1
        # A key means the training that has the focus, or all.
        browser.execute_script("runs[1].element.querySelector('[data-control=step]').focus()")
        browser.switch_to.active_element.send_keys("1")
        until(lambda: views[1]._training.is_held)
        assert not views[0]._training.is_held
        browser.execute_script("document.activeElement.blur()")
        page.press(" ")
        until(lambda: all(view._training.pace.is_paused for view in views))
        # The next press ends the pause only where the page has heard of it.
        until(lambda: browser.execute_script("return runs.every(run => run.controls.pause)"))
        before = left.count, right.count
        page.press(" ")
        until(lambda: left.count > before[0] + 5 and right.count > before[1] + 5)
    live.close()


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_it_fits_the_screen_and_has_names_for_all(shown: Shown, width: int) -> None:
    browser = shown.browser
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False},
    )
    until(lambda: browser.execute_script("return innerWidth") == width)
    # A chart that was laid out for another width follows.
    until(lambda: browser.execute_script("return document.documentElement.scrollWidth") <= width)
    for element in browser.find_elements("css selector", "button, input, select"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")


def test_both_colour_schemes_can_be_read(shown: Shown) -> None:
    """Text has at least the contrast that WCAG AA asks of it."""
    for scheme in ("light", "dark"):
        shown.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        in_force = f"return matchMedia('(prefers-color-scheme: {scheme})').matches"
        until(lambda script=in_force: shown.browser.execute_script(script))
        colours = shown.browser.execute_script(
            """
            const style = getComputedStyle(document.documentElement);
            const probe = document.body.appendChild(document.createElement("i"));
            const read = (name) => {
              probe.style.color = style.getPropertyValue(name);
              return getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number);
            };
            const names = ["--card", "--ink", "--soft", "--accent", "--warning", "--track"];
            const all = names.map(read);
            probe.remove();
            return all;
            """
        )
        card, *inks, track = colours
        for ink in inks:
            assert contrast(ink, card) >= 4.5, (scheme, ink)
            assert contrast(ink, track) >= 4.5, (scheme, ink)
    shown.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(a: list[float], b: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        parts = np.array(colour[:3]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_page_says_what_goes_on(browser: Any) -> None:
    """From before the training's process is there until after its end."""
    live = LivePage(
        port=0, quiet=True, expected=[("mine", "CartPole-v1"), ("other", "CartPole-v1")]
    )
    page = Shown(browser, live.url)
    until(lambda: page.phase() == "starting")
    assert browser.title == "mine, other on CartPole-v1"
    assert page.find("#connection").text == "Waiting"
    page.click("pause")
    until(lambda: page.text("notice") == "The training has not started yet.")
    # The second comes first, and keeps its place.
    other = LiveView(Counting(), name="other", page=live)
    until(lambda: browser.execute_script("return runs[1].element.dataset.phase") == "waiting")
    other.close()
    view = LiveView(Counting(), name="mine", page=live)
    until(lambda: page.phase() == "waiting")
    page.click("save")
    assert page.text("notice") == "The training has not started yet."
    view._training.on_compilation(True)
    until(lambda: page.phase() == "compiling" and page.text("status").startswith("Compiling, "))
    assert "ten seconds" in page.text("over")
    view._training.on_compilation(False)
    until(lambda: page.phase() == "waiting")
    assert view.wait_until_watched(30)
    steps = Steps(view)
    steps.start()
    until(lambda: page.phase() == "training")
    page.click("save")
    assert "view.attach(model)" in page.text("notice")
    steps.stop()
    until(lambda: page.phase() == "quiet")
    view.attach(lambda observation: [0.0], only_plays=True)
    steps = Steps(view)
    steps.start()
    until(lambda: page.phase() == "playing")
    page.press(" ")
    until(lambda: page.phase() == "paused")
    page.press(" ")
    until(lambda: page.phase() == "playing")
    steps.stop()
    view.leave_page("ValueError: lost", failed=True)
    until(lambda: page.phase() == "failed")
    assert page.text("over") == "ValueError: lost"
    until(lambda: page.find("#connection").text == "Over")
    live.close()


def test_ticks_are_what_they_stand_for(shown: Shown) -> None:
    ticks = {
        1000: "1k", 2500: "2.5k", 12500: "12.5k", 2e6: "2M", 1.25e6: "1.25M",
        -500: "\u2212500", -1750: "\u22121.75k", 0: "0", 0.25: "0.25", 999: "999",
    }  # fmt: skip
    for value, text in ticks.items():
        assert shown.browser.execute_script("return compact(arguments[0])", value) == text


def test_impossible_actions_are_struck_out(browser: Any) -> None:
    view = LiveView(Masked(), model=lambda observation: [1.0, 2.0, 3.0], port=0)
    with Steps(view):
        page = Shown(browser, view.url)
        until(lambda: page.phase() == "training")  # before, the page knows no keys
        page.press(" ")
        until(lambda: page.phase() == "paused")
        length = view.unwrapped.steps
        until(lambda: page.text("length") == str(length))
        rows = browser.find_elements("css selector", "[data-is='values'] li")
        impossible = ["impossible" in row.get_attribute("class") for row in rows]
        assert impossible == [index == length % 3 for index in range(3)]
        assert rows[length % 3].text.endswith("impossible")
        page.press(" ")


def test_curves_are_beside_two_panels_and_a_tap_away_on_a_phone(browser: Any) -> None:
    live = LivePage(port=0, quiet=True)
    model = lambda observation: [0.0, 1.0, 2.0, 3.0]  # noqa: E731
    views = [LiveView(Wide(), model, name=name, page=live) for name in ("left", "right")]
    with Steps(views[0]), Steps(views[1]):
        page = Shown(browser, live.url)
        for chart in ("returns", "spread"):
            until(lambda c=chart: browser.find_elements("css selector", f"#{c} canvas"))

        def bottoms() -> list[float]:
            bottoms: list[float] = browser.execute_script(
                "return [...document.querySelectorAll('.plot')]"
                ".map(plot => plot.getBoundingClientRect().bottom)"
            )
            return bottoms

        until(lambda: max(bottoms()) <= 800)
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
        )
        until(lambda: browser.execute_script("return innerWidth") == 390)
        assert max(bottoms()) > 844
        page.find(".jump").click()
        until(lambda: 0 < bottoms()[0] < 844)
    live.close()


class Wide(Counting):
    """Pictures of LunarLander's size, and as many actions."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Discrete(4)

    def render(self) -> Any:
        return np.full((400, 600, 3), 90, np.uint8)


def test_the_curve_stays_when_training_ends(browser: Any) -> None:
    env = LiveView(Counting(5), port=0)
    page = None
    with Steps(env):
        page = Shown(browser, env.url)
        until(lambda: browser.execute_script("return runs[0]?.points.length > 3"))
    until(lambda: page.text("status") == "Ended")
    assert page.text("over") == "Training is over."
    count = browser.execute_script("return runs[0].points.length")
    browser.refresh()
    until(lambda: browser.execute_script("return runs[0]?.points.length") == count)
    assert page.button("pause").get_attribute("aria-disabled") == "true"


def test_a_tab_behind_others_asks_for_no_pictures(browser: Any) -> None:
    env = LiveView(Counting(), port=0)
    with Steps(env) as steps:
        page = Shown(browser, env.url)
        until(lambda: page.pictures() > 0)
        browser.execute_script("send(null, 'pictures', false)")

        def stands_still() -> bool:
            before, n = env.unwrapped.renders, steps.count
            until(lambda: steps.count > n + 100)
            return bool(env.unwrapped.renders == before)

        until(stands_still, "an end of the pictures")
        renders = env.unwrapped.renders
        assert env.is_watched
        browser.execute_script("send(null, 'pictures', true)")
        until(lambda: env.unwrapped.renders > renders + 3)


def test_a_notebook_of_this_machine_may_show_it_and_other_sites_may_not(
    browser: Any, tmp_path: Path
) -> None:
    """Or else another site could have clicks on its own buttons land on the page's."""
    env = LiveView(Counting(), port=0)
    (tmp_path / "index.html").write_text(f"<title>notebook</title>{env._repr_html_()}")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as notebook, Steps(env):
        Thread(target=notebook.serve_forever, daemon=True).start()

        def is_shown() -> bool:
            browser.switch_to.frame(browser.find_element("css selector", "iframe"))
            try:
                return bool(browser.execute_script("return typeof runs === 'object'"))
            finally:
                browser.switch_to.default_content()

        browser.get(f"http://localhost:{notebook.server_port}/")
        until(is_shown)
        browser.get(f"data:text/html,<title>elsewhere</title>{quote(env._repr_html_())}")
        until(lambda: browser.title == "elsewhere")
        time.sleep(0.3)
        assert not is_shown()
        browser.get_log("browser")  # it says so
        notebook.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def send_error(self, *arguments: Any, **kwargs: Any) -> None:
        self.send_response(204)  # an icon, which nobody has
        self.end_headers()


def test_nothing_comes_from_elsewhere(shown: Shown) -> None:
    names = shown.browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert names
    assert all(name.startswith(("http://127.0.0.1:", "data:")) for name in names)


def test_the_page_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES.iterdir()) <= 200_000
