"""Chat templates of five families, each with what a conversation becomes in it: pieces that are learned or not."""

from __future__ import annotations

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

FORGETFUL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] if loop.last or message['role'] == 'user' else message['content'].split('|')[-1] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Writes what stands before a bar in an assistant's last turn only, as templates do that drop thoughts."""

TURNS = [
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "It came late."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "hello, fine"},
]

Pieces = list[tuple[str, bool]]

FAMILIES: dict[str, tuple[str, Pieces]] = {
    "ChatML": (
        CHATML,
        [
            ("<|im_start|>user\nWhere is my parcel?<|im_end|>\n<|im_start|>assistant\n", False),
            ("It came late.<|im_end|>", True),
            ("\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n", False),
            ("hello, fine<|im_end|>", True),
            ("\n", False),
        ],
    ),
    "Llama 3": (
        LLAMA_3,
        [
            ("<s><|start_header_id|>user<|end_header_id|>\n\nWhere is my parcel?<|eot_id|>", False),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
            ("It came late.<|eot_id|>", True),
            ("<|start_header_id|>user<|end_header_id|>\n\nThanks<|eot_id|>", False),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
            ("hello, fine<|eot_id|>", True),
        ],
    ),
    "Mistral": (
        MISTRAL,
        [
            ("<s>[INST] Where is my parcel? [/INST]", False),
            (" It came late.</s>", True),
            ("[INST] Thanks [/INST]", False),
            (" hello, fine</s>", True),
        ],
    ),
    "Gemma": (
        GEMMA,
        [
            ("<s><start_of_turn>user\nWhere is my parcel?<end_of_turn>\n<start_of_turn>model\n", False),
            ("It came late.<end_of_turn>", True),
            ("\n<start_of_turn>user\nThanks<end_of_turn>\n<start_of_turn>model\n", False),
            ("hello, fine<end_of_turn>", True),
            ("\n", False),
        ],
    ),
    "Zephyr": (
        ZEPHYR,
        [
            ("<|user|>\nWhere is my parcel?</s>\n<|assistant|>\n", False),
            ("It came late.</s>", True),
            ("\n<|user|>\nThanks</s>\n<|assistant|>\n", False),
            ("hello, fine</s>", True),
            ("\n", False),
        ],
    ),
    "Phi": (
        PHI,
        [
            ("<|user|>\nWhere is my parcel?<|end|>\n<|assistant|>\n", False),
            ("It came late.<|end|>", True),
            ("\n<|user|>\nThanks<|end|>\n<|assistant|>\n", False),
            ("hello, fine<|end|>", True),
            ("\n</s>", False),
        ],
    ),
    "marked": (
        MARKED,
        [
            ("<|im_start|>user\nWhere is my parcel?<|im_end|>\n<|im_start|>assistant\n", False),
            ("It came late.<|im_end|>", True),
            ("\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n", False),
            ("hello, fine<|im_end|>", True),
            ("\n", False),
        ],
    ),
}
"""Family -> its template, and what `TURNS` become in it: pieces of text, each learned or not."""
