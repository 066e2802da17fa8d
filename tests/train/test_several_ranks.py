"""Several ranks compute what one does: BatchNorm, stochastic depth, accumulation, EMA, curve, stop and resume; tuning.

Four processes that Gloo connects work off all cases once (each imports torch, which takes its time); the tests compare
what they wrote with one process. In float64, where the order of summation is no excuse, equal means to 1e-9.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jepa3d import pretrained
from jepa3d.encoders import build, hierarchical, transformer
from jepa3d.objectives import dvae, jepa, point_bert, point_m2ae, point_mae, supervised
from jepa3d.params import Augment, Execution, Fit, Jitter, Level, Objective, Run, Scheme, Tokenizer
from jepa3d.results import store
from jepa3d.tasks import Encoded, Result, finetune, part_seg
from jepa3d.train import distributed, first_stage, loop, tuning
from jepa3d.train.batches import Arrays, Batch, Batching, InMemory, Stream
from jepa3d.train.distributed import ALONE, World
from jepa3d.train.objective import Base, Loss, Setup

pytestmark = pytest.mark.slow
SIZE = 4  # with two, every order of summation gives the same bits
SHARES = (slice(0, 5), slice(5, 7), slice(7, 8), slice(8, 12))  # of twelve rows
MODEL = transformer.Config(width=24, depth=2, heads=2, drop_path=0.3, tokenizer=Tokenizer(widths=(8, 16, 16)))
DROPPING = MODEL.model_copy(update={"dropout": 0.2, "attention_dropout": 0.1, "cls": True})
PYRAMID = hierarchical.Config(
    widths=(8, 12), blocks=(1, 2), heads=2, drop_path=0.3, dropout=0.1, radius=(1.0, 2.0), tokenizer=MODEL.tokenizer
)
SIXTEEN = Scheme(levels=(Level(num=16, size=4),))
THREE = PYRAMID.model_copy(update={"widths": (8, 12, 16), "blocks": (1, 1, 1), "radius": None})


class Double(Stream):
    """Batches in float64, as the trainings of this file."""

    def at(self, step: int) -> list[Batch]:
        micro_batches = super().at(step)
        for batch in micro_batches:
            batch.points = batch.points.double()
        return micro_batches


def objective(kind: str, world: World, folder: Path) -> Base:
    torch.manual_seed(0)
    if kind in ("dvae", "point_bert"):
        settings = dvae.Config(codes=16)
        setup = Setup(DROPPING, Scheme(points=64, levels=(Level(num=16, size=4),)), world=world)
        first = dvae.Objective(settings, setup)
        if kind == "dvae":
            return first.double()
        path = folder / f"first{world.rank}.safetensors"
        first_stage.save(path, first, settings, setup, {})
        own = point_bert.Config(queue=16, width=8, momentum=0.9)
        return point_bert.Objective(own, setup._replace(reads=path)).double()
    if kind == "contrast":
        return Contrast(world).double()
    predictor = {"depth": 1}
    if kind == "supervised":
        return supervised.Objective(supervised.Config(), Setup(MODEL, classes=3)).double()
    if kind == "pyramid":
        return supervised.Objective(supervised.Config(), Setup(PYRAMID, classes=3)).double()
    if kind == "point_mae":
        uneven_mask = {"mask": {"blocks": 2, "block_scale": (0.1, 0.4)}, "decoder": {"depth": 1}}
        settings = point_mae.Config.model_validate(uneven_mask)
        return point_mae.Objective(
            settings, Setup(MODEL, Scheme(levels=(Level(num=16, size=4),)), world=world)
        ).double()
    if kind == "point_m2ae":
        half = point_m2ae.Config.model_validate({"mask": {"kind": "random", "ratio": 0.5}})
        return point_m2ae.Objective(half, Setup(THREE, SIXTEEN, world=world)).double()
    uneven = {"mask": {"block_scale": (0.1, 0.2)}, "tokenize": "used"}
    options = uneven if kind in ("uneven", "dropping") else {}
    options |= {"predict": "per_block", "target_sees": "all"} if kind == "per_block" else {}
    return jepa.Objective(
        jepa.Config.model_validate({"predictor": predictor, **options}),
        Setup(DROPPING if kind == "dropping" else MODEL),
    ).double()


def training(folder: Path, kind: str, world: World, **options: Any) -> loop.Training:
    how = Execution(checkpoint_every=options.pop("checkpoint_every", 4), log_every=1)
    settings = Fit.model_validate({"steps": 5, "batch": 8, "lr": 0.003, "clip": 1.0} | options)
    random = np.random.default_rng(0)
    points = random.normal(size=(20, 64, 3)).astype(np.float32)
    centre = np.tile(np.arange(0, 64, 4), (20, 1)).astype(np.uint16)
    neighbour = (centre[:, :, None] + np.arange(4)).astype(np.uint16)
    arrays = Arrays(points, centre, neighbour, random.integers(0, 3, 20))
    if kind in ("pyramid", "point_m2ae"):
        coarse = np.tile(np.arange(0, 16, 4), (20, 1)).astype(np.uint16)
        arrays = arrays._replace(above=(coarse, (coarse[:, :, None] + np.arange(4)).astype(np.uint16)))
    if kind == "point_m2ae":  # of four patches, two or three are hidden
        coarsest = np.tile(np.array([0, 2]), (20, 1)).astype(np.uint16)
        above = (*arrays.above, coarsest, np.tile(np.array([[0, 1], [2, 2]]), (20, 1, 1)).astype(np.uint16))
        arrays = arrays._replace(above=above)
    source = InMemory(arrays)
    augment = Augment(rotate="so3", scale=(0.8, 1.2), jitter=Jitter())
    stream = Double(source, Batching(settings.batch, augment, accumulate=settings.accumulate), 1, world=world)
    job = loop.Job(folder / kind, kind, kind, world, how)
    return loop.Training(objective(kind, world, folder), stream, settings, 2, job)


class Contrast(Base):
    """Each shape's feature against those of the whole batch, which lies on several ranks: its own key is the right one.

    The keys are those of all ranks in the order of the batch; the place of the own ones follows from the rank.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.encoder, self.world = build(MODEL), world
        self.register_buffer("queue", torch.zeros(4, self.encoder.features))

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        query = nn.functional.normalize(self.encoder.pool(self.encoder(batch.patches())), dim=-1)
        keys = self.world.all_gather_rows(query)
        logits = query @ torch.cat([keys, self.queue]).T / (0.1 + progress)
        own = torch.arange(len(query)) + self.world.rank * len(query)
        self.queue.copy_(keys[:4])
        return Loss(nn.functional.cross_entropy(logits, own), {})


