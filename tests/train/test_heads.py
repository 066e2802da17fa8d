"""The classification head of protocols.md: 256-256-classes with BatchNorm, ReLU and dropout, or one linear layer."""

from __future__ import annotations

import torch
from torch import nn

from jepa3d.encoders import build, transformer
from jepa3d.nets.dropout import Dropout
from jepa3d.nets.patches import Patches
from jepa3d.params import Tokenizer
from jepa3d.train.heads import Classifier, head


def test_the_head_is_the_communitys():
    layers = head(768, (256, 256), 40, 0.5)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, Dropout] * 2 + [nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [tuple(layers[at].weight.shape) for at in (0, 4, 8)] == [(256, 768), (256, 256), (40, 256)]
    assert layers[3].drop == 0.5


def test_point_berts_head_has_no_batch_norm():
    assert [type(layer) for layer in head(768, (256,), 40, 0.5, norm=False)] == [nn.Linear, nn.ReLU, Dropout, nn.Linear]


def test_without_hidden_layers_the_head_is_linear():
    [layer] = head(10, (), 3, 0.5)
    assert tuple(layer.weight.shape) == (3, 10)


def test_a_classifier_looks_at_the_maximum_and_the_mean_of_the_tokens():
    torch.manual_seed(0)
    model = transformer.Config(width=12, depth=1, heads=2, tokenizer=Tokenizer(widths=(4, 8, 8)))
    net = Classifier(build(model), (), 3, 0.0).eval()
    patches = Patches(torch.randn(2, 20, 3), torch.randn(2, 5, 3), torch.randn(2, 5, 4, 3))
    tokens = net.encoder(patches)
    [last] = net.head
    by_hand = torch.cat([tokens.max(1).values, tokens.mean(1)], 1) @ last.weight.T + last.bias
    assert torch.allclose(net(patches), by_hand)
