"""Every family of torchvision.models."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.architectures.architecture import Architecture
from benchmarks.architectures.compat import ensure_operators
from benchmarks.architectures.tasks import classify, outputs

ensure_operators()

from torchvision import models  # noqa: E402  the operators must be there first
from torchvision.models import detection  # noqa: E402
from torchvision.models.convnext import CNBlockConfig, ConvNeXt  # noqa: E402
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator  # noqa: E402
from torchvision.models.detection.backbone_utils import BackboneWithFPN  # noqa: E402
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor  # noqa: E402
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor  # noqa: E402
from torchvision.models.detection.ssd import SSD  # noqa: E402
from torchvision.models.maxvit import MaxVit  # noqa: E402
from torchvision.models.resnet import Bottleneck  # noqa: E402
from torchvision.models.swin_transformer import (  # noqa: E402
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)
from torchvision.models.vgg import VGG, make_layers  # noqa: E402
from torchvision.models.video.mvit import MSBlockConfig, MViT  # noqa: E402
from torchvision.models.video.swin_transformer import SwinTransformer3d  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign  # noqa: E402

CLASSES = 5
SIDE = 64
BOXES = 3

CLASSIFIERS = {
    "alexnet": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
}
SEGMENTERS = {
    "deeplabv3_mobilenet_v3_large": {"aux_loss": True},
    "deeplabv3_resnet50": {"aux_loss": True},
    "fcn_resnet50": {"aux_loss": True},
    "lraspp_mobilenet_v3_large": {},
}


def architectures() -> Iterator[Architecture]:
    """All of them, each made only when it is built."""
    for name, size in CLASSIFIERS.items():
        yield _one(name, partial(models.get_model, name, num_classes=CLASSES), partial(classify, size))
    for name, build in SMALLER.items():
        yield _one(name, build, partial(classify, SIDE))
    for name, options in SEGMENTERS.items():
        build = partial(models.get_model, name, weights_backbone=None, num_classes=CLASSES, **options)
        yield _one(name, build, partial(classify, SIDE))
    for name, (kind, options) in DETECTORS.items():
        yield _one(name, partial(_detector, kind, **options), _detect)
    name = "ssdlite320_mobilenet_v3_large"
    yield _one(name, partial(models.get_model, name, weights_backbone=None, num_classes=CLASSES), _detect)
    yield _one("ssd", _ssd, _detect)
    yield _one("inception_v3", _inception_v3, partial(classify, 128))
    yield _one("raft_small", partial(models.get_model, "raft_small"), _flow)
    for name, (build, shape) in VIDEO.items():
        yield _one(name, build, partial(classify, shape))


def _one(name: str, build: Callable[[], nn.Module], loss: Callable[[nn.Module], Tensor]) -> Architecture:
    return Architecture(name, "torchvision", build, loss)


def _vgg(*, batch_norm: bool) -> nn.Module:
    net = VGG(make_layers([8, "M", 16, "M", 32, 32, "M", 64, 64, "M"], batch_norm), num_classes=CLASSES)
    net.classifier[0] = nn.Linear(64 * 7 * 7, 32)
    net.classifier[3] = nn.Linear(32, 32)
    net.classifier[6] = nn.Linear(32, CLASSES)
    return net


def _convnext() -> nn.Module:
    blocks = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 1)]
    return ConvNeXt(blocks, stochastic_depth_prob=0.1, num_classes=CLASSES)


def _maxvit() -> nn.Module:
    return MaxVit((SIDE, SIDE), 16, 2, [16, 32], [1, 2], 8, stochastic_depth_prob=0.1, num_classes=CLASSES)


def _swin() -> nn.Module:
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES)


def _swin_v2() -> nn.Module:
    layers = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES, **layers)


def _vit() -> nn.Module:
    return models.VisionTransformer(SIDE, 16, 2, 2, 32, 64, dropout=0.1, num_classes=CLASSES)


def _swin3d() -> nn.Module:
    return SwinTransformer3d([2, 4, 4], 16, [2, 2], [2, 4], [2, 4, 4], num_classes=CLASSES)


def _mvit(version: int) -> nn.Module:
    blocks = [
        MSBlockConfig(1, 16, 16 if version == 1 else 32, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 4, 4]),
        MSBlockConfig(2, 16 if version == 1 else 32, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
        MSBlockConfig(2, 32, 32, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
    ]
    return MViT(
        (SIDE, SIDE),
        4,
        blocks,
        residual_pool=version == 2,
        residual_with_cls_embed=version == 1,
        rel_pos_embed=version == 2,
        proj_after_attn=version == 2,
        stochastic_depth_prob=0.1,
        num_classes=CLASSES,
    )


def _pyramid() -> Any:
    """ResNet-18 with a feature pyramid that is 32 channels wide."""
    levels = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    return BackboneWithFPN(models.resnet18(), levels, [64, 128, 256, 512], 32)


def _detector(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    return kind(_pyramid(), num_classes=CLASSES, min_size=SIDE, max_size=SIDE, **options)


def _mask_rcnn(*args: Any, **options: Any) -> nn.Module:
    net = detection.MaskRCNN(*args, **options)
    net.roi_heads.mask_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    net.roi_heads.mask_head = MaskRCNNHeads(32, (32, 32), 1)
    net.roi_heads.mask_predictor = MaskRCNNPredictor(32, 32, CLASSES)
    return net


def _keypoint_rcnn(*args: Any, **options: Any) -> nn.Module:
    net = detection.KeypointRCNN(*args, num_keypoints=4, **options)
    net.roi_heads.keypoint_head = KeypointRCNNHeads(32, (32, 32))
    net.roi_heads.keypoint_predictor = KeypointRCNNPredictor(32, 4)
    return net


def _ssd() -> nn.Module:
    pyramid = _pyramid()
    pyramid.out_channels = [32] * 5
    return SSD(pyramid, DefaultBoxGenerator([[2]] * 5), (SIDE, SIDE), CLASSES)


def _video(name: str) -> Callable[[], nn.Module]:
    return partial(models.get_model, name, num_classes=CLASSES)


def _inception_v3() -> nn.Module:
    """Without the auxiliary classifier, which needs large images."""
    return models.inception_v3(num_classes=CLASSES, aux_logits=False, init_weights=True)


def _s3d() -> nn.Module:
    """With a pooling that takes clips of any size."""
    net = models.get_model("s3d", num_classes=CLASSES)
    net.avgpool = nn.AdaptiveAvgPool3d(1)
    return net


def _wide_resnet() -> nn.Module:
    return models.ResNet(Bottleneck, [1, 1, 1, 1], CLASSES, width_per_group=128)


FEW = {
    "rpn_pre_nms_top_n_train": 50,
    "rpn_post_nms_top_n_train": 30,
    "rpn_batch_size_per_image": 32,
    "box_batch_size_per_image": 8,
}
DETECTORS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "faster_rcnn": (detection.FasterRCNN, FEW),
    "fcos": (detection.FCOS, {"anchor_generator": AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5)}),
    "keypoint_rcnn": (_keypoint_rcnn, FEW),
    "mask_rcnn": (_mask_rcnn, FEW),
    "retinanet": (detection.RetinaNet, {}),
}
SMALLER: dict[str, Callable[[], nn.Module]] = {
    "convnext": _convnext,
    "maxvit": _maxvit,
    "swin": _swin,
    "swin_v2": _swin_v2,
    "vgg": partial(_vgg, batch_norm=False),
    "vgg_bn": partial(_vgg, batch_norm=True),
    "vit": _vit,
    "wide_resnet": _wide_resnet,
}
VIDEO: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "mc3_18": (_video("mc3_18"), (2, 16, 16)),
    "mvit_v1": (partial(_mvit, 1), (4, SIDE, SIDE)),
    "mvit_v2": (partial(_mvit, 2), (4, SIDE, SIDE)),
    "r2plus1d_18": (_video("r2plus1d_18"), (2, 16, 16)),
    "r3d_18": (_video("r3d_18"), (2, 16, 16)),
    "s3d": (_s3d, (8, 64, 64)),
    "swin3d": (_swin3d, (4, 32, 32)),
}


def _detect(model: nn.Module) -> Tensor:
    losses = model([torch.rand(3, SIDE, SIDE) for _ in range(2)], [_target() for _ in range(2)])
    return torch.stack(list(losses.values())).sum()


def _target() -> dict[str, Tensor]:
    corners, sizes = torch.rand(BOXES, 2) * SIDE / 2, (torch.rand(BOXES, 2) + 0.4) * SIDE / 3
    points = corners[:, None] + torch.rand(BOXES, 4, 2) * sizes[:, None]
    return {
        "boxes": torch.cat([corners, corners + sizes], 1),
        "labels": torch.randint(1, CLASSES, (BOXES,)),
        "masks": torch.randint(2, (BOXES, SIDE, SIDE), dtype=torch.uint8),
        "keypoints": torch.cat([points, torch.ones(BOXES, 4, 1)], 2),
    }


def _flow(model: nn.Module) -> Tensor:
    images = torch.rand(2, 1, 3, 128, 128) * 2 - 1
    return torch.stack([flow.abs().mean() for flow in outputs(model(images[0], images[1]))]).sum()