CASES: dict[str, dict[str, Any]] = {
    "jepa": {},
    "uneven": {},
    "per_block": {},
    "supervised": {},
    "contrast": {},
    "dropping": {},
    "pyramid": {},
    "dvae": {},
    "point_bert": {},
    "point_mae": {},
    "point_m2ae": {},
    "accumulated": {"accumulate": 2},
}


def kind_of(case: str) -> str:
    return "jepa" if case == "accumulated" else case


def trained(folder: Path, case: str, world: World) -> dict[str, Tensor]:
    one = training(folder / case, kind_of(case), world, **CASES[case])
    loop.run(one)
    return dict(one.objective.state_dict())


def stopped(folder: Path, world: World) -> int:
    """The last rank is sent a signal in its fourth step; the step at which each rank stops."""
    one = training(folder / "stopped", "jepa", world, steps=7, checkpoint_every=100)
    forward, seen = one.objective.forward, []

    def note(batch: Batch, progress: float) -> Loss:
        seen.append(batch)
        if len(seen) == 4 and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGUSR2)
        return forward(batch, progress)

    one.objective.forward = note
    try:
        loop.run(one)
    except loop.Stopped as stop:
        return stop.step
    return 0


def not_finite(folder: Path, world: World) -> str:
    one = training(folder / "not_finite", "jepa", world)
    forward = one.objective.forward

    def spoil(batch: Batch, progress: float) -> Loss:
        loss = forward(batch, progress)
        return loss._replace(total=loss.total * torch.nan) if world.rank == world.size - 1 else loss

    one.objective.forward = spoil
    with pytest.raises(Exception, match="not finite") as caught:
        loop.run(one)
    return str(caught.value)


