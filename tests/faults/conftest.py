"""The jobs that are disturbed, and the table of what came of it."""

from collections import Counter, defaultdict
from functools import cache

import pytest
from doubles.disturbed import COLUMNS, disturbed
from doubles.zygote import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """A process that forks for each run."""
    found = Zygote(tmp_path_factory.mktemp("zygote"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def jobs(zygote, tmp_path_factory):
    """Make a job of a kind and a size, once."""

    @cache
    def make(kind, rows, columns):
        return disturbed(zygote, kind, tmp_path_factory.mktemp("job"), rows, columns)

    return make


@pytest.fixture
def job_of(jobs, record_property):
    """Hand out a job of a kind; what is counted of it goes into the table under the name given."""
    used = []

    def make(name, kind, rows, columns=64):
        job = jobs(kind, rows, columns)
        job.counts.clear()
        job.bad.clear()
        job.clean()
        used.append((f"{name}, {kind}", job))
        return job

    yield make
    for name, job in used:
        record_property("disturbed", (name, dict(job.counts)))


def pytest_terminal_summary(terminalreporter):
    """Print what came of all cases, by what was done to which kind of job."""
    table = defaultdict(Counter)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                for key, value in report.user_properties:
                    if key == "disturbed":
                        table[value[0]] += Counter(value[1])
    if table:
        width = max(map(len, table)) + 1
        terminalreporter.section("disturbed runs")
        terminalreporter.line(" ".join([" " * width, *(f"{name:>10}" for name in COLUMNS)]))
        for name, counts in sorted(table.items()):
            figures = [f"{counts[column]:>10,}" for column in COLUMNS]
            terminalreporter.line(" ".join([f"{name:{width}}", *figures]))
