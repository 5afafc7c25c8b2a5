"""Families of transformers: encoders, decoders, encoder-decoders, mixtures of experts, state spaces, vision, audio."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from benchmarks.architectures import transformers_inputs as inputs
from benchmarks.architectures import transformers_options as options
from benchmarks.architectures.architecture import Architecture
from benchmarks.architectures.compat import ensure_operators

ensure_operators()

import transformers  # noqa: E402  it imports torchvision

Loss: TypeAlias = Callable[[nn.Module], Tensor]
Options: TypeAlias = Mapping[str, Any]
Families: TypeAlias = Mapping[str, Options]

transformers.logging.set_verbosity_error()

ENCODERS: Families = {
    "AlbertForMaskedLM": options.BERT | {"embedding_size": 16},
    "BertForMaskedLM": options.BERT,
    "BigBirdForMaskedLM": options.BERT | {"attention_type": "original_full"},
    "CamembertForMaskedLM": options.BERT,
    "ConvBertForMaskedLM": options.BERT,
    "Data2VecTextForMaskedLM": options.BERT,
    "DebertaForMaskedLM": options.BERT,
    "DebertaV2ForMaskedLM": options.BERT,
    "DistilBertForMaskedLM": options.DISTIL,
    "ElectraForMaskedLM": options.BERT,
    "ErnieForMaskedLM": options.BERT,
    "EsmForMaskedLM": options.BERT,
    "FNetForMaskedLM": options.BERT,
    "FunnelForMaskedLM": options.FUNNEL,
    "IBertForMaskedLM": options.BERT,
    "LayoutLMForMaskedLM": options.BERT,
    "LongformerForMaskedLM": options.BERT | {"attention_window": 4},
    "MPNetForMaskedLM": options.BERT,
    "MegatronBertForMaskedLM": options.BERT,
    "ModernBertForMaskedLM": options.MODERN | {"global_attn_every_n_layers": 2},
    "NystromformerForMaskedLM": options.BERT,
    "PerceiverForMaskedLM": options.PERCEIVER,
    "RemBertForMaskedLM": options.BERT,
    "RoFormerForMaskedLM": options.BERT,
    "RobertaForMaskedLM": options.BERT,
    "XLMRobertaXLForMaskedLM": options.BERT,
    "YosoForMaskedLM": options.BERT,
}
DECODERS: Families = {
    "BioGptForCausalLM": options.BERT,
    "BitNetForCausalLM": options.LLAMA,
    "BloomForCausalLM": {"vocab_size": options.VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "CTRLLMHeadModel": options.GPT | {"dff": 48},
    "CodeGenForCausalLM": options.GPT | {"rotary_dim": 4},
    "CohereForCausalLM": options.LLAMA,
    "FalconForCausalLM": options.LLAMA,
    "GPT2LMHeadModel": options.GPT,
    "GPTBigCodeForCausalLM": options.GPT,
    "GPTJForCausalLM": options.GPT | {"rotary_dim": 4},
    "GPTNeoForCausalLM": options.NEO,
    "GPTNeoXForCausalLM": options.LLAMA,
    "Gemma2ForCausalLM": options.LLAMA,
    "Gemma3ForCausalLM": options.LLAMA | {"head_dim": 8},
    "GemmaForCausalLM": options.LLAMA,
    "GlmForCausalLM": options.LLAMA,
    "GraniteForCausalLM": options.LLAMA,
    "LlamaForCausalLM": options.LLAMA,
    "MistralForCausalLM": options.LLAMA,
    "MptForCausalLM": options.MPT,
    "NemotronForCausalLM": options.LLAMA,
    "Olmo2ForCausalLM": options.LLAMA,
    "OlmoForCausalLM": options.LLAMA,
    "OPTForCausalLM": options.OPT,
    "PersimmonForCausalLM": options.LLAMA,
    "Phi3ForCausalLM": options.LLAMA,
    "PhiForCausalLM": options.LLAMA,
    "Qwen2ForCausalLM": options.LLAMA,
    "Qwen3ForCausalLM": options.LLAMA,
    "SmolLM3ForCausalLM": options.LLAMA,
    "StableLmForCausalLM": options.LLAMA,
    "Starcoder2ForCausalLM": options.LLAMA,
    "XGLMForCausalLM": options.XGLM,
    "XLNetLMHeadModel": options.XLNET,
}
EXPERTS: Families = {
    "DeepseekV3ForCausalLM": options.EXPERTS | options.LATENT,
    "GptOssForCausalLM": options.EXPERTS | {"head_dim": 8},
    "GraniteMoeForCausalLM": options.EXPERTS,
    "MixtralForCausalLM": options.EXPERTS,
    "OlmoeForCausalLM": options.EXPERTS,
    "PhimoeForCausalLM": options.EXPERTS,
    "Qwen2MoeForCausalLM": options.EXPERTS,
    "Qwen3MoeForCausalLM": options.EXPERTS,
    "SwitchTransformersForConditionalGeneration": options.T5 | options.SWITCH,
}
STATE_SPACES: Families = {
    "BambaForCausalLM": options.LLAMA | options.BAMBA,
    "FalconMambaForCausalLM": options.STATES | {"state_size": 4, "time_step_rank": 4},
    "JambaForCausalLM": options.EXPERTS | options.JAMBA,
    "Lfm2ForCausalLM": options.LLAMA | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "Mamba2ForCausalLM": options.STATES | options.MAMBA2,
    "MambaForCausalLM": options.STATES | {"state_size": 4, "time_step_rank": 4},
    "Qwen3NextForCausalLM": options.EXPERTS | options.LINEAR,
    "RecurrentGemmaForCausalLM": options.LLAMA | options.GRIFFIN,
    "RwkvForCausalLM": options.STATES | options.RWKV,
    "Zamba2ForCausalLM": options.LLAMA | options.ZAMBA,
}
ENCODER_DECODERS: Families = {
    "BartForConditionalGeneration": options.BART,
    "BlenderbotForConditionalGeneration": options.BART,
    "BlenderbotSmallForConditionalGeneration": options.BART,
    "LEDForConditionalGeneration": options.BOTH | options.LED,
    "LongT5ForConditionalGeneration": options.T5,
    "M2M100ForConditionalGeneration": options.BART,
    "MBartForConditionalGeneration": options.BART,
    "MT5ForConditionalGeneration": options.T5,
    "MarianMTModel": options.BART,
    "MvpForConditionalGeneration": options.BART,
    "PLBartForConditionalGeneration": options.BART,
    "PegasusForConditionalGeneration": options.BART,
    "ProphetNetForConditionalGeneration": options.PROPHET,
    "T5ForConditionalGeneration": options.T5,
    "UMT5ForConditionalGeneration": options.T5,
}
IMAGES: Families = {
    "BeitForImageClassification": options.VIT,
    "ConvNextForImageClassification": {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
    "DeiTForImageClassification": options.VIT,
    "Dinov2ForImageClassification": options.VIT,
    "IJepaForImageClassification": options.VIT,
    "ResNetForImageClassification": options.RESNET,
    "SwinForImageClassification": options.SWIN,
    "Swinv2ForImageClassification": options.SWIN,
    "ViTForImageClassification": options.VIT,
    "ViTMSNForImageClassification": options.VIT,
}
SPEECH: Families = {
    "Data2VecAudioForCTC": options.WAVES,
    "HubertForCTC": options.WAVES,
    "SEWForCTC": options.WAVES,
    "UniSpeechForCTC": options.WAVES,
    "Wav2Vec2ConformerForCTC": options.WAVES,
    "Wav2Vec2ForCTC": options.WAVES,
    "WavLMForCTC": options.WAVES,
}
OTHERS: Mapping[str, tuple[Loss, Options]] = {
    "ASTForAudioClassification": (inputs.sound, options.DEEP | {"max_length": 64, "num_mel_bins": 16}),
    "BlipForConditionalGeneration": (inputs.caption, options.BLIP),
    "CLIPModel": (inputs.image_and_text, options.CLIP),
    "DecisionTransformerModel": (inputs.decisions, options.GPT | {"state_dim": 5, "act_dim": 3, "hidden_size": 32}),
    "LlavaForConditionalGeneration": (inputs.chat, options.LLAVA),
    "PatchTSTForPrediction": (inputs.series, options.PATCHES),
    "SegformerForSemanticSegmentation": (inputs.pixels, options.SEGFORMER),
    "SiglipModel": (inputs.image_and_text, options.CLIP),
    "Speech2TextForConditionalGeneration": (partial(inputs.spectrogram, (40, 80)), options.SPEECH2TEXT),
    "TimesformerForVideoClassification": (inputs.video, options.VIT | {"num_frames": 4}),
    "ViTMAEForPreTraining": (inputs.masked_image, options.VIT | options.MAE),
    "VideoMAEForVideoClassification": (inputs.video, options.VIT | {"num_frames": 4}),
    "WhisperForConditionalGeneration": (partial(inputs.spectrogram, (80, 40)), options.WHISPER),
    "YolosForObjectDetection": (inputs.boxes, options.VIT | {"image_size": [64, 64], "num_detection_tokens": 5}),
}
CHECKPOINTED: Mapping[str, tuple[Loss, Options]] = {
    "BertForMaskedLM": (inputs.text, options.BERT),
    "GPT2LMHeadModel": (inputs.text, options.GPT),
    "LlamaForCausalLM": (inputs.text, options.LLAMA),
    "MixtralForCausalLM": (inputs.text, options.EXPERTS),
    "T5ForConditionalGeneration": (inputs.text, options.T5),
    "ViTForImageClassification": (inputs.image, options.VIT),
    "Wav2Vec2ForCTC": (inputs.speech, options.WAVES),
}


def architectures() -> Iterator[Architecture]:
    """All of them, each made only when it is built."""
    for families in (ENCODERS, DECODERS, EXPERTS, STATE_SPACES, ENCODER_DECODERS):
        yield from _plain(inputs.text, families)
    yield from _plain(inputs.image, IMAGES)
    yield from _plain(inputs.speech, SPEECH)
    for name, (loss, given) in OTHERS.items():
        yield Architecture(name, "transformers", partial(_build, name, given), loss)
    for name, (loss, given) in CHECKPOINTED.items():
        for reentrant in (False, True):
            build = partial(_checkpointed, name, given, reentrant=reentrant)
            how = "checkpointed, reentrant" if reentrant else "checkpointed"
            yield Architecture(f"{name}, {how}", "transformers", build, loss)


def _plain(loss: Loss, families: Families) -> Iterator[Architecture]:
    for name, given in families.items():
        yield Architecture(name, "transformers", partial(_build, name, given), loss)


def _build(name: str, given: Options) -> nn.Module:
    kind = getattr(transformers, name)
    return kind(kind.config_class(**given))


def _checkpointed(name: str, given: Options, *, reentrant: bool) -> nn.Module:
    net: Any = _build(name, given)
    net.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    return net
