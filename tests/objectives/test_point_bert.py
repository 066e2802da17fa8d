"""Point-BERT: codes, masks and mixtures by hand, the loss one shape at a time, the queue, pairs on several ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forged import forged
from torch import Tensor
from torch.nn import functional as F

from jepa3d.encoders import build, transformer
from jepa3d.nets.graph import neighbours
from jepa3d.objectives import dvae, point_bert
from jepa3d.params import Augment, Execution, Fit, Level, Scheme, Tokenizer
from jepa3d.problem import Problem
from jepa3d.train import first_stage, loop
from jepa3d.train.batches import Arrays, Batch, Batching, InMemory, Stream
from jepa3d.train.distributed import ALONE, World
from jepa3d.train.objective import Setup

MODEL = transformer.Config(
    width=12, depth=2, heads=2, cls=True, position_at="every_block", tokenizer=Tokenizer(widths=(6, 8, 8), bridge=8)
)
SHAPES, POINTS, PATCHES, SIZE, CODES = 4, 60, 20, 6, 16
SCHEME = Scheme(points=POINTS, levels=(Level(num=PATCHES, size=SIZE),))


def batch(rows: slice = slice(0, SHAPES), count: int = SHAPES) -> Batch:
    """Some rows of one batch."""
    whole = forged(count, POINTS, PATCHES, SIZE)
    return Batch(*(part[rows] for part in (whole.points, whole.centre, whole.neighbour, whole.label, whole.keys)))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dVAE whose BatchNorms have seen something."""
    torch.manual_seed(7)
    settings, setup = dvae.Config(codes=CODES), Setup(MODEL, SCHEME)
    net = dvae.Objective(settings, setup)
    net(batch(), 0.0)
    path = tmp_path_factory.mktemp("dvae") / "encoder.safetensors"
    first_stage.save(path, net, settings, setup, {})
    return path


def bert(first: Path, world: World = ALONE, seed: int = 0, **options: Any) -> point_bert.Objective:
    """An objective whose momentum encoder is not the student."""
    torch.manual_seed(seed)
    settings = point_bert.Config.model_validate({"queue": 8, "width": 6} | options)
    net = point_bert.Objective(settings, Setup(MODEL, SCHEME, world=world, reads=first))
    with torch.no_grad():
        for parameter in net.student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


# ---- what it begins with


def test_mini_pointnet_and_its_running_statistics_are_the_dvaes_and_all_else_is_drawn(first: Path):
    torch.manual_seed(0)
    settings = point_bert.Config(queue=8)
    net = point_bert.Objective(settings, Setup(MODEL, SCHEME, reads=first))
    torch.manual_seed(0)
    drawn, found = build(MODEL).state_dict(), first_stage.read(first, "dvae").weights
    for side in (net.student, net.key):
        own = side.encoder.state_dict()
        for name, value in own.items():
            part = name.removeprefix("tokenizer.")
            begun = name.startswith("tokenizer.") and not part.startswith("bridge")
            assert torch.equal(value, found[f"codes.tokenizer.{part}"] if begun else drawn[name]), name
    assert found["codes.tokenizer.point_norm.running_mean"].abs().sum() > 0
    assert not any(torch.equal(a, b) for a, b in zip(net.queue, net.queue[1:], strict=False))
    assert torch.allclose(net.queue.norm(dim=1), torch.ones(8))


@pytest.mark.parametrize(
    ("model", "scheme", "words"),
    [
        ({"tokenizer": Tokenizer(widths=(8, 8, 8), bridge=8)}, {}, "mini-PointNet: "),
        ({"tokenizer": Tokenizer(widths=(6, 8, 8), bridge=12)}, {}, "token width: 8 there, 12 here"),
        ({}, {"levels": (Level(num=PATCHES, size=5),)}, "patches: "),
    ],
)
def test_a_dvae_of_other_patches_or_tokens_is_a_problem(
    first: Path, model: dict[str, Any], scheme: dict[str, Any], words: str
):
    setup = Setup(MODEL.model_copy(update=model), SCHEME.model_copy(update=scheme), reads=first)
    with pytest.raises(Problem, match="codes of other patches or of another mini-PointNet") as caught:
        point_bert.Objective(point_bert.Config(), setup)
    assert words in caught.value.why


def test_a_model_without_a_cls_token_is_refused():
    plain = MODEL.model_copy(update={"cls": False})
    assert "[CLS]" in str(point_bert.unfit(point_bert.Config(), plain))
    assert point_bert.unfit(point_bert.Config(), MODEL) is None


@pytest.mark.parametrize(("queue", "rows", "words"), [(8, 3, "mixed in pairs"), (6, 4, "whole batches of 4")])
def test_batches_that_make_no_pairs_or_do_not_fill_the_queue_are_a_problem(
    first: Path, queue: int, rows: int, words: str
):
    assert words in str(point_bert.unfit_batch(point_bert.Config(queue=queue), rows))
    with pytest.raises(Problem, match=f"{rows} shapes at once") as caught:
        bert(first, queue=queue)(batch(slice(0, rows)))
    assert words in caught.value.why


