"""No image that is trained on is tested."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.python.reproduce.made_up import item

from discffusion.reproduce.files import evenly
from discffusion.reproduce.split import cut_by_images

ITEMS = st.lists(st.sets(st.sampled_from("abcdefghijkl"), min_size=1, max_size=3), min_size=2, max_size=60)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.floats(0.02, 0.6), st.integers(0, 3))
def test_sides_share_no_image_and_every_item_is_accounted_for(
    images: list[set[str]], share: float, seed: int
) -> None:
    cut = cut_by_images(images, share, seed)
    trained = {name for index in cut.train for name in images[index]}
    tested = {name for index in cut.test for name in images[index]}
    assert not trained & tested
    assert not set(cut.train) & set(cut.test)
    assert len(cut.train) + len(cut.test) + cut.dropped == len(images)
    assert len(cut.train) >= max(1, round(share * len(images)))
    assert cut == cut_by_images(images, share, seed)


def test_rows_that_lie_in_clusters_lose_nothing() -> None:
    """Ten clusters of four images, in which every pair of images is a row: one cluster is taken, none is torn."""
    images = [
        {f"{cluster}{a}", f"{cluster}{b}"} for cluster in range(10) for a in range(4) for b in range(a + 1, 4)
    ]
    cut = cut_by_images(images, 0.1)
    assert len(cut.train) == 6
    assert len(cut.test) == 54
    assert cut.dropped == 0


def test_a_chain_loses_one_row() -> None:
    images = [{str(k), str(k + 1)} for k in range(100)]
    cut = cut_by_images(images, 0.05)
    assert len(cut.train) == 5
    assert cut.dropped in (1, 2)  # at one end or at both


def test_images_that_recur_go_to_one_side() -> None:
    images = [{str(k // 5)} for k in range(100)]  # 20 images in five rows each
    cut = cut_by_images(images, 0.05)
    assert len(cut.train) == 5
    assert len({next(iter(images[index])) for index in cut.train}) == 1
    assert (len(cut.test), cut.dropped) == (95, 0)


def test_other_seeds_take_other_images() -> None:
    images = [{str(k)} for k in range(100)]
    assert len({cut_by_images(images, 0.05, seed).train for seed in range(5)}) == 5


def test_a_limit_is_spread_over_groups() -> None:
    items = [item(str(k), group="many" if k % 10 else "few") for k in range(100)]
    rows = evenly(items, range(100), 40)
    assert len(rows) == 40
    assert rows == sorted(set(rows))
    assert sum(row % 10 == 0 for row in rows) == 10  # all there are; the others fill up
    assert max(rows) > 90
    assert evenly(items, [3, 5, 7], 2) == [3, 5]
