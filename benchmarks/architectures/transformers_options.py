"""Small configurations for transformers' models."""

from typing import Any

VOCABULARY = 64
SIDE = 32

DEEP: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
BERT: dict[str, Any] = DEEP | {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 0}
LLAMA: dict[str, Any] = BERT | {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
MODERN: dict[str, Any] = BERT | {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
GPT: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
EXPERTS: dict[str, Any] = LLAMA | {
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
}
STATES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "decoder_sparse_step": 1,
}
BAMBA: dict[str, Any] = {
    "attn_layer_indices": [1],
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}
JAMBA: dict[str, Any] = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "use_mamba_kernels": False,
    "mamba_d_state": 4,
    "mamba_dt_rank": 4,
}
ZAMBA: dict[str, Any] = {
    "mamba_d_state": 8,
    "mamba_headdim": 8,
    "n_mamba_heads": 8,
    "mamba_ngroups": 1,
    "chunk_size": 4,
    "num_mem_blocks": 1,
    "hybrid_layer_ids": [1],
    "layers_block_type": ["mamba", "hybrid"],
    "use_mamba_kernels": False,
}
BOTH: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
BART: dict[str, Any] = BOTH | {"max_position_embeddings": 64}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
PROPHET: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "encoder_ffn_dim": 48,
    "num_encoder_layers": 2,
    "num_encoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "num_decoder_layers": 2,
    "num_decoder_attention_heads": 4,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 1,
}
VIT: dict[str, Any] = DEEP | {"image_size": SIDE, "patch_size": 8}
SWIN: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
WAVES: dict[str, Any] = DEEP | {
    "conv_dim": [16, 16],
    "conv_stride": [5, 4],
    "conv_kernel": [10, 8],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "mask_time_length": 2,
}
WHISPER: dict[str, Any] = BOTH | {"max_source_positions": 20, "max_target_positions": 64}
PERCEIVER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_latents": 32,
    "num_latents": 8,
    "num_blocks": 1,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4,
    "qk_channels": 32,
    "v_channels": 32,
    "max_position_embeddings": 12,
}
LLAVA: dict[str, Any] = {
    "text_config": LLAMA | {"model_type": "llama"},
    "vision_config": VIT | {"model_type": "clip_vision_model"},
    "image_token_index": VOCABULARY - 1,
    "image_token_id": VOCABULARY - 1,
}
BLIP: dict[str, Any] = {
    "text_config": BERT | {"encoder_hidden_size": 32, "projection_dim": 16, "bos_token_id": 1, "sep_token_id": 2},
    "vision_config": VIT,
    "projection_dim": 16,
}
PATCHES: dict[str, Any] = {
    "num_input_channels": 3,
    "context_length": 32,
    "patch_length": 8,
    "patch_stride": 8,
    "prediction_length": 4,
    "d_model": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 32,
}
SEGFORMER: dict[str, Any] = {
    "hidden_sizes": [8, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 2],
    "decoder_hidden_size": 16,
}
MAE: dict[str, Any] = {
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 48,
}
FUNNEL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "block_sizes": [1, 1],
    "d_model": 32,
    "n_head": 4,
    "d_head": 8,
    "d_inner": 48,
}
DISTIL: dict[str, Any] = {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
NEO: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "max_position_embeddings": 64,
}
MPT: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
OPT: dict[str, Any] = DEEP | {
    "vocab_size": VOCABULARY,
    "ffn_dim": 48,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 16,
}
XGLM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "num_layers": 2,
    "attention_heads": 4,
    "ffn_dim": 48,
    "max_position_embeddings": 64,
}
XLNET: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}
SWITCH: dict[str, Any] = {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
MAMBA2: dict[str, Any] = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4}
GRIFFIN: dict[str, Any] = {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3}
RWKV: dict[str, Any] = {"attention_hidden_size": 32, "intermediate_size": 48, "context_length": 32}
LED: dict[str, Any] = {
    "attention_window": 4,
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64,
}
RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [16, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
CLIP: dict[str, Any] = {"text_config": BERT, "vision_config": VIT}
SPEECH2TEXT: dict[str, Any] = BOTH | {"max_source_positions": 64, "max_target_positions": 64}
