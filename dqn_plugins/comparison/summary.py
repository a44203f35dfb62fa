"""The figures of a comparison, and what they allow to say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from dqn_plugins.comparison.results import Cell, CellStatus, StudyResults
from dqn_plugins.comparison.statistics import (
    MOST_SEEDS,
    SEEDS_FOR_A_CLAIM,
    Estimate,
    clearly_below,
    iqm_estimate,
    probability_of_improvement,
    seeds_to_tell,
)
from dqn_plugins.wrappers.drawing.lettering import MINUS, signed

__all__ = ["TIMING_COLUMNS", "AlgorithmSummary", "Summary", "summarise"]

TIMINGS = (
    "training_cpu_seconds",
    "training_wall_seconds",
    "evaluation_cpu_seconds",
    "steps_per_cpu_second",
    "memory_growth_mib",
    "peak_memory_mib",
)
#: Columns of ``summary.csv`` that differ when the same study is run again.
TIMING_COLUMNS = tuple(f"median_{name}" for name in TIMINGS)

NOT_FINISHED: tuple[CellStatus, ...] = ("failed", "unfinished", "missing", "damaged")
FEW_SEEDS = 5
RANDOM = "random"


@dataclass(frozen=True)
class AlgorithmSummary:
    """
    One algorithm on one environment.

    :param environment: Its id.
    :param algorithm: Name of the variant.
    :param cells: All seeds, whatever became of them.
    :param final: Interquartile mean over the finished seeds of their final return; None if no
        seed is finished.
    :param improvement: Probability that a run of it ends above a run of the reference; None for
        the reference itself, and where either has no finished seed.
    :param source: Where its settings are from: "defaults", "RL Zoo: dqn.yml" or "own"; empty where
        an earlier version did not note it.
    """

    environment: str
    algorithm: str
    cells: tuple[Cell, ...]
    final: Estimate | None
    improvement: Estimate | None
    source: str = ""

    @property
    def finished(self) -> list[Cell]:
        """The seeds that the figures are made of."""
        return [cell for cell in self.cells if cell.status == "finished"]

    @property
    def returns(self) -> list[float]:
        """The final return of each finished seed."""
        return [cell.final_return for cell in self.finished]

    @property
    def spread(self) -> dict[str, float | None]:
        """Mean, std, min, median and max over finished seeds of the final return."""
        known = pd.Series(self.returns, dtype=float).agg(["mean", "std", "min", "median", "max"])
        return {str(name): None if np.isnan(each) else each for name, each in known.items()}

    @property
    def seeds_label(self) -> str:
        """How many seeds there are, said so that none goes missing."""
        n_finished, n_seeds = len(self.finished), len(self.cells)
        if n_finished == n_seeds:
            return f"{n_seeds} seed{'s' if n_seeds > 1 else ''}"
        return f"{n_finished} of {n_seeds} seeds"

    def timing(self, name: str) -> float | None:
        """Return the median over finished seeds of an entry of ``timings.json``."""
        values = [cell.timings[name] for cell in self.finished if name in cell.timings]
        return float(np.median(values)) if values else None


class Overall(NamedTuple):
    """
    An algorithm on all environments together: per environment, each seed's final return normalised
    so that random actions score 0 and the reference 1, and their interquartile mean, None where
    that cannot be done; and what an :class:`AlgorithmSummary` has as its improvement, averaged.
    """

    algorithm: str
    scores: list[list[float]] | None
    iqm: Estimate | None
    improvement: Estimate | None


@dataclass(frozen=True)
class Summary:
    """
    All figures of a study: a row per environment and algorithm, and what they come to overall, in
    the study's order; and why there are no normalised scores, empty if there are.
    """

    study: StudyResults
    rows: tuple[AlgorithmSummary, ...]
    overall: tuple[Overall, ...]
    unnormalised: str

    def of(self, environment: str) -> list[AlgorithmSummary]:
        """The rows of one environment, one per algorithm."""
        return [row for row in self.rows if row.environment == environment]

    def ranked(self, environment: str) -> list[AlgorithmSummary]:
        """The rows of one environment, the highest final return first, what has none last."""
        return sorted(
            self.of(environment),
            key=lambda row: -np.inf if row.final is None else row.final.value,
            reverse=True,
        )

    def headline(self, environment: str) -> str:
        """Say in a sentence or two which algorithm did best, as far as the seeds allow."""
        ranked = [row for row in self.ranked(environment) if row.final is not None]
        if not ranked:
            return f"On {environment} no run is finished, so there is nothing to compare."
        best, *others = ranked
        assert best.final is not None
        value = number(best.final.value)
        if len(self.study.algorithms) == 1:
            return (
                f"On {environment}, {best.algorithm} ended at {value}, with {best.seeds_label} and "
                "nothing to compare it with."
            )
        tops = [row for row in ranked if row.final and number(row.final.value) == value]
        who = f"{_names(tops)} ended"
        if len(tops) > 1:
            result = f"{who} equal on {environment}, {'all ' if len(tops) > 2 else ''}at {value}"
        else:
            result = f"{who} highest on {environment}, at {value}"
            if len(best.finished) < len(best.cells):
                result += f" ({best.seeds_label})"
        if not others:
            return f"{result}, but no other algorithm has a finished run."
        sentence = f"{result}{_verdict(tops, ranked[len(tops) :], len(self.study.environments))}."
        silent = [row for row in self.of(environment) if row.final is None]
        if silent:
            has = "has" if len(silent) == 1 else "have"
            sentence += f" {_names(silent)} {has} no finished run."
        return sentence

    @property
    def cautions(self) -> list[str]:
        """What a reader must know before believing the figures, most important first."""
        cautions = []
        fewest = min((len(row.finished) for row in self.rows if row.finished), default=0)
        if 1 < fewest < FEW_SEEDS:
            rough = (
                f"Where only {fewest} seeds are finished, an interval is rough and too narrow: on "
                "normally distributed returns a nominal 95 % bootstrap interval covers the truth "
                "in about 76 % of studies with 3 seeds, 90 % with 5, 93 % with 10."
            )
            few = f" Nothing is called clearly ahead with fewer than {SEEDS_FOR_A_CLAIM}."
            cautions.append(rough + few * (fewest < SEEDS_FOR_A_CLAIM))
        elif fewest == 1:
            cautions.append(
                "Where there is one seed only, no interval can be given, and a difference may be "
                "luck. Run more with --seeds 5."
            )
        for environment in self.study.environments:
            cells = [each for each in self.study.cells if each.environment == environment]
            for name in ("timesteps", "cpu_seconds"):
                budgets = {cell.settings.get(name) for cell in cells if cell.settings}
                if len(budgets) > 1:
                    values = listed([f"{each:,}" for each in sorted(filter(None, budgets))])
                    cautions.append(f"Not all runs on {environment} had the same {name}: {values}.")
        final = [(cell.name, cell.final_episodes) for cell in self.study.cells]
        cut = [name for name, episodes in final if episodes is not None and episodes["cut"].any()]
        if cut:
            cautions.append(
                f"Some final episodes did not end and were cut, see --max-episode-steps: "
                f"{shortly(cut)}."
            )
        made = {tuple(sorted(cell.versions.items())) for cell in self.study.cells if cell.versions}
        if len(made) > 1:
            cautions.append(
                "Not all cells ran with the same package versions or on the same machine: see "
                "Versions."
            )
        if self.study.strangers:
            names = ["/".join(path.parts[-3:]) for path in self.study.strangers]
            cautions.append(f"Left out, because this study does not ask for it: {shortly(names)}.")
        return cautions

    def table(self) -> pd.DataFrame:
        """
        The content of ``summary.csv``: one row per environment and algorithm. Columns that differ
        between repetitions of a study stand last, see :data:`TIMING_COLUMNS`.
        """
        overall = {each.algorithm: each for each in self.overall}
        rows = [
            {
                "environment": row.environment,
                "algorithm": row.algorithm,
                "settings": row.source,
                "seeds": len(row.cells),
                "finished": len(row.finished),
                **{name: sum(cell.status == name for cell in row.cells) for name in NOT_FINISHED},
                **_columns("final_return_iqm", row.final),
                **{f"final_return_{name}": value for name, value in row.spread.items()},
                **_columns("probability_of_improvement", row.improvement),
                **_columns(
                    "overall_probability_of_improvement", overall[row.algorithm].improvement
                ),
                **_columns("overall_normalised_iqm", overall[row.algorithm].iqm),
                "median_training_steps": row.timing("training_steps"),
                **{f"median_{name}": row.timing(name) for name in TIMINGS},
            }
            for row in self.rows
        ]
        return pd.DataFrame(rows)


def summarise(study: StudyResults) -> Summary:
    """Work out all figures of a study: the same digits for the same cells."""
    reference = study.reference
    returns = {
        algorithm: [
            [cell.final_return for cell in study.finished(environment, algorithm)]
            for environment in study.environments
        ]
        for algorithm in study.algorithms
    }
    theirs = returns[reference]

    def improvement(algorithm: str, places: slice) -> Estimate | None:
        scores, others = returns[algorithm][places], theirs[places]
        is_compared = algorithm != reference and all(scores) and all(others)
        return probability_of_improvement(scores, others) if is_compared else None

    rows = [
        AlgorithmSummary(
            environment,
            algorithm,
            tuple(
                cell
                for cell in study.cells
                if (cell.environment, cell.algorithm) == (environment, algorithm)
            ),
            iqm_estimate(mine[index]) if mine[index] else None,
            improvement(algorithm, slice(index, index + 1)),
            study.source_of(algorithm),
        )
        for index, environment in enumerate(study.environments)
        for algorithm, mine in returns.items()
    ]
    unnormalised = _why_unnormalised(study, returns)
    overall = []
    for algorithm, mine in returns.items():
        scores = None
        if not unnormalised and all(mine):
            scores = [
                list((np.asarray(each) - np.mean(low)) / (np.mean(high) - np.mean(low)))
                for each, low, high in zip(mine, returns[RANDOM], theirs, strict=True)
            ]
        iqm = iqm_estimate(*scores) if scores else None
        overall.append(Overall(algorithm, scores, iqm, improvement(algorithm, slice(None))))
    return Summary(study, tuple(rows), tuple(overall), unnormalised)


def _why_unnormalised(study: StudyResults, returns: Mapping[str, list[list[float]]]) -> str:
    reference = study.reference
    if RANDOM not in study.algorithms or reference == RANDOM:
        return "They need random actions and a reference to be measured between: add --algo random."
    if not all(returns[RANDOM]) or not all(returns[reference]):
        return f"{RANDOM} and {reference} are not finished on every environment."
    for environment, low, high in zip(
        study.environments, returns[RANDOM], returns[reference], strict=True
    ):
        if np.mean(high) <= np.mean(low):
            return (
                f"The reference {reference} is no better than random actions on {environment}: "
                "pass another one as --reference."
            )
    return ""


def _verdict(tops: list[AlgorithmSummary], rest: list[AlgorithmSummary], n_claims: int) -> str:
    """Say how those that ended highest, and equal, stand to the rest."""
    if not rest:
        return ""
    everyone = [*tops, *rest]
    single = [row for row in everyone if len(row.finished) == 1]
    if single:
        who = "every algorithm" if len(single) == len(everyone) else _names(single)
        return f", but with one seed of {who} that may be luck: no interval exists"
    # Another that ended equal is one more that the best was picked from.
    clear = [
        clearly_below(top.returns, [row.returns for row in everyone if row is not top], n_claims)
        for top in tops
    ]
    ahead_of = [all(each) for each in zip(*(row[len(tops) - 1 :] for row in clear), strict=True)]
    ahead = [row for row, is_clear in zip(rest, ahead_of, strict=True) if is_clear]
    level = [row for row, is_clear in zip(rest, ahead_of, strict=True) if not is_clear]
    if not level:
        return f", clearly ahead of {_names(ahead)}"
    them, are = ("them", "they are") if len(tops) > 1 else ("it", "it is")
    verdict = f", but the seeds do not tell {them} apart from {_names(level)}"
    if ahead:
        verdict += f"; {are} clearly ahead of {_names(ahead)}"
    return f"{verdict}. {_what_would_tell(tops[0], level, them, len(everyone) - 1, n_claims)}"


def _what_would_tell(
    best: AlgorithmSummary, level: list[AlgorithmSummary], them: str, n_others: int, n_claims: int
) -> str:
    by_seeds: dict[int | None, list[AlgorithmSummary]] = {}
    for row in level:
        seeds = seeds_to_tell(best.returns, row.returns, n_others, n_claims)
        if seeds is not None:  # as many as there are did not do
            seeds = max(seeds, 1 + min(len(best.finished), len(row.finished)))
        by_seeds.setdefault(seeds, []).append(row)
    hopeless = by_seeds.pop(None, [])
    parts = [f"about {seeds} from {_names(rows)}" for seeds, rows in sorted(by_seeds.items())]
    if not parts:
        return f"If the differences are what they seem, {MOST_SEEDS} seeds would not do"
    would = f"It would take {listed(parts).replace(' from', f' seeds each to tell {them} from', 1)}"
    return f"{would}; for {_names(hopeless)} {MOST_SEEDS} would not do" if hopeless else would


def _names(rows: list[AlgorithmSummary]) -> str:
    return listed([row.algorithm for row in rows])


def _columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = (None, None, None) if estimate is None else estimate
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def number(value: float | None) -> str:
    """
    Write a figure with about three digits, however small, the way a reader compares them, with a
    true minus sign and thin separators of thousands; a dash for None.
    """
    if value is None:
        return "–"
    size = abs(value)
    if size < 1e-9:  # what rounding leaves of returns that cancel
        return "0"
    if size < 0.9995:
        return f"{value:#.3g}".replace("-", MINUS)
    return signed(value, 0 if size >= 99.95 else 1 if size >= 9.995 else 2, ",")


def share(value: float | None) -> str:
    """Write a probability or a normalised score with two decimals."""
    return "–" if value is None else signed(value, 2)


def interval(estimate: Estimate | None, written: Callable[[float | None], str] = number) -> str:
    """Write an interval, a dash where there is none; ``written`` says how to write a number."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{written(estimate.low)} to {written(estimate.high)}"


def listed(names: list[str]) -> str:
    """Join names into a phrase such as "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def shortly(names: list[str], most: int = 6) -> str:
    """Join names into a phrase, of which only the first few are named."""
    return listed([*names[:most], f"{len(names) - most} more"] if len(names) > most else names)
