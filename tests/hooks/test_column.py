"""The column of numbers that stands for the state of every gradient."""

import numpy as np

from gradscope.hooks.column import FEW, Column


def test_a_column_is_an_array_and_answers_for_all() -> None:
    column = Column(np.zeros(3, np.int8))
    column.put(np.array([0, 2]), 2)
    assert column.array.tolist() == [2, 0, 2]
    assert (0 in column, 1 in column, 2 in column) == (True, False, True)
    column.array[1] = 2
    assert 0 not in column


def test_as_many_indices_as_parameters_are_not_always_all_of_them() -> None:
    column = Column(np.zeros(3, np.int8))
    column.put(np.array([0, 0, 1]), 1)
    assert column.array.tolist() == [1, 1, 0]
    column.put(np.array([2, 0, 1]), 3)
    assert column.array.tolist() == [3, 3, 3]


def test_what_is_known_to_be_all_is_not_another_array_at_its_address() -> None:
    column = Column(np.zeros(2, np.int8))
    for _ in range(3 * FEW):
        column.put(np.array([0, 1]), 1)
        column.put(np.array([1, 1]), 2)
        assert column.array.tolist() == [1, 2]
