"""Words about what takes long: none where it does not, and fewer and fewer where it does."""

import time

from cmgan_jax.system.progress import told_while


def test_what_takes_long_is_told_of_at_growing_intervals() -> None:
    said: list[str] = []
    with told_while(said.append, "compiling", first=0.2):
        time.sleep(1.1)
    # After 0.2, 0.4 and 0.8 s; a busy machine may be late.
    assert 1 <= len(said) <= 3
    assert set(said) <= {"compiling (0 s so far)", "compiling (1 s so far)"}
    before = list(said)
    time.sleep(0.3)
    assert said == before


def test_what_is_quick_is_not_told_of() -> None:
    said: list[str] = []
    with told_while(said.append, "compiling"):
        pass
    assert said == []
