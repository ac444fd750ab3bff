"""What is in the log files: whether each record is there once, whole, and in its sender's order."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

RECORD = re.compile(
    r"[-0-9]{10} [0-9:.]{12} INFO shop: (\w+) (\d+) of x* #(\d+-[0-9a-f]{8}):(\d+)\n"
)
DROPPED = re.compile(
    r"[-0-9]{10} [0-9:.]{12} WARNING linod\.loghandler: (\d+) records? dropped since [-0-9: ]{19}:"
    r" no room, no log server #(\d+-[0-9a-f]{8}):(\d+)\n"
)
# Lines of others: probes, linod itself, and what a fuzzed frame that is right by chance says.
OTHER = re.compile(
    r"#linod checkpoint \{.*\}\n"
    r"|[-0-9]{10} [0-9:.]{12} (?!.* shop: ).* #\d+-[0-9a-f]{8}:\d+\n"
)


@dataclass
class Findings:
    """What the files say. ``doubled``, ``torn`` and ``reordered`` are examples."""

    records: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    dropped: Counter[str] = field(default_factory=Counter)
    senders: dict[str, str] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    doubled: int = 0
    reordered: int = 0

    def dropped_by(self, name: str) -> int:
        return sum(n for tag, n in self.dropped.items() if self.senders.get(tag) == name)

    def lost(self, name: str, count: int) -> int:
        """How many of the records 1 to ``count`` are nowhere and in no count of dropped ones."""
        return count - len(set(self.records[name])) - self.dropped_by(name)


def read(paths: Iterable[Path]) -> Findings:
    """Read files in the order in which they were written."""
    found = Findings()
    for path in paths:
        if not path.exists():
            continue  # renamed a moment ago, and nothing came since
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                if record := RECORD.fullmatch(line):
                    found.records[record[1]].append(int(record[2]))
                    found.senders[record[3]] = record[1]
                elif dropped := DROPPED.fullmatch(line):
                    found.dropped[dropped[2]] += int(dropped[1])
                elif not OTHER.fullmatch(line):
                    found.torn.append(line[:200])
    for numbers in found.records.values():
        found.doubled += len(numbers) - len(set(numbers))
        found.reordered += sum(later < earlier for earlier, later in itertools.pairwise(numbers))
    return found
