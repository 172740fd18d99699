"""Claims over rows whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.python.reproduce.made_up import ALL, record, row

from discffusion.reproduce.claims import Claim, Close, answer, pooled, same_seeds
from discffusion.reproduce.result import FAILS, HOLDS, IN_PART, NOT_MEASURED, UNDECIDED, Row

COLUMNS = {"All": ALL}
GOOD = [True] * 90 + [False] * 10
FAIR = [True] * 60 + [False] * 40
ALIKE = [True] * 88 + [False] * 12


def only(claim: Claim | Close, rows: list[Row]) -> tuple[str, str]:
    (verdict,) = claim(rows, COLUMNS)
    return verdict.answer, verdict.detail


def test_a_clear_difference_decides() -> None:
    rows = [row("a", GOOD), row("b", FAIR)]
    assert only(Claim("a beats b", ("a",), ("b",)), rows)[0] == HOLDS
    told, detail = only(Claim("b beats a", ("b",), ("a",)), rows)
    assert told == FAILS
    assert detail.startswith("b − a, All: -30.0 (")


def test_intervals_that_hold_zero_decide_nothing() -> None:
    # 8 items right in one row alone and 6 in the other: p is far from small
    first, second = [True] * 94 + [False] * 6, [False] * 8 + [True] * 92
    assert only(Claim("a beats b", ("a",), ("b",)), [row("a", first), row("b", second)])[0] == UNDECIDED
    same = [row("a", GOOD), row("b", GOOD)]
    assert only(Claim("a beats b", ("a",), ("b",)), same)[0] == UNDECIDED


def test_a_claim_of_several_needs_all_and_falls_with_one() -> None:
    rows = [row("a", GOOD), row("b", FAIR), row("c", [True] * 100), row("d", ALIKE)]
    assert only(Claim("a beats b and c", ("a",), ("b", "c")), rows)[0] == FAILS
    # a and d differ in 2 items of 100
    assert only(Claim("a beats b and d", ("a",), ("b", "d")), rows)[0] == UNDECIDED
    assert only(Claim("c beats a and b", ("c",), ("a", "b")), rows)[0] == HOLDS
    assert [answer(signs) for signs in ([1, 1], [1, 0], [1, -1], [0, -1], [])] == [
        HOLDS,
        UNDECIDED,
        FAILS,
        FAILS,
        NOT_MEASURED,
    ]


def test_differences_are_paired() -> None:
    """Ten items of a hundred better and none worse: the values' own intervals overlap, and still it is clear."""
    better, worse = [True] * 83 + [False] * 17, [True] * 73 + [False] * 27
    rows = [row("a", better), row("b", worse)]
    assert rows[0].cells["All"].estimate.low < rows[1].cells["All"].estimate.high
    assert only(Claim("a beats b", ("a",), ("b",)), rows)[0] == HOLDS


def test_what_was_not_measured_is_said() -> None:
    told, detail = only(Claim("a beats b", ("a",), ("b",)), [row("a", GOOD)])
    assert told == NOT_MEASURED
    assert "a − b, All" in detail
    rows = [row("a", GOOD), row("b", FAIR)]
    told, detail = only(Claim("a beats b and c", ("a",), ("b", "c"), ("All",)), rows)
    assert told == IN_PART  # what was measured holds, and the rest is named
    assert detail.endswith("not measured: a − c, All")


def test_a_claim_holds_only_where_all_of_it_was_measured() -> None:
    columns = {**COLUMNS, "Top-1": replace(ALL, name="Top-1"), "VQA": replace(ALL, name="VQA")}
    claim = Claim("a beats b", ("a",), ("b",), ("All", "Top-1", "VQA"))

    def told(**right: tuple[list[bool], list[bool]]) -> str:
        rows = []
        for place, label in enumerate("ab"):
            parts = [row(label, of[place], name=name.replace("_", "-")) for name, of in right.items()]
            cells = {name: cell for part in parts for name, cell in part.cells.items()}
            records = {name: of for part in parts for name, of in part.records.items()}
            rows.append(replace(parts[0], cells=cells, records=records))
        (verdict,) = claim(rows, columns)
        return verdict.answer

    clear, none, against = (GOOD, FAIR), (GOOD, GOOD), (FAIR, GOOD)
    assert told(All=clear, Top_1=clear, VQA=clear) == HOLDS
    assert told(All=clear) == told(All=clear, VQA=clear) == told(All=none) == IN_PART
    assert told(All=against) == told(All=clear, VQA=against) == FAILS  # whatever the rest would have been
    assert told(All=clear, Top_1=none, VQA=clear) == UNDECIDED
    assert answer([1, 0], ["x"]) == answer([1], ["x"]) == IN_PART
    assert answer([1, -1], ["x"]) == FAILS and answer([], ["x"]) == NOT_MEASURED


def test_an_answer_for_each_variant() -> None:
    rows = [
        row("ours", GOOD, "attention"),
        row("ours", FAIR, "paper"),
        row("clip", [True] * 75 + [False] * 25),
        row("tuned", GOOD, "attention"),
    ]
    verdicts = Claim("ours beats clip", ("ours",), ("clip",))(rows, COLUMNS)
    assert [(v.variant, v.answer) for v in verdicts] == [("attention", HOLDS), ("paper", FAILS)]
    # a row that only one variant has: no answer for the other
    verdicts = Claim("tuned beats ours", ("tuned",), ("ours",))(rows, COLUMNS)
    assert [v.variant for v in verdicts] == ["attention"]


def test_seeds_are_pooled_with_their_items_and_a_row_without_seeds_serves_all() -> None:
    three = row("ours", dict.fromkeys(range(3), GOOD))
    one = row("clip", FAIR)
    a, b = same_seeds(three.records["All"], one.records["All"])
    assert len(a) == len(b) == 300
    assert {r.key for r in a} == {r.key for r in b}
    found = ALL.compare(a, b)
    assert (found.n, found.groups) == (300, 100)  # no more independent images than there are
    assert found.difference == pytest.approx(0.3)
    assert only(Claim("ours beats clip", ("ours",), ("clip",)), [three, one])[0] == HOLDS
    alone = pooled(one.records["All"])
    assert [r.key for r in alone] == [str(k) for k in range(100)]


def test_repeating_a_seed_does_not_narrow_the_interval() -> None:
    once, thrice = pooled({0: [record(str(k), k % 3 > 0) for k in range(60)]}), {}
    thrice = dict.fromkeys(range(3), once)
    one, three = ALL.measure(once), ALL.measure(pooled(thrice))
    assert three.value == pytest.approx(one.value)
    assert three.high - three.low > 0.8 * (one.high - one.low)


def test_close() -> None:
    claim = Close("a gives what b gives", "a", "b", within=0.1)
    many = 10
    assert only(claim, [row("a", GOOD * many), row("b", GOOD * many)])[0] == HOLDS
    assert only(claim, [row("a", GOOD * many), row("b", FAIR * many)])[0] == FAILS
    assert only(claim, [row("a", GOOD[:5]), row("b", GOOD[5:10])])[0] == UNDECIDED
    assert only(claim, [row("a", GOOD)])[0] == NOT_MEASURED
