"""Flax models of transformers, small, with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from case import Case, Make, normal, tokens

_TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_GPT = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_TWO_SIDES = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}


def _model(
    model: str,
    config: str,
    settings: dict[str, Any],
    inputs: Sequence[np.ndarray],
    names: Sequence[str] = (),
    **options: Any,
) -> Make:
    def make() -> Case:
        import transformers

        configuration = getattr(transformers, config)(**settings)
        net = getattr(transformers, model)(configuration, seed=0, **options)
        has_train = "train" in inspect.signature(net.__call__).parameters
        inference = {"train": False} if has_train else {}

        def function(params: Any, *arrays: Any) -> Any:
            first = len(arrays) - len(names)
            named = dict(zip(names, arrays[first:], strict=True))
            return net(*arrays[:first], params=params, **inference, **named)[0]

        return Case(function, net.params, tuple(inputs))

    return make


def _text(model: str, config: str, **settings: Any) -> Make:
    return _model(model, config, settings, [tokens(2, 12)])


_IMAGES = normal(2, 3, 32, 32)

MODELS: dict[str, Make] = {
    "ALBERT": _text("FlaxAlbertModel", "AlbertConfig", **_TEXT, embedding_size=16),
    "BERT": _text("FlaxBertModel", "BertConfig", **_TEXT),
    "BigBird": _text("FlaxBigBirdModel", "BigBirdConfig", **_TEXT, attention_type="original_full"),
    "BLOOM": _text(
        "FlaxBloomForCausalLM", "BloomConfig", vocab_size=99, hidden_size=32, n_layer=2, n_head=4
    ),
    "DistilBERT": _text(
        "FlaxDistilBertModel", "DistilBertConfig",
        vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=64,
    ),
    "ELECTRA": _text("FlaxElectraModel", "ElectraConfig", **_TEXT, embedding_size=16),
    "Gemma": _text(
        "FlaxGemmaForCausalLM", "GemmaConfig", **_TEXT, num_key_value_heads=2, head_dim=8
    ),
    "GPT-2": _text("FlaxGPT2LMHeadModel", "GPT2Config", **_GPT),
    "GPT-J": _text("FlaxGPTJForCausalLM", "GPTJConfig", **_GPT, rotary_dim=4),
    "GPT-Neo": _text(
        "FlaxGPTNeoForCausalLM", "GPTNeoConfig", vocab_size=99, hidden_size=32, num_layers=2,
        num_heads=4, max_position_embeddings=64, attention_types=[[["global", "local"], 1]],
        intermediate_size=64,
    ),
    "Llama": _text("FlaxLlamaForCausalLM", "LlamaConfig", **_TEXT),
    "Mistral": _text("FlaxMistralForCausalLM", "MistralConfig", **_TEXT, num_key_value_heads=2),
    "OPT": _text(
        "FlaxOPTForCausalLM", "OPTConfig", vocab_size=99, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, ffn_dim=64, max_position_embeddings=64, word_embed_proj_dim=32,
    ),
    "RoBERTa": _text("FlaxRobertaModel", "RobertaConfig", **_TEXT),
    "RoFormer": _text("FlaxRoFormerModel", "RoFormerConfig", **_TEXT, embedding_size=32),
    "XLM-RoBERTa": _text("FlaxXLMRobertaModel", "XLMRobertaConfig", **_TEXT),
    "BEiT": _model("FlaxBeitModel", "BeitConfig", _VISION, [_IMAGES]),
    "ViT": _model("FlaxViTModel", "ViTConfig", _VISION, [_IMAGES]),
    "transformers ResNet": _model(
        "FlaxResNetModel", "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        [_IMAGES],
    ),
    "BART": _model(
        "FlaxBartForConditionalGeneration", "BartConfig",
        {**_TWO_SIDES, "max_position_embeddings": 64},
        [tokens(2, 10), tokens(2, 6)], ["decoder_input_ids"],
    ),
    "T5": _model(
        "FlaxT5ForConditionalGeneration", "T5Config",
        {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        [tokens(2, 10), tokens(2, 6)], ["decoder_input_ids"],
    ),
    "CLIP": _model(
        "FlaxCLIPModel", "CLIPConfig",
        {
            "text_config": {**_TEXT, "projection_dim": 16},
            "vision_config": {**_VISION, "projection_dim": 16},
            "projection_dim": 16,
        },
        [tokens(2, 10), _IMAGES],
    ),
    "Whisper": _model(
        "FlaxWhisperForConditionalGeneration", "WhisperConfig",
        {
            **_TWO_SIDES, "max_source_positions": 50, "max_target_positions": 20,
            "num_mel_bins": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None,
        },
        [normal(2, 16, 100), tokens(2, 6)], ["decoder_input_ids"], input_shape=(1, 16, 100),
    ),
    "wav2vec 2.0": _model(
        "FlaxWav2Vec2Model", "Wav2Vec2Config",
        {
            "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3),
            "conv_stride": (5, 2, 2), "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4, "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
        },
        [normal(2, 1024)], input_shape=(1, 1024),
    ),
}  # fmt: skip
