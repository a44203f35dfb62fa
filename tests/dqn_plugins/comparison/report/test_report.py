"""The report of studies that were made up: every figure known, every trouble planted."""

import csv
import html.parser
import re
import shutil

import pytest

from dqn_plugins.comparison.report.charts import final_returns_svg
from dqn_plugins.comparison.report.page import write_report
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.statistics import iqm_estimate
from dqn_plugins.comparison.summary import TIMING_COLUMNS, number, summarise
from tests.dqn_plugins.comparison.synthetic_study import fail_cell, finish_cell, write_study

ENVIRONMENT = "CartPole-v1"
FINALS = {"stream_q": [100, 110, 120, 130, 200], "dqn": [50, 60, 70, 80, 90]}


def finish_all(folder, finals, environment=ENVIRONMENT, **details):
    for algorithm, returns in finals.items():
        for seed, final in enumerate(returns):
            finish_cell(folder, environment, algorithm, seed, final, **details)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A reported study: one algorithm whole, one with troubles, one that never began."""
    folder = write_study(tmp_path_factory.mktemp("troubled"), algorithms=[*FINALS, "ppo"])
    finish_all(folder, {"stream_q": FINALS["stream_q"], "dqn": FINALS["dqn"][:3]})
    fail_cell(folder, ENVIRONMENT, "dqn", 3, "ValueError: <b>&co</b>")
    write_report(folder, videos=False)
    return folder


def rows_of(folder):
    with (folder / "summary.csv").open(newline="") as file:
        return {row["algorithm"]: row for row in csv.DictReader(file)}


class Page(html.parser.HTMLParser):
    """Collects what a page refers to, and whether its elements close in order."""

    VOID = frozenset({"wbr", "meta", "link", "path", "use", "rect", "br", "img"})

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids, self.texts, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [
            values[key] for key in ("href", "src", "xlink:href", "poster") if key in values
        ]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def test_the_csv_has_the_figures_worked_out_by_hand(troubled):
    rows = rows_of(troubled)
    whole = rows["stream_q"]
    assert (whole["seeds"], whole["finished"], whole["failed"]) == ("5", "5", "0")
    assert float(whole["final_return_iqm"]) == pytest.approx(120)
    assert float(whole["final_return_mean"]) == pytest.approx(132)
    assert float(whole["final_return_max"]) == 200
    assert whole["probability_of_improvement"] == ""
    partial = rows["dqn"]
    assert [partial[key] for key in ("seeds", "finished", "failed", "missing")] == list("5311")
    assert float(partial["final_return_iqm"]) == pytest.approx(60)
    assert float(partial["probability_of_improvement"]) == 0
    assert float(partial["median_steps_per_cpu_second"]) == pytest.approx(10_000)
    never = rows["ppo"]
    assert (never["finished"], never["missing"], never["final_return_iqm"]) == ("0", "5", "")


def test_the_page_needs_nothing_else(troubled):
    text = (troubled / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"|http-equiv', "", text)
    assert "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address[0] == "#"} <= set(page.ids)
    assert not re.search(r"#fe0[01]", text)  # every stand-in colour became a variable
    assert "prefers-color-scheme: dark" in text
    assert "<b>" not in text  # what others wrote
    assert "runs/&lt;b&gt;a &amp; b&lt;/b&gt;" in text


def test_the_page_announces_what_is_missing(troubled):
    page = Page((troubled / "report.html").read_text()).text
    top, _, rest = page.partition("Return after training")
    assert "7 of 15 runs enter no figure" in top
    assert "1 failed:" in top
    assert "dqn · CartPole-v1 · seed 3" in top
    assert "ValueError: <b>&co</b>" in top
    assert "6 not begun:" in top
    assert "3 of 5" in rest
    assert "no finished run" in rest
    assert "Traceback (most recent call last)" in rest


def test_the_terminal_says_the_same(troubled, capsys):
    write_report(troubled, videos=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 of 5" in printed
    estimate = iqm_estimate(FINALS["stream_q"])
    assert f"120 [{number(estimate.low)}, {number(estimate.high)}]" in printed
    assert "1 failed: dqn · CartPole-v1 · seed 3 (ValueError: <b>&co</b>)" in printed
    assert "6 not begun: dqn · CartPole-v1 · seed 4, ppo · CartPole-v1 · seed 0, " in printed
    assert "at 120, but the seeds do not tell it apart from dqn. It would take about" in printed
    assert "seeds each to tell it from dqn. ppo has no finished run." in printed


def test_a_second_report_replaces_the_first_and_leaves_nothing_else(troubled):
    names = {"summary.csv", "curves.png", "curves.svg", "curves.pdf", "report.html"}
    before = {name: (troubled / name).read_bytes() for name in names}
    present = {path.name for path in troubled.iterdir()}
    write_report(troubled, videos=False)
    assert {path.name for path in troubled.iterdir()} == present
    for name in names - {"report.html"}:
        assert (troubled / name).read_bytes() == before[name]
    assert before["curves.png"].startswith(b"\x89PNG")
    assert before["curves.pdf"].startswith(b"%PDF")


def test_running_again_changes_timings_and_nothing_else(tmp_path):
    tables = []
    for name, cost in (("first", 1e-4), ("again", 3e-4)):
        folder = write_study(tmp_path / name, algorithms=list(FINALS))
        finish_all(folder, FINALS, cpu_seconds_per_step=cost)
        tables.append(summarise(read_study(folder)).table())
    first, again = (table.drop(columns=list(TIMING_COLUMNS)).to_csv() for table in tables)
    assert first == again
    assert not tables[0].equals(tables[1])


def test_a_failed_write_leaves_the_old_report(troubled, tmp_path, monkeypatch):
    folder = shutil.copytree(troubled, tmp_path / "copy")
    page = (folder / "report.html").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(folder, videos=False)
    assert (folder / "report.html").read_bytes() == page
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_one_seed_makes_no_claim(tmp_path, capsys):
    write_study(tmp_path, algorithms=list(FINALS), seeds=1)
    finish_all(tmp_path, {name: returns[:1] for name, returns in FINALS.items()})
    write_report(tmp_path, videos=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "with one seed of every algorithm that may be luck: no interval exists" in printed
    assert "100 (one seed)" in printed
    page = Page((tmp_path / "report.html").read_text()).text
    assert "one seed: no interval" in page
    assert rows_of(tmp_path)["dqn"]["final_return_iqm_low"] == ""


def test_nothing_finished_is_a_report_too(tmp_path):
    write_study(tmp_path, algorithms=["stream_q"], seeds=2)
    page = Page(write_report(tmp_path, videos=False).read_text()).text
    assert "no run is finished, so" in page
    assert "2 not begun:" in page
    assert "there are no curves" in page
    assert "Relative to" not in page  # there is nothing else


def test_an_algorithm_without_a_finished_run_takes_no_caution_away(tmp_path):
    write_study(tmp_path, algorithms=["dqn", "ppo"], seeds=2)
    finish_all(tmp_path, {"dqn": [1]})
    assert "one seed only" in summarise(read_study(tmp_path)).cautions[0]
    finish_cell(tmp_path, ENVIRONMENT, "dqn", 1, 2.0)
    assert "only 2 seeds are finished" in summarise(read_study(tmp_path)).cautions[0]


def test_settings_that_seeds_share_are_on_the_page_once(tmp_path):
    write_study(tmp_path, algorithms=["dqn"], seeds=3)
    finish_all(tmp_path, {"dqn": [1, 2, 3]})
    assert write_report(tmp_path, videos=False).read_text().count("net_arch") == 1


def test_names_that_begin_or_end_alike_differ_in_the_charts(tmp_path):
    names = [f"stream_q_trace_decay_{rest}" for rest in ("0.8", "0.9")] + ["naive_dqn_target_0.9"]
    write_study(tmp_path, algorithms=names, seeds=2)
    finish_all(tmp_path, {name: [1, 2] for name in names})
    svg = final_returns_svg(summarise(read_study(tmp_path)), ENVIRONMENT)
    for shown in ("stream_q_…ecay_0.8", "stream_q_…ecay_0.9", "naive_dqn…rget_0.9"):
        assert shown in svg


def test_all_environments_together_need_every_environment(tmp_path):
    write_study(tmp_path, ["CartPole-v1", "Acrobot-v1"], ["stream_q", "dqn", "ppo"], seeds=2)
    for environment in ("CartPole-v1", "Acrobot-v1"):
        finish_all(tmp_path, {"stream_q": [1, 2], "dqn": [3, 4]}, environment)
    finish_all(tmp_path, {"ppo": [0, 5]})
    summary = summarise(read_study(tmp_path))
    assert summary.overall[1].improvement == (1.0, 1.0, 1.0)
    assert summary.overall[2].improvement is None
    page = Page(write_report(tmp_path, videos=False).read_text()).text
    assert "All environments, each weighing the same" in page


@pytest.mark.parametrize(
    ("finals", "expected"),
    [
        (
            {"a": [9, 10, 11, 10, 10], "b": [1, 2, 3, 2, 1]},
            "a ended highest on CartPole-v1, at 10.0, clearly ahead of b.",
        ),
        (
            {"a": [1, 9, 5, 4, 6], "b": [2, 8, 5, 5, 6], "c": [0, 0, 0, 0, 0]},
            "b ended highest on CartPole-v1, at 5.33, but the seeds do not tell it apart from a; "
            "it is clearly ahead of c. If the differences are what they seem, 100 seeds would not "
            "do.",
        ),
        (
            {"a": [500] * 5, "b": [500] * 5},
            "a and b ended equal on CartPole-v1, at 500.",
        ),
        (
            {"a": [500] * 5, "b": [500] * 5, "c": [1, 2, 3, 2, 1], "d": [490, 480, 500, 500, 430]},
            "a and b ended equal on CartPole-v1, at 500, but the seeds do not tell them apart from "
            "d; they are clearly ahead of c. It would take about 30 seeds each to tell them from "
            "d.",
        ),
        (
            {"a": [500] * 5, "b": [500] * 5, "c": [500] * 5, "d": [1, 2, 3, 2, 1]},
            "a, b and c ended equal on CartPole-v1, all at 500, clearly ahead of d.",
        ),
        (
            {"a": [9, 10, 11], "b": [1, 2, 3]},  # three seeds are too few, whatever they are
            "a ended highest on CartPole-v1, at 10.0, but the seeds do not tell it apart from b. "
            "It would take about 4 seeds each to tell it from b.",
        ),
        ({"a": [3, 4]}, "On CartPole-v1, a ended at 3.50, with 2 seeds and nothing to compare "
         "it with."),
        (
            {"a": [3, 4, 5, 4, 4], "b": []},
            "a ended highest on CartPole-v1, at 4.00, but no other algorithm has a finished run.",
        ),
        (
            {"a": [9, 10, 11, 10], "b": [1, 2, 3, 2, 1]},
            "a ended highest on CartPole-v1, at 10.0 (4 of 5 seeds), clearly ahead of b.",
        ),
        (
            {"a": [9, 10, 11], "b": [1], "c": []},
            "a ended highest on CartPole-v1, at 10.0, but with one seed of b that may be luck: no "
            "interval exists. c has no finished run.",
        ),
    ],
)  # fmt: skip
def test_the_headline_claims_what_the_seeds_allow(tmp_path, finals, expected):
    seeds = max(map(len, finals.values()))
    write_study(tmp_path, algorithms=list(finals), seeds=seeds)
    finish_all(tmp_path, finals)
    assert summarise(read_study(tmp_path)).headline(ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0"), (12345.6, "12,346"), (-151.9, "−152"), (9.5, "9.50"),
        (0.9999, "1.00"), (-0.25, "−0.250"), (0.0411, "0.0411"), (0.00361, "0.00361"),
        (-2.5e-7, "−2.50e−07"), (-1e-17, "0"),
    ],
)  # fmt: skip
def test_figures_have_about_three_digits(value, text):
    assert number(value) == text
