from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def one_worker():
    """An executor in this process: spawning one takes longer than the runs."""
    with ThreadPoolExecutor(1) as executor:
        yield executor
