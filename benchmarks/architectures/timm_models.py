"""Families of timm, one per module of the library, made small by its own options."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import nn

from benchmarks.architectures.architecture import Architecture
from benchmarks.architectures.compat import ensure_operators
from benchmarks.architectures.tasks import classify

ensure_operators()

import timm  # noqa: E402  it imports torchvision

CLASSES = 5

Options: TypeAlias = Mapping[str, Any]

VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
PYRAMID = {"depths": (1, 1, 1, 1)}
SIZED = {"img_size": 64}

FAMILIES: dict[str, tuple[int, Options]] = {
    "beit_base_patch16_224": (64, VIT | SIZED),
    "botnet26t_256": (64, SIZED),
    "cait_xxs24_224": (64, VIT | SIZED),
    "coat_tiny": (64, SIZED | {"embed_dims": [32] * 4, "serial_depths": [1] * 4, "parallel_depth": 1}),
    "convit_tiny": (64, SIZED | {"embed_dim": 8, "depth": 2, "local_up_to_layer": 1}),
    "convnext_atto": (64, PYRAMID | {"dims": (8, 16, 32, 64), "drop_path_rate": 0.1}),
    "cpubone_nano": (64, {}),
    "crossvit_tiny_240": (240, {"embed_dim": [24, 48], "depth": [[1, 1, 0]]}),
    "cs3darknet_focus_s": (64, {}),
    "cspnext_tiny": (64, {}),
    "csatv2": (64, {}),
    "davit_tiny": (64, PYRAMID | {"embed_dims": (8, 16, 32, 64), "num_heads": (1, 2, 4, 8)}),
    "deit_tiny_distilled_patch16_224": (64, VIT | SIZED),
    "densenet121": (64, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    "dla46x_c": (64, {}),
    "dpn48b": (64, {}),
    "edgenext_xx_small": (64, {}),
    "efficientformer_l1": (224, {"depths": (1, 1, 1, 2), "embed_dims": (8, 16, 32, 32)}),
    "efficientformerv2_s0": (64, SIZED),
    "efficientnet_b0": (64, {"drop_path_rate": 0.1}),
    "efficientvim_m1": (64, {}),
    "efficientvit_b0": (64, {}),
    "efficientvit_m0": (224, {}),
    "ese_vovnet19b_slim_dw": (64, {}),
    "eva02_tiny_patch14_224": (56, VIT | {"img_size": 56}),
    "fasternet_t0": (64, {}),
    "fastvit_t8": (64, {}),
    "focalnet_tiny_srf": (64, {}),
    "gcvit_xxtiny": (64, SIZED),
    "ghostnet_050": (64, {}),
    "gmlp_ti16_224": (64, SIZED),
    "hardcorenas_b": (64, {}),
    "hgnetv2_b0": (64, {}),
    "hiera_tiny_224": (64, SIZED | {"embed_dim": 16, "stages": (1, 1, 1, 1)}),
    "hrnet_w18_small": (64, {}),
    "iformer_t": (64, {}),
    "inception_next_atto": (64, PYRAMID),
    "lcnet_035": (64, {}),
    "lcnetv2_small": (64, {}),
    "legacy_seresnet18": (64, {}),
    "levit_128s": (64, SIZED),
    "lowformer_b0": (64, {}),
    "maxvit_pico_rw_256": (64, SIZED),
    "mixer_s32_224": (64, SIZED),
    "mobileone_s1": (64, {}),
    "mobilevit_xxs": (64, {}),
    "mvitv2_tiny": (64, SIZED),
    "naflexvit_base_patch16_gap": (64, VIT),
    "nest_tiny": (64, SIZED),
    "nextvit_small": (64, {"depths": (1, 1, 5, 1)}),
    "nf_regnet_b0": (64, {}),
    "pit_ti_224": (64, SIZED | {"base_dims": [16, 16, 16], "depth": [1, 1, 1], "heads": [1, 2, 4]}),
    "poolformerv2_s12": (64, {}),
    "pvt_v2_b0": (64, {}),
    "qwen3_vit_88m": (64, VIT | SIZED),
    "regnetx_002": (64, {}),
    "repghostnet_050": (64, {}),
    "repvit_m1": (64, {}),
    "res2next50": (64, {"layers": [1, 1, 1, 1]}),
    "resnest14d": (64, {}),
    "resnet10t": (64, {}),
    "resnetv2_50": (64, {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "stem_chs": 8}),
    "rexnet_100": (64, {}),
    "samvit_base_patch16": (64, VIT | SIZED | {"window_size": 2, "global_attn_indexes": [1]}),
    "sequencer2d_s": (64, {"layers": [1, 1, 1, 1], "embed_dims": [16, 32, 32, 32], "hidden_sizes": [4, 8, 8, 8]}),
    "shvit_s1": (64, {}),
    "skresnet18": (64, {}),
    "starnet_s050": (64, {}),
    "swiftformer_xs": (64, {}),
    "swin_tiny_patch4_window7_224": (64, SIZED | PYRAMID | {"embed_dim": 16, "num_heads": (1, 2, 4, 8)}),
    "swinv2_cr_tiny_224": (64, SIZED | PYRAMID | {"embed_dim": 16, "num_heads": (1, 2, 4, 8)}),
    "swinv2_tiny_window8_256": (64, SIZED | PYRAMID | {"embed_dim": 16, "num_heads": (1, 2, 4, 8)}),
    "tiny_vit_5m_224": (64, {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 32, 64], "num_heads": [1, 2, 4, 8]}),
    "tnt_s_patch16_224": (64, SIZED | {"embed_dim": 32, "inner_dim": 8, "depth": 2, "num_heads_outer": 2}),
    "twins_svt_small": (64, {"embed_dims": [8, 16, 32, 64], "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}),
    "visformer_tiny": (64, SIZED | {"depth": (1, 1, 1), "embed_dim": 48, "num_heads": 2}),
    "vit_relpos_small_patch16_224": (64, VIT | SIZED),
    "vit_tiny_patch16_224": (64, VIT | SIZED | {"drop_rate": 0.1, "drop_path_rate": 0.1}),
    "vit_tiny_r_s16_p8_224": (64, VIT | SIZED),
    "volo_d1_224": (64, SIZED),
    "xcit_nano_12_p16_224": (64, VIT | SIZED),
}


def architectures() -> Iterator[Architecture]:
    """All of them, each made only when it is built."""
    for name, (size, options) in FAMILIES.items():
        yield Architecture(name, "timm", partial(_build, name, options), partial(classify, size))
    name = "vit_tiny_patch16_224"
    yield Architecture(f"{name}, checkpointed", "timm", partial(_checkpointed, name), partial(classify, 64))


def _build(name: str, options: Options) -> nn.Module:
    return timm.create_model(name, num_classes=CLASSES, **options)


def _checkpointed(name: str) -> nn.Module:
    net = timm.create_model(name, num_classes=CLASSES, **VIT, **SIZED)
    net.set_grad_checkpointing()
    return net
