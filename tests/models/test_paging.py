"""The simulation of paging counts what can be counted by hand."""

import pytest

from labkit.errors import OptionInvalid
from labkit.models.paging import simulate


def test_one_request_in_one_piece() -> None:
    run = simulate([(6, 4)], room=20, longest=10)
    assert run.steps == 4 and run.running == 1
    assert run.held == pytest.approx((7 + 8 + 9 + 10) / 4 / 20)
    assert run.held + run.reserved == pytest.approx(16 / 20)


def test_one_request_in_blocks() -> None:
    run = simulate([(6, 4)], room=20, longest=10, block=4)
    assert run.steps == 4
    assert run.held + run.reserved == pytest.approx((8 + 8 + 12 + 12) / 4 / 20)
    assert simulate([(6, 4)], room=20, longest=10, block=1).reserved == 0


def test_pieces_are_served_in_turn_and_blocks_let_more_in() -> None:
    trace = [(10, 5)] * 8
    pieces, blocks = simulate(trace, 60, 20), simulate(trace, 60, 20, 5)
    assert (pieces.running, pieces.steps) == (2, 20)
    assert blocks.running == 4 and blocks.steps == 10
    assert blocks.held > pieces.held


def test_a_hole_is_told_from_want_of_room() -> None:
    # Pieces of 2 + 4 and 8 + 4 fill the room; the first, the third and the fourth end, the second goes on between them.
    trace = [(2, 1), (8, 4), (2, 1), (8, 4)]
    run = simulate(trace, 24, 4)
    assert run.holes > 0
    assert simulate(trace, 24, 4, 1).holes == 0


def test_without_blocks_left_the_last_to_come_begins_again() -> None:
    # Two requests of 5 begin in a room for 12 and cannot both grow to 8.
    run = simulate([(5, 3), (5, 3)], 12, 0, 1)
    assert run.steps > 3 and 1 < run.running < 2
    assert simulate([(5, 3)], 12, 0, 1).steps == 3


def test_what_never_fits_is_refused() -> None:
    for trace, room, block in (([(6, 4)], 15, 0), ([(6, 4)], 9, 1), ([(6, 4)], 11, 4), ([], 10, 1)):
        with pytest.raises(OptionInvalid) as caught:
            simulate(trace, room, 10, block)
        assert caught.value.fix
