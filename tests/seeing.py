"""A tiny model of images and text (LLaVA's architecture), made on the spot."""

from __future__ import annotations

from pathlib import Path


def make_seeing_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a random one with a vocabulary of the words of easy-VQA, and its processor, to ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    text = "Question : Answer ? what is the red blue green shape color of image a yes no circle triangle does contain"
    words = ["<pad>", "<unk>", "<image>", *text.split()]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", additional_special_tokens=["<image>"])
    torch.manual_seed(seed)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.4}
    vision = CLIPVisionConfig(image_size=32, patch_size=16, initializer_factor=5.0, **{k: v for k, v in size.items() if "range" not in k})
    language = LlamaConfig(vocab_size=len(words), max_position_embeddings=256, pad_token_id=0, eos_token_id=0, bos_token_id=None, **size)
    config = LlavaConfig(vision_config=vision, text_config=language, image_token_index=2, image_seq_length=4)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder
