import numpy as np
import pytest

from nas.studies.error_distribution import Distribution, Trained, effects


def network(space: str, error: float, **choices: object) -> Trained:
    return Trained(space, choices, 1000, 100, error, 2.0, 3.0)  # type: ignore[arg-type]


def test_errors_are_sorted_and_quantiles_are_shares_of_networks() -> None:
    rows = [network("a", error) for error in (0.4, 0.1, 0.3, 0.2, 0.5)] + [network("b", 0.9)]
    found = Distribution.of("a", rows)
    assert found.errors.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [found.quantile(q) for q in (0.0, 0.25, 0.5, 1.0)] == [0.1, 0.2, 0.3, 0.5]


def test_a_network_beats_another_with_the_share_of_the_pairs() -> None:
    a = Distribution("a", np.array([0.1, 0.3]), 1.0)
    b = Distribution("b", np.array([0.2, 0.3]), 1.0)
    # 0.1 beats both; 0.3 loses to 0.2 and is equal to 0.3.
    assert a.beats(b) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert b.beats(a) == pytest.approx(1 - a.beats(b))


def test_the_error_of_a_score_is_what_it_lacks_and_a_loss_is_an_error() -> None:
    row = {"space": "a", "choices": {}, "macs": 1, "params": 1, "epochs": 1.0, "seconds": 1.0}
    assert Trained.of(row | {"accuracy": 0.9}, "accuracy").error == pytest.approx(0.1)
    assert Trained.of(row | {"loss": 1.5}, "loss").error == 1.5


def test_an_option_that_costs_accuracy_is_named_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    rows = [
        network("a", 0.2 + 0.1 * (i % 2) + 0.01 * rng.normal(), kind="xy"[i % 2], width=i // 2 % 2)
        for i in range(16)
    ]
    found = effects(rows)
    assert {(e.choice, e.option) for e in found} == {("kind", "y"), ("kind", "x")}
    worst = found[0]
    assert (worst.choice, worst.option, worst.networks) == ("kind", "y", 8)
    assert worst.difference == pytest.approx(0.1, abs=0.02)
    assert 0 < worst.standard_error < 0.01


def test_an_option_of_few_networks_is_not_judged() -> None:
    rows = [network("a", 0.2 + (i < 3), kind="xy"[i < 3]) for i in range(12)]
    assert effects(rows) == []