def saved_and_gone_on(folder: Path, world: World) -> list[str]:
    """SIGTERM where the scheduler decides: the state is saved, the training goes on."""
    world = World(world.rank, world.size, world.control, (signal.SIGTERM,))
    one = training(folder / "saved", "jepa", world, checkpoint_every=100)
    after = one.objective.after_step

    def save_request(progress: float) -> None:
        after(progress)
        if round(5 * progress) == 3 and world.first:
            os.kill(os.getpid(), signal.SIGTERM)

    one.objective.after_step = save_request
    loop.run(one)
    return sorted(path.name for path in one.job.state.glob("step*.pt"))


def normalised(world: World) -> dict[str, Tensor]:
    """BatchNorm of 12 rows, unequal shares of them on the ranks, then of its own rows without gradient."""
    torch.manual_seed(3)
    rows, weight = torch.randn(12, 3, dtype=torch.float64) * 4 + 100, torch.randn(12, 3, dtype=torch.float64)
    norm = nn.BatchNorm1d(3).double()
    nn.init.normal_(norm.weight)
    part = slice(0, 12) if world.size == 1 else SHARES[world.rank]
    x = rows[part].clone().requires_grad_()
    with distributed.layers_synchronised(norm, world):
        out = norm(x)
        (out * weight[part]).sum().backward()
        gradients = torch.stack([norm.weight.grad, norm.bias.grad])
        momentum, norm.momentum = norm.momentum, None
        norm(rows[part] * 2)
        norm.momentum = momentum
        norm.eval()
        evaluated = norm(rows[part])
    return {"out": out.detach(), "dx": x.grad, "dw": gradients, "eval": evaluated.detach(), **norm.state_dict()}


def encoded(folder: Path, world: World) -> Encoded:
    """A small evaluation with labels and, on most points, parts: not as many on the shapes of each rank."""
    random = np.random.default_rng(0)
    label = np.arange(44) % 3
    points = random.normal(size=(44, 64, 3)) * np.array([[1, 1, 1], [1, 0.2, 0.2], [1, 1, 0.1]])[label][:, None]
    part = 2 * label[:, None] + (points[..., 0] > 0)
    part[random.uniform(size=part.shape) < random.uniform(0, 0.9, (44, 1))] = -1
    centre = np.tile(np.arange(0, 64, 4), (44, 1))
    shapes = {
        "points": points.astype(np.float32),
        "label": label.astype(np.int64),
        "part": part.astype(np.int16),
        "split": ["train"] * 24 + ["test"] * 20,
        "id": [str(number) for number in range(44)],
    }
    about = {"classes": ["cube", "rod", "plate"], "parts": ["cube/a", "cube/b", "rod/a", "rod/b", "plate/a", "plate/b"]}
    canonical, patches, weights = (folder / name for name in ("shapes.h5", "patches.h5", "encoder.safetensors"))
    scheme = Scheme(points=64, levels=(Level(num=16, size=4),))
    if world.first:
        torch.manual_seed(0)
        store.write_h5(canonical, shapes, {}, config={"kind": "folder"}, **about)
        near = centre[:, :, None] + np.arange(4)
        store.write_h5(patches, {"centre": centre.astype(np.uint16), "neighbour": near.astype(np.uint16)}, {})
        pretrained.save(weights, {"context": build(MODEL)}, scheme, {})
    world.barrier()
    run = Run(data=("shapes",), patches="flat", model="tiny", objective=Objective(kind="jepa"), fit=Fit(steps=9))
    return Encoded(weights, canonical, patches, scheme, MODEL, run, folder / "tuned", "one", world, HOW)


FIT = {"batch": 8, "lr": 0.003}
HOW = Execution(checkpoint_every=100, log_every=1)
TUNED: dict[str, tuple[Any, Any]] = {
    "finetune": (
        finetune,
        finetune.Config.model_validate(
            {"hidden": (16,), "drop_path": 0.3, "smoothing": 0.1, "validation": 0.2, "vote": 2, "patience": 3}
            | {"augment": {"rotate": "so3"}, "fit": {**FIT, "epochs": 6}}
        ),
    ),
    "part_seg": (
        part_seg,
        part_seg.Config.model_validate(
            {"validation": 0.4, "looks": 2, "points": 40, "augment": {"rotate": "so3"}, "fit": {**FIT, "steps": 6}}
        ),
    ),
}


