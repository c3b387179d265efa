"""A process that has imported everything and forks for each run of flair-run.

A run takes a tenth of a second then, so that thousands can be disturbed; what happens to it, a kill
at any moment too, happens to a process of its own. Linux and macOS.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from doubles.faults import Fault, inject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

NOTE = "flair-run: note: "
WARNING = "flair-run: warning: "
PROGRESS = re.compile(r"flair-run: [0-9]+%, ")
CRASHED = 70
"""Exit code of a run that ended with a traceback."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run ended."""

    code: int
    """Of the process; minus the number of the signal that killed it."""
    said: str
    """All it printed."""
    calls: int
    """Calls that a fault could have met."""

    @property
    def lines(self) -> list[str]:
        """What it printed but for its notices, warnings and how far it was."""
        lines = self.said.splitlines()
        return [x for x in lines if not x.startswith((NOTE, WARNING)) and not PROGRESS.match(x)]

    @property
    def notices(self) -> list[str]:
        """What it told on the way."""
        lines = self.said.splitlines()
        told = [line for line in lines if line.startswith((NOTE, WARNING))]
        return [line.removeprefix(NOTE).removeprefix(WARNING) for line in told]

    @property
    def is_one_line(self) -> bool:
        """Whether it said what was wrong in a line of ours."""
        (line, *more) = self.lines or [""]
        return not more and line.startswith("flair-run: ") and "failed with" not in line


class Zygote:
    """The client: starts runs, one at a time, and says how they ended."""

    def __init__(
        self,
        folder: Path,
        engine: Sequence[str] = ("--engine", "ort", "--device", "cpu", "--threads", "2"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._said = folder / "said.txt"
        self._engine = engine
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, arguments: Sequence[object], fault: Fault | None = None) -> int:
        """Start a run; return its process id. With a fault the k-th of its calls fails."""
        given = [*map(str, arguments), *self._engine]
        order = {"arguments": given, "said": str(self._said), "fault": fault and fault._asdict()}
        self._stream("stdin").write(json.dumps(order) + "\n")
        self._stream("stdin").flush()
        return int(self._stream("stdout").readline())

    def wait(self) -> Ended:
        """Return how the run that was started ended."""
        code, calls = map(int, self._stream("stdout").readline().split())
        return Ended(code=code, said=self._said.read_text(errors="replace"), calls=calls)

    def run(self, arguments: Sequence[object], fault: Fault | None = None) -> Ended:
        """Run to the end."""
        self.start(arguments, fault)
        return self.wait()

    def close(self) -> None:
        """End the process."""
        self._stream("stdin").close()
        self._process.wait(timeout=60)
        self._stream("stdout").close()

    def _stream(self, name: str) -> IO[str]:
        stream: IO[str] = getattr(self._process, name)
        return stream


def _serve() -> None:
    import onnxruntime  # noqa: F401

    import flair_engine.cli
    import flair_engine.run  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            _become(order, theirs)
        os.close(theirs)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        with os.fdopen(ours) as told:
            calls = told.read() or "0"
        print(os.waitstatus_to_exitcode(status), calls, flush=True)


def _become(order: dict[str, Any], told: int) -> None:
    """Be the run that is ordered; tell how many calls a fault could have met."""
    from flair_engine.__main__ import main

    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["flair-run", *order["arguments"]]
    code, counted = 0, lambda: 0
    try:
        if order["fault"]:
            counted = inject(Fault(**order["fault"]))
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = CRASHED
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(told, str(counted()).encode())
    os._exit(code)


if __name__ == "__main__":
    _serve()