# ---- codes, masks, mixtures


def test_a_code_depends_on_no_other_shape_and_on_no_training(first: Path):
    net = bert(first).train()
    together = net.labels(batch().patches())
    for row in range(SHAPES):
        assert torch.equal(net.labels(batch(slice(row, row + 1)).patches())[0], together[row])
    net(batch())
    assert torch.equal(net.labels(batch().patches()), together)
    logits = net.codes(batch().patches().groups, neighbours(batch().patches().centres))
    assert torch.equal(logits.argmax(-1), together)
    assert len(together.unique()) > 2


def test_a_mask_is_a_block_about_a_random_patch_of_a_random_share(first: Path):
    given, net = batch(slice(0, 300), 300), bert(first)
    centres = given.patches().centres
    masks = {purpose: net._masked(centres, given, purpose) for purpose in ("mask", "mask of the mixture")}
    assert not torch.equal(*masks.values())
    sizes = set()
    for own, masked in zip(centres, masks["mask"], strict=True):
        count = int(masked.sum())
        sizes.add(count)
        nearest = torch.cdist(own, own).argsort(1)[:, :count]
        assert any(set(row.tolist()) == set(masked.nonzero()[:, 0].tolist()) for row in nearest)
    assert sizes == {5, 6, 7, 8}  # int(20 u), u in [.25, .45)


def test_a_mixture_takes_each_patch_from_the_shape_or_its_partner_in_the_drawn_ratio():
    given = batch(slice(0, 2000), 2000)
    ratio, own = point_bert.mixture(given, PATCHES)
    assert (ratio - own.float().mean(1)).abs().mean() < 0.1
    assert ratio.mean().item() == pytest.approx(0.5, abs=0.02)
    rows = torch.arange(2000)[:, None].expand(-1, PATCHES)
    taken = point_bert.mixed(rows, own)
    assert torch.equal(taken, torch.where(own, rows, rows ^ 1))
    wide = point_bert.mixed(rows[..., None, None].expand(-1, -1, SIZE, 3).float(), own)
    assert torch.equal(wide[..., 0, 0], taken)


# ---- the loss


@torch.no_grad()
def oracle(net: point_bert.Objective, given: Batch) -> dict[str, float]:
    """One shape, then one patch at a time, in plain words; BatchNorm in evaluation mode, no drop path."""
    patches = given.patches()
    labels = net.labels(patches)
    ratio, own = point_bert.mixture(given, PATCHES)

    def seen(side: point_bert.Side, groups: Tensor, centres: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        encoder = side.encoder
        rows = [
            side.mask_token if hidden else encoder.tokenizer(group[None])[0]
            for group, hidden in zip(groups, masked, strict=True)
        ]
        x = torch.stack([encoder.cls_token, *rows])[None]
        at = torch.cat([encoder.cls_position[None], encoder.position(centres)])[None]
        for block in encoder.blocks:
            x = block(x + at)
        x = encoder.norm(x)[0]
        return F.normalize(side.contrast(x[0]), dim=0), x[1:]

    masks = {name: net._masked(patches.centres, given, name) for name in ("mask", "mask of the keys")}
    keys = [
        seen(net.key, patches.groups[b], patches.centres[b], masks["mask of the keys"][b])[0] for b in range(SHAPES)
    ]
    everyone = torch.stack([*keys, *net.queue])
    centres = point_bert.mixed(patches.centres, own)
    mixed_masks = net._masked(centres, given, "mask of the mixture")
    codes, mixed_codes, contrast = [], [], []
    for b, mate in enumerate((1, 0, 3, 2)):
        _, tokens = seen(net.student, patches.groups[b], patches.centres[b], masks["mask"][b])
        for n in masks["mask"][b].nonzero()[:, 0]:
            codes.append(-net.head(tokens[n]).log_softmax(0)[labels[b, n]])
        source = [b if one else mate for one in own[b]]
        groups = torch.stack([patches.groups[s, n] for n, s in enumerate(source)])
        where = torch.stack([patches.centres[s, n] for n, s in enumerate(source)])
        feature, tokens = seen(net.student, groups, where, mixed_masks[b])
        for n in mixed_masks[b].nonzero()[:, 0]:
            mixed_codes.append(-net.head(tokens[n]).log_softmax(0)[labels[source[n], n]])
        scores = (everyone @ feature / 0.07).log_softmax(0)
        contrast.append(-(ratio[b] * scores[b] + (1 - ratio[b]) * scores[mate]))
    return {
        "codes": float(torch.stack(codes).mean()),
        "mixed_codes": float(torch.stack(mixed_codes).mean()),
        "contrast": float(torch.stack(contrast).mean()),
    }


def test_the_three_losses_are_what_one_shape_and_one_patch_at_a_time_give(first: Path):
    net = bert(first).eval()
    wanted = oracle(net, batch())
    loss = net(batch())
    for name, value in wanted.items():
        assert loss.monitors[name].item() == pytest.approx(value, rel=1e-4), name
    assert loss.total.item() == pytest.approx(sum(wanted.values()), rel=1e-4)


def test_the_queue_has_the_newest_keys_first_and_lets_the_oldest_go(first: Path):
    net = bert(first).eval()
    before = net.queue.clone()
    given = batch()
    patches = given.patches()
    keys, _ = net.key(patches.groups, patches.centres, net._masked(patches.centres, given, "mask of the keys"))
    net(given)
    assert torch.allclose(net.queue, torch.cat([keys, before[:4]]))


def test_the_momentum_encoder_follows_in_parameters_and_keeps_its_own_statistics(first: Path):
    net = bert(first, momentum=0.9).train()
    before = {name: value.clone() for name, value in net.key.state_dict().items()}
    net(batch())
    net.after_step(0.5)
    student, after = net.student.state_dict(), net.key.state_dict()
    for name, _ in net.key.named_parameters():
        assert torch.allclose(after[name], 0.9 * before[name] + 0.1 * student[name], atol=1e-6), name
    mean = "encoder.tokenizer.join_norm.running_mean"
    assert not torch.equal(after[mean], before[mean])
    assert not torch.equal(after[mean], student[mean])
    assert int(student["encoder.tokenizer.join_norm.num_batches_tracked"]) == 3  # the dVAE's one, and two passes


def test_gradients_go_to_the_student_and_nowhere_else(first: Path):
    net = bert(first).train()
    net(batch()).total.backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"student", "head"}
    for name, parameter in net.named_parameters():
        if name not in trained:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith("key_value.bias"), name