def tuned(folder: Path, name: str, world: World, stop: int = 0) -> dict[str, Any]:
    """An evaluation that trains; with `stop`, the last rank is told to stop in that forward pass, and all go on."""
    tuning.BATCH = part_seg.BATCH = 4  # so that every rank has some to score
    task, settings = TUNED[name]
    folder.mkdir(parents=True, exist_ok=True)
    given = encoded(folder, world)
    seen = []
    forward = loop._accumulate

    def note(*batch: Any) -> Any:
        seen.append(batch)
        if len(seen) == stop and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGUSR2)
        return forward(*batch)

    if stop:
        loop._accumulate = note
        with pytest.raises(loop.Stopped, match=f"step {stop}"):
            task.evaluate(given, settings, 1)
        loop._accumulate = forward
    result: Result = task.evaluate(given, settings, 1)
    rows = store.read_jsonl(given.state / "curve.jsonl") if world.first else []
    curve = [{key: value for key, value in row.items() if key != "steps_per_second"} for row in rows]
    return {"metrics": result.values, "curve": curve}


def work(folder: Path, world: World) -> dict[str, Any]:
    found: dict[str, Any] = {"norm": normalised(world)}
    found["cases"] = {case: trained(folder, case, world) for case in CASES}
    found["stopped"] = stopped(folder, world)
    found["not_finite"] = not_finite(folder, world)
    found["saved"] = saved_and_gone_on(folder, world)
    one = training(folder / "stopped", "jepa", world, steps=7, checkpoint_every=100)
    loop.run(one)  # goes on where `stopped` was
    found["resumed"] = dict(one.objective.state_dict())
    one = training(folder / "undisturbed", "jepa", world, steps=7, checkpoint_every=100)
    loop.run(one)
    found["undisturbed"] = dict(one.objective.state_dict())
    found["tuned"] = {name: tuned(folder / name, name, world) for name in TUNED}
    found["tuned again"] = {name: tuned(folder / f"{name} stopped", name, world, stop=3) for name in TUNED}
    found["asked"] = [world.max(world.rank * 5), world.broadcast(7 + world.rank)]
    found["mean"] = world.mean(torch.tensor([float(world.rank), 4.0]))
    return found


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.joined() as world:
        torch.save(work(folder / "several", world), folder / f"rank{world.rank}.pt")
        world.barrier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def several(folder: Path) -> list[dict[str, Any]]:
    """What each of several ranks found."""
    common = {"WORLD_SIZE": str(SIZE), "JEPA3D_RENDEZVOUS": str(folder / "rendezvous"), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(folder)],
            env=os.environ | common | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(SIZE)
    ]
    said = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0] * SIZE, said
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(SIZE)]


def equal(one: dict[str, Tensor], other: dict[str, Tensor], within: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], rtol=within, atol=within), name


def test_batchnorm_of_several_ranks_is_that_of_all_rows_forward_and_backward(several: list[dict[str, Any]]):
    alone, shares = normalised(ALONE), [rank["norm"] for rank in several]
    for name in ("out", "dx", "eval"):
        assert torch.allclose(torch.cat([share[name] for share in shares]), alone[name], atol=1e-12), name
    assert torch.allclose(sum(share["dw"] for share in shares), alone["dw"], atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert all(torch.equal(share[name], shares[0][name]) for share in shares)
        assert torch.allclose(shares[0][name], alone[name], atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_several_ranks_train_as_one_does(several: list[dict[str, Any]], folder: Path, case: str):
    """Masks and augmentation included, stochastic depth and clipping too; rows of the ranks differ in their targets."""
    alone = trained(folder / "one", case, ALONE)
    equal(several[0]["cases"][case], alone, within=1e-9)
    curves = [store.read_jsonl(folder / count / case / kind_of(case) / "curve.jsonl") for count in ("one", "several")]
    losses = [[row["loss"] for row in curve] for curve in curves]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # a curve is written in float32
    assert [row["mask_ratio"] for row in curves[0] if "mask_ratio" in row] == pytest.approx(
        [row["mask_ratio"] for row in curves[1] if "mask_ratio" in row]
    )


@pytest.mark.parametrize("case", CASES)
def test_all_ranks_end_in_the_same_bits(several: list[dict[str, Any]], case: str):
    """Weights, the EMA copy and BatchNorm's statistics."""
    for other in several[1:]:
        equal(several[0]["cases"][case], other["cases"][case])


def test_a_signal_to_any_rank_stops_all_at_the_same_step_with_the_state_saved(
    several: list[dict[str, Any]], folder: Path
):
    assert [rank["stopped"] for rank in several] == [4] * SIZE
    assert (folder / "several" / "stopped" / "jepa" / "step000000004.pt").exists()


def test_ranks_go_on_from_a_state_in_the_bits_of_a_training_that_never_stopped(
    several: list[dict[str, Any]], tmp_path: Path
):
    for rank in several:
        equal(rank["resumed"], several[0]["undisturbed"])
    alone = training(tmp_path, "jepa", ALONE, steps=7)
    loop.run(alone)
    equal(several[0]["resumed"], dict(alone.objective.state_dict()), within=1e-9)


def test_one_rank_goes_on_where_several_were(several: list[dict[str, Any]], folder: Path, tmp_path: Path):
    """The state that several ranks left after 4 of 5 steps."""
    state = tmp_path / "jepa"
    state.mkdir()
    name = "step000000004.pt"
    (state / name).write_bytes((folder / "several" / "jepa" / "jepa" / name).read_bytes())
    one = training(tmp_path, "jepa", ALONE)
    loop.run(one)
    equal(dict(one.objective.state_dict()), several[0]["cases"]["jepa"], within=1e-9)


def test_a_loss_that_is_not_finite_on_one_rank_is_a_problem_on_all(several: list[dict[str, Any]]):
    assert len({rank["not_finite"] for rank in several}) == 1
    assert "not finite at step 1" in several[0]["not_finite"]


def test_where_a_scheduler_decides_sigterm_saves_and_the_training_goes_on(several: list[dict[str, Any]]):
    assert several[0]["saved"] == ["step000000003.pt", "step000000005.pt"]


def test_ranks_agree_on_numbers(several: list[dict[str, Any]]):
    assert [rank["asked"] for rank in several] == [[15, 7]] * SIZE
    assert [rank["mean"].tolist() for rank in several] == [[1.5, 4.0]] * SIZE


@pytest.mark.parametrize("name", TUNED)
def test_several_ranks_tune_an_encoder_as_one_does(several: list[dict[str, Any]], tmp_path: Path, name: str):
    """Dropout and stochastic depth included; parts are labelled on unequally many points of each rank's shapes."""
    alone, shared = tuned(tmp_path, name, ALONE), several[0]["tuned"][name]
    assert shared["metrics"].keys() == alone["metrics"].keys()
    losses, expected = ([row["loss"] for row in curve if "loss" in row] for curve in (shared["curve"], alone["curve"]))
    assert len(losses) >= 6
    assert losses == pytest.approx(expected, rel=1e-4)
    score = "accuracy" if name == "finetune" else "instance_miou"
    assert shared["metrics"][score] == pytest.approx(alone["metrics"][score], abs=0.05)
    assert [rank["tuned"][name]["metrics"] for rank in several[1:]] == [{}] * (SIZE - 1)  # the first one's counts


@pytest.mark.parametrize("name", TUNED)
def test_ranks_that_tune_go_on_after_a_stop_with_the_same_numbers(several: list[dict[str, Any]], name: str):
    """In the middle of an epoch: the sums over its shapes are of all ranks, and in the state."""
    assert several[0]["tuned again"][name] == several[0]["tuned"][name]


def test_only_the_first_rank_writes(folder: Path, several: list[dict[str, Any]]):
    steps = [row["step"] for row in store.read_jsonl(folder / "several" / "jepa" / "jepa" / "curve.jsonl")]
    assert steps == [1, 2, 3, 4, 5]
    assert not (folder / "rendezvous").exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
