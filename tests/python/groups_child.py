"""Groups of the same processes, one after the other: ``python -m tests.python.groups_child``.

Each adds up numbers; the first process prints the sums.
"""

from __future__ import annotations

import numpy as np

from discffusion._processes import joined

GROUPS = 8


def main() -> None:
    for number in range(GROUPS):
        with joined("cpu", True) as group:
            total = group.sum(np.array([number + group.rank]))
            if group.rank == 0:
                print(total[0])


if __name__ == "__main__":
    main()
