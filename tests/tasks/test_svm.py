"""Each preset equals scikit-learn called directly with the numbers that were published."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC, LinearSVC

from jepa3d.ops.standardise import standardise
from jepa3d.problem import Problem
from jepa3d.seeds import derive
from jepa3d.tasks import Features, svm
from jepa3d.tasks._shared.splits import stratified_folds
from jepa3d.tasks.svm import Config, evaluate, protocol


def pooled(width: int = 10, seed: int = 0, train: int = 90) -> Features:
    """Three classes; the features are concat(max, mean) of width 2 x 10."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(3, 2 * width))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % 3
        return (means[y] + 1.5 * random.normal(size=(n, 2 * width))).astype(np.float32), y

    return Features(*draw(train), *draw(60), ("a", "b", "c"))


def alone(preset: str, given: Features, **options) -> svm.Result:
    return evaluate(given, Config(presets=(preset,), **options), seed=0)


@pytest.mark.parametrize(("preset", "c"), [("m2ae", 0.012), ("m2ae_scan", 0.042)])
def test_m2ae_is_svc_on_the_sum_of_max_and_mean(preset: str, c: float):
    given = pooled()
    x_train, x_test = given.x_train[:, :10] + given.x_train[:, 10:], given.x_test[:, :10] + given.x_test[:, 10:]
    direct = SVC(kernel="linear", C=c).fit(x_train, given.y_train)
    result = alone(preset, given)
    assert result.predicted.tolist() == direct.predict(x_test).tolist()
    assert result.values[f"accuracy_{preset}"] == pytest.approx(direct.score(x_test, given.y_test))


def test_pointjepa_is_svc_on_the_features_as_they_are():
    given = pooled()
    direct = SVC(kernel="linear", C=0.012).fit(given.x_train, given.y_train)
    assert alone("pointjepa", given).predicted.tolist() == direct.predict(given.x_test).tolist()


@pytest.mark.parametrize(("preset", "c"), [("recon", 0.075), ("default", 1.0)])
def test_recon_and_default_are_linear_svc(preset: str, c: float):
    given = pooled()
    direct = LinearSVC(C=c, dual=True, random_state=derive(0, "svm") % 2**32).fit(given.x_train, given.y_train)
    assert alone(preset, given).predicted.tolist() == direct.predict(given.x_test).tolist()


def test_cv_chooses_c_inside_the_train_split_and_fits_again_on_all_of_it():
    given, grid = pooled(), (1e-4, 1e-2, 1.0)
    fold = stratified_folds(given.y_train, 3, 0)
    right = []
    for c in grid:
        found = 0
        for one in range(3):
            inside, held = standardise(given.x_train[fold != one], given.x_train[fold == one])
            model = SVC(kernel="linear", C=c).fit(inside, given.y_train[fold != one])
            found += (model.predict(held) == given.y_train[fold == one]).sum()
        right.append(found)
    best = grid[int(np.argmax(right))]
    x_train, x_test = standardise(given.x_train, given.x_test)
    direct = SVC(kernel="linear", C=best).fit(x_train, given.y_train).predict(x_test)
    result = alone("cv", given, grid=grid)
    assert result.values["chosen_c"] == pytest.approx(np.log10(best))
    assert result.predicted.tolist() == direct.tolist()


def test_the_product_matrix_makes_no_difference(monkeypatch: pytest.MonkeyPatch):
    given = pooled()
    held = evaluate(given, Config(), seed=0)
    monkeypatch.setattr(svm, "HELD", 10)
    assert evaluate(given, Config(), seed=0).values == held.values


def test_every_preset_has_its_metric_and_cv_is_the_headline():
    result = evaluate(pooled(), Config(), seed=0)
    assert next(iter(result.values)) == "accuracy"
    assert result.values["accuracy"] == result.values["accuracy_cv"]
    assert {key for key in result.values if key.startswith("accuracy_")} == {
        "accuracy_cv", "accuracy_m2ae", "accuracy_pointjepa", "accuracy_recon", "accuracy_default",
    }  # fmt: skip
    assert result.predicted.tolist() == alone("cv", pooled()).predicted.tolist()


def test_a_preset_whose_pooling_is_not_there_is_left_out_and_said():
    result = evaluate(pooled()._replace(pool="mean"), Config(), seed=0)
    assert "accuracy_m2ae" not in result.values
    assert "accuracy_pointjepa" not in result.values
    assert result.notes[0] == (
        "accuracy_m2ae: left out: it needs max- and mean-pooled features, these are pooled by 'mean'"
    )
    assert result.values["accuracy"] == result.values["accuracy_cv"]


def test_nothing_but_impossible_presets_is_a_problem():
    with pytest.raises(Problem, match="no preset of this svm evaluation"):
        alone("m2ae", pooled()._replace(pool="max"))


def test_an_odd_width_cannot_be_max_and_mean():
    given = pooled()
    odd = given._replace(x_train=given.x_train[:, :-1], x_test=given.x_test[:, :-1])
    assert "have 19" in evaluate(odd, Config(presets=("cv", "m2ae")), seed=0).notes[0]


def test_a_solver_that_stopped_early_is_noted():
    given = pooled()
    x = 100 * np.repeat(given.x_train[:9], 2, axis=0)  # each shape twice, under two labels: nothing separates them
    few = given._replace(x_train=x, y_train=np.arange(18) % 3)
    note = "accuracy_default: the fit stopped before it had converged, as scikit-learn's default does"
    assert alone("default", few).notes == (note,)
    assert alone("recon", given._replace(x_train=0.1 * given.x_train)).notes == ()


def test_the_protocol_names_each_preset():
    assert protocol(Config(presets=("cv", "recon"))).count(";") == 2
    assert "LinearSVC(C=.075) (ReCon's)" in protocol(Config())
