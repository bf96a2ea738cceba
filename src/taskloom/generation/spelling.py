"""How a tokenizer writes a piece of text in the middle of an answer."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LIMIT_KEPT = 65_536
"""How many spellings are kept at hand."""


class Spelling:
    """The tokens of pieces that are written behind a blank, or behind another piece without one.

    Tokenizers write a text's beginning in their own ways: some put a sign for a blank before it (T5), some leave it out
    (GPT-2). So a piece is tokenised behind a word, whose own tokens are then taken away.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.barred = {*tokenizer.all_special_ids, tokenizer.unk_token_id}
        self._spell = lru_cache(LIMIT_KEPT)(self._behind)

    def after_blank(self, text: str) -> tuple[int, ...]:
        """Give the tokens of a piece behind a blank; none where the tokenizer lacks one of its signs."""
        return self._spell(" ", text)

    def glued(self, text: str) -> tuple[int, ...]:
        """Give the tokens of a piece behind another; none where the tokenizer lacks one of its signs."""
        return self._spell("", text)

    def _behind(self, blank: str, text: str) -> tuple[int, ...]:
        # Letters behind letters would be read as one word, as signs behind signs may be.
        before = (".", "-", "'", "a") if not blank and text[:1].isalnum() else ("a", "0", ".")
        ids = self._ids(text)
        for anchor in before:
            held, whole = self._ids(anchor), self._ids(anchor + blank + text)
            if whole[: len(held)] == held:
                ids = whole[len(held) :]
                break
        return () if self.barred & set(ids) else tuple(ids)

    def _ids(self, text: str) -> list[int]:
        ids: Any = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(ids)


@lru_cache(maxsize=4)
def spelling_of(tokenizer: PreTrainedTokenizerFast) -> Spelling:
    """Give the spelling of a tokenizer, whose pieces are kept from one call to the next."""
    return Spelling(tokenizer)
