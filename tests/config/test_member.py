import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythermo.config.member import Member

POSITIVE = st.floats(1e-300, 1e300)
MEMBERS = st.builds(Member, POSITIVE, st.integers(0, 2**63 - 1), st.none() | POSITIVE, st.none() | POSITIVE)


@given(MEMBERS)
def test_a_folder_s_name_is_read_back_to_the_bit(member):
    assert Member.of_folder(member.folder) == member


@pytest.mark.parametrize(
    "name",
    ["", "lr", "lr_0.1", "seed_0", "lr_0.1_seed_0 (copy)", "lr_0.10_seed_0", "lr_0.1_seed_0.5", "lr_x_seed_0", "notes",
     "lr_0.1_seed_0_width_3", "seed_0_lr_0.1"],
)  # fmt: skip
def test_other_names_are_no_members(name):
    assert Member.of_folder(name) is None


def test_numbers_of_numpy_are_the_same_member():
    same = Member(np.float64(0.1), np.int64(3))
    assert same == Member(0.1, 3)
    assert same.folder == "lr_0.1_seed_3"
    assert Member(1, 0).folder == Member(1.0, 0).folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, "lr: must be positive"),
        ({"lr": float("nan")}, "lr: must be positive"),
        ({"lr": "x"}, "lr: must be a number"),
        ({"lr": None}, "lr: must be a number"),
        ({"seed": -1}, "seed: must be an int"),
        ({"seed": 1.5}, "seed: must be an int"),
        ({"seed": None}, "seed: must be an int"),
        ({"weight_decay": -1e-3}, "weight_decay: must be finite and not negative"),
        ({"radius": 0.0}, "radius: must be positive"),
    ],
)
def test_what_is_no_member_is_named(values, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Member(**{"lr": 0.1, "seed": 0, **values})


def test_members_with_more_axes_have_an_order_too():
    assert sorted([Member(0.1, 0, radius=2.0), Member(0.1, 0), Member(0.1, 0, radius=1.0)]) == [
        Member(0.1, 0),
        Member(0.1, 0, radius=1.0),
        Member(0.1, 0, radius=2.0),
    ]


def test_only_the_axes_that_are_given_are_named():
    assert Member(0.01, 3).folder == "lr_0.01_seed_3"
    assert Member(0.01, 3, radius=2.0).coordinates == {"lr": 0.01, "seed": 3, "radius": 2.0}
    assert str(Member(0.01, 3, weight_decay=1e-4)) == "lr 0.01, seed 3, weight decay 0.0001"
    assert sorted([Member(0.1, 0), Member(0.01, 2), Member(0.01, 1)]) == [
        Member(0.01, 1),
        Member(0.01, 2),
        Member(0.1, 0),
    ]
