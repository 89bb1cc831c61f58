"""Tiny random-weight models and adapters, from nothing but this machine's own files. Runs in the engine's environment.

    python models.py FOLDER

tiny-qwen3: 4 layers, hidden 128, a 4,096-word byte-level BPE trained on the standard library's sources, ChatML.
adapter-polite, adapter-terse: rank-8 LoRA adapters for it. Nothing is downloaded.
"""

import json
import sys
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 4096
LAYERS = 4
HIDDEN = 128
HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 64
RANK = 8
CONTEXT = 2048
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ADAPTERS = ("adapter-polite", "adapter-terse")


def texts():
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:200]:
        yield path.read_text(encoding="utf-8", errors="replace")


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[PAD, START, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=CONTEXT)
    fast.chat_template = CHATML
    return fast


def make_model(folder: Path, tokenizer) -> None:
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_SIZE,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_adapter(folder: Path, seed: int, base: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    sizes = {"q_proj": HEADS * HEAD_SIZE, "v_proj": KV_HEADS * HEAD_SIZE}
    weights = {}
    for layer in range(LAYERS):
        for module, size in sizes.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{stem}.lora_A.weight"] = torch.randn(RANK, HIDDEN, generator=generator).to(torch.bfloat16)
            weights[f"{stem}.lora_B.weight"] = torch.randn(size, RANK, generator=generator).to(torch.bfloat16)
    save_file(weights, folder / "adapter_model.safetensors")
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "target_modules": list(sizes),
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(description))


def main(folder: Path) -> None:
    torch.manual_seed(7)
    base = folder / "tiny-qwen3"
    make_model(base, make_tokenizer())
    for seed, name in enumerate(ADAPTERS):
        make_adapter(folder / name, seed, base)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
