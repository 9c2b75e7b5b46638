"""The matcher on a frozen backbone: tokens in their places, weights without it, training that leaves it alone."""

import copy
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cross_view_loc.matching.pretrained as pretrained
from cross_view_loc.errors import ModelError
from cross_view_loc.matching.encoders import Matcher, load_matcher
from cross_view_loc.matching.pretrained import BLOCKS, FrozenTokens, PretrainedMatcher, make_matcher
from cross_view_loc.networks.weights import save_weights


class TinyBackbone(nn.Module):
    """Answers as Hugging Face's DINOv2: a class token, then the patches; block k says their mean colour times k."""

    def __init__(self, blocks=9, patch=14):
        super().__init__()
        self.config = types.SimpleNamespace(hidden_size=8, num_hidden_layers=blocks, patch_size=patch)
        self.embed = nn.Conv2d(3, 8, 14, 14)
        self.calls = 0

    def forward(self, images, output_hidden_states=False):
        self.calls += 1
        assert output_hidden_states and images.shape[2] % 14 == images.shape[3] % 14 == 0
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.full_like(patches[:, :1], 99.0), patches], 1)
        states = tuple(tokens + torch.sin(k * tokens) for k in range(10))
        return types.SimpleNamespace(hidden_states=states)


@pytest.fixture
def tiny(monkeypatch):
    torch.manual_seed(0)
    module = TinyBackbone()
    monkeypatch.setattr(pretrained, "load_dinov2", lambda name, blocks: module)
    return module


def inputs(count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(count, 3, 192, 320, generator=generator),
        torch.linspace(0.5, -0.5, 192)[:, None].expand(count, 192, 320),
        torch.rand(count, 192, 320, generator=generator) * 0.3,
    )


def test_tokens_are_those_of_two_blocks_without_the_class_token():
    module = TinyBackbone()
    tokens = FrozenTokens(module)
    images = torch.rand(2, 3, 28, 42)
    found = tokens(images)
    assert found.shape == (2, tokens.channels, 2, 3) and tokens.channels == 16 and not found.requires_grad
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    states = module((images - mean[:, None, None]) / std[:, None, None], True).hidden_states
    for part, block in enumerate(BLOCKS):
        expected = F.layer_norm(states[block][1, 1 + 3 * 1 + 2], (8,))  # row 1, column 2
        assert torch.allclose(found[1, 8 * part : 8 * part + 8, 1, 2], expected, atol=1e-5)


def test_features_have_the_shapes_and_places_of_the_compact_matcher(tiny):
    matcher, compact = make_matcher("tiny").eval(), Matcher().eval()
    with torch.inference_mode():
        for ours, theirs in zip(matcher.ground(*inputs()), compact.ground(*inputs()), strict=True):
            assert ours.descriptors.shape == theirs.descriptors.shape
            assert ours.log_confidence.shape == theirs.log_confidence.shape
        for side in (240, 400, 448):
            patch = torch.rand(1, 3, side, side)
            changed = patch.clone()
            changed[..., 20:40, side - 44 : side - 24] = 0.0  # 6 m from the top, 7 m from the right edge
            for ours, theirs, other in zip(
                matcher.aerial(patch), compact.aerial(patch), matcher.aerial(changed), strict=True
            ):
                assert ours.shape == theirs.shape
                # GroupNorm sees the whole patch and moves every cell a little: it is the most moved that counts
                moved = (ours - other).abs().sum(1)[0]
                row, column = divmod(int(moved.argmax()), moved.shape[1])
                scale = side / moved.shape[0]
                assert 8 <= row * scale <= 52 and side - 56 <= column * scale <= side - 12


def test_rays_reach_the_ground_features(tiny):
    matcher = make_matcher("tiny").eval()
    views, elevation, inverse = inputs()
    with torch.inference_mode():
        one, other = (matcher.ground(views, elevation, depth)[0].descriptors for depth in (inverse, inverse * 0))
    assert (one - other).abs().max() > 1e-3


def test_weights_hold_no_backbone_and_load_onto_it_again(tiny, tmp_path):
    matcher = make_matcher("somewhere/tiny").eval()
    assert not any("embed" in name for name in matcher.state_dict())
    assert not any(each is parameter for parameter in matcher.parameters() for each in tiny.parameters())
    save_weights(tmp_path / "m.safetensors", matcher.state_dict(), {"backbone": "somewhere/tiny"}, half=False)
    loaded, metadata = load_matcher(tmp_path / "m.safetensors")
    assert isinstance(loaded, PretrainedMatcher) and metadata["backbone"] == "somewhere/tiny"
    patch = torch.rand(1, 3, 80, 80)
    with torch.inference_mode():
        assert torch.allclose(loaded.aerial(patch)[0], matcher.aerial(patch)[0], atol=1e-5)
    save_weights(tmp_path / "m.safetensors", matcher.state_dict(), {})
    with pytest.raises(ModelError, match="does not fit"):
        load_matcher(tmp_path / "m.safetensors")


def test_copies_share_the_backbone_and_gradients_stop_at_it(tiny):
    matcher = make_matcher("tiny").train()
    replica = copy.deepcopy(matcher)
    assert replica.ground_body._tokens[0] is matcher.ground_body._tokens[0]
    assert replica.ground_body.mix.weight is not matcher.ground_body.mix.weight
    layers = replica.ground(*inputs(2))
    sum(layer.descriptors[..., 0].sum() for layer in layers).backward()
    assert replica.ground_body.project.weight.grad.abs().sum() > 0
    assert tiny.embed.weight.grad is None and tiny.calls == 1


@pytest.mark.parametrize(("blocks", "patch"), [(8, 14), (12, 16)])
def test_a_backbone_of_another_kind_is_refused(blocks, patch):
    with pytest.raises(ModelError, match="use a DINOv2"):
        FrozenTokens(TinyBackbone(blocks, patch))


def test_training_writes_weights_that_name_their_backbone(tiny, tmp_path):
    pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")
    from cross_view_loc.training.town_data import load_town, render_town
    from cross_view_loc.training.train import TrainingSettings, train_matcher

    town = load_town(render_town(7, tmp_path, views_per_drive=2, drives=1, orthophotos=1))
    before = tiny.embed.weight.clone()
    settings = TrainingSettings(2, 1, workers=2, bf16=False, backbone="tiny", validation_samples=1)
    train_matcher([town], None, settings, tmp_path / "m.safetensors", lambda line: None)
    assert load_matcher(tmp_path / "m.safetensors")[1]["backbone"] == "tiny"
    assert torch.equal(tiny.embed.weight, before)


def test_a_real_dinov2_gives_its_middle_blocks(tmp_path):
    transformers = pytest.importorskip("transformers", reason="optional: pip install transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=11, num_attention_heads=2, mlp_ratio=2, image_size=70, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "tiny")
    images = torch.rand(1, 3, 70, 70)
    whole = FrozenTokens(model)(images)
    tokens = FrozenTokens(pretrained.load_dinov2(str(tmp_path / "tiny"), BLOCKS[-1]))
    assert torch.allclose(tokens(images), whole, atol=1e-5) and whole.shape == (1, 48, 5, 5)
    assert isinstance(make_matcher(str(tmp_path / "tiny")), PretrainedMatcher)
