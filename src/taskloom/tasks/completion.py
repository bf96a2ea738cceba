"""A text that goes on."""

from __future__ import annotations

from taskloom.tasks._prompts import PromptedTask, Span
from taskloom.types import Row


class Completion(PromptedTask):
    """Write what follows a prompt, learning the completion alone.

    Prefer it where prompts are written out already, instructions and examples included. Do not where one pattern
    makes all prompts (`text_to_text`), or where several turns are spoken (`chat`).

    Formula: ``loss_i = -(1/n) sum_t log p(y_t | prompt, y_1 ... y_(t-1))`` over the n tokens of the completion and its
    end; tokens of the prompt are read and not learned.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        max_length: tokens after which a prompt loses its beginning (512), since its end is nearest to the answer. A
            decoder reads prompt and completion in one sequence of as many tokens, of which the completion gets half at
            most.
        max_target_length: tokens after which a completion is cut (128); one that is cut teaches no end.
        max_new_tokens: tokens of a generated completion at most (64).
        num_beams: beams of the search (1: greedy).

    Errors: `ConfigError` where the tokenizer has no token that ends a text.

    Differs: prompt and completion are tokenised apart, so that no token lies across the boundary, and a prompt is read
    in training as in generation.

    Paper: Radford et al., Improving Language Understanding by Generative Pre-Training, OpenAI 2018.

    Golden example: rows {"prompt": "The capital of France is", "completion": " Paris."}.
    """

    columns = {"prompt": "the text that is given", "completion": "the text that follows it"}
    answer_columns = frozenset({"completion"})
    identity_columns = ("prompt",)
    asks = "prompt"
    answers = "completion"
    keeps = "end"

    def prompt(self, row: Row) -> tuple[str, Span]:
        """Give the row's prompt as it is."""
        return row["prompt"], (0, len(row["prompt"]))