# ---- several ranks, in one process: what all of them have, joined by hand


class Joined(World):
    """One of two ranks, which is told what the other one has."""

    def all_gather_rows(self, own: Tensor) -> Tensor:
        return everyone["keys"]

    def mean(self, values: Tensor) -> Tensor:
        return everyone["counts"].pop(0)


everyone: dict[str, Any] = {}


def test_two_ranks_have_the_loss_of_one_and_its_queue_in_the_order_of_the_batch(first: Path):
    """Counts of masked patches differ between the ranks; partners are on one rank."""
    alone = bert(first).eval()
    patches = batch().patches()
    with torch.no_grad():
        masked = alone._masked(patches.centres, batch(), "mask of the keys")
        keys, _ = alone.key(patches.groups, patches.centres, masked)
        own = point_bert.mixture(batch(), PATCHES)[1]
        mixed = point_bert.mixed(patches.centres, own)
        counts = [alone._masked(patches.centres, batch(), "mask"), alone._masked(mixed, batch(), "mask of the mixture")]
        assert counts[0][:2].sum() != counts[0][2:].sum()
    losses = []
    for rank in range(2):
        everyone["keys"] = keys
        everyone["counts"] = [mask.sum()[None] / 2 for mask in counts]
        net = bert(first, Joined(rank, 2)).eval()
        losses.append(net(batch(slice(2 * rank, 2 * rank + 2))).total)
        assert torch.allclose(net.queue[:SHAPES], keys)
    assert torch.stack(losses).mean().item() == pytest.approx(alone(batch()).total.item(), rel=1e-5)


def test_a_rank_with_an_odd_number_of_shapes_is_a_problem(first: Path):
    with pytest.raises(Problem, match="2 shapes at once on 2 ranks"):
        bert(first, Joined(0, 2))(batch(slice(0, 1)))


# ---- training


def test_it_learns_eight_shapes(first: Path):
    net, given = bert(first, mask_ratio=(0.3, 0.3)).train(), batch(slice(0, 8), 8)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 2e-2)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = net(given)
        loss.total.backward()
        optimiser.step()
        net.after_step(0.5)
        losses.append(float(loss.monitors["codes"]))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("kind", ["dvae", "point_bert"])
def test_a_training_that_goes_on_ends_in_the_bits_of_one_that_never_stopped(first: Path, tmp_path: Path, kind: str):
    """The queue, both encoders, the draws of masks, mixtures and noise, and the schedules."""
    random = np.random.default_rng(0)
    points = random.normal(size=(12, POINTS, 3)).astype(np.float32)
    centre = np.tile(np.arange(PATCHES), (12, 1)).astype(np.uint16)
    near = random.integers(0, POINTS, (12, PATCHES, SIZE)).astype(np.uint16)
    arrays = Arrays(points, centre, near, np.zeros(12, np.int64))

    def run(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        net = bert(first) if kind == "point_bert" else dvae.Objective(dvae.Config(codes=CODES), Setup(MODEL, SCHEME))
        fit = Fit(steps=6, batch=4, lr=1e-2)
        stream = Stream(InMemory(arrays), Batching(4, Augment(rotate="so3")), 1)
        job = loop.Job(tmp_path / "state", "these", kind, execution=Execution(checkpoint_every=3, log_every=1))
        loop.run(loop.Training(net, stream, fit, 2, job))
        return net.state_dict()

    whole = run(seed=0)
    (tmp_path / "state" / "step000000006.pt").unlink()
    again = run(seed=5)  # other first weights, which the state replaces
    assert all(torch.equal(whole[name], again[name]) for name in whole)
