"""
Make the pictures of the live page, ``images/live.gif`` and ``images/live.png``.

    python docs/make_live_images.py

runs ``examples/live.py`` and photographs its page: the first episodes in real time, training at
full speed, and one landing of the greedy agent in real time. It needs Chromium with chromedriver,
and a minute.
"""

import argparse
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

IMAGES = Path(__file__).parent / "images"
EXAMPLE = Path(__file__).parents[1] / "examples" / "live.py"
WIDTH, HEIGHT = 1280, 800
GIF_WIDTH = 760
N_COLORS = 48
SECONDS_AT_FIRST = 5.0
FRAMES_OF_TRAINING = 30
MILLISECONDS_OF_TRAINING, MILLISECONDS_AT_LAST = 130, 2_000


class Photographer:
    """Photographs the page; each frame is shown for as long as it took until the next."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.frames: list[Image.Image] = []
        self.durations: list[int] = []

    def ask(self, script: str) -> Any:
        """Evaluate JavaScript on the page."""
        return self.browser.execute_script(f"return {script}")

    def take(self, milliseconds: int | None = None) -> None:
        """Take a frame."""
        began = time.monotonic()
        image = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        self.frames.append(image)
        self.durations.append(milliseconds or round(1_000 * (time.monotonic() - began)))

    def take_for(self, seconds: float) -> None:
        """Take as many frames as the time allows."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.take()

    def take_while(self, condition: str) -> None:
        """Take frames from when a condition holds until it does not."""
        while not self.ask(condition):
            time.sleep(0.02)
        while self.ask(condition):
            self.take()
        del self.frames[-1], self.durations[-1]  # it may be of what came after


def photograph(browser: Any, url: str, steps: int) -> Photographer:
    """Photograph a training from its first step on."""
    browser.get(url)
    photographer = Photographer(browser)
    while not photographer.ask("runs[0]?.state?.steps > 0"):
        time.sleep(0.05)
    photographer.ask("send(0, 'speed', 1)")
    photographer.take_for(SECONDS_AT_FIRST)
    photographer.ask("send(0, 'speed', 0)")
    for number in range(1, FRAMES_OF_TRAINING + 1):
        while photographer.ask("runs[0].state.steps") < steps * number / FRAMES_OF_TRAINING:
            time.sleep(0.02)
        photographer.take(MILLISECONDS_OF_TRAINING)
    photographer.ask("send(0, 'look', null)")
    photographer.take_while("runs[0].controls.look")
    photographer.durations[-1] = MILLISECONDS_AT_LAST
    return photographer


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    options = Options()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    # None: Selenium looks for a driver by itself.
    service = Service(shutil.which("chromedriver"))
    command = [sys.executable, EXAMPLE, "--port", "0", "--seed", str(arguments.seed)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training,
        webdriver.Chrome(options, service) as browser,
    ):
        assert training.stdout is not None
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            url = training.stdout.readline().split()[-1]
            taken = photograph(browser, url, arguments.steps)
        finally:
            training.kill()
    taken.frames[-1].quantize(256).save(arguments.out / "live.png", optimize=True)
    small = (GIF_WIDTH, round(GIF_WIDTH * HEIGHT / WIDTH))
    # One palette for all, so that what does not change takes no space.
    palette = taken.frames[-1].resize(small).quantize(N_COLORS)
    frames = [frame.resize(small).quantize(palette=palette, dither=0) for frame in taken.frames]
    frames[0].save(
        arguments.out / "live.gif",
        save_all=True,
        append_images=frames[1:],
        duration=taken.durations,
        loop=0,
        optimize=True,
    )


if __name__ == "__main__":
    main()
