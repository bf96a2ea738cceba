"""Conversations in a model's own chat template: what is read of one, and which of its tokens are learned."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from taskloom.errors import ConfigError, DataError, Fault, listed, said
from taskloom.types import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROLES = ("system", "user", "assistant")
ANSWERS = "assistant"

MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
"""What a template has that marks by itself which of its text an assistant says."""

TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError)
"""What comes of a template that refuses a conversation, or of one that is broken."""

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Conversation:
    """A conversation as a decoder reads it.

    Attributes:
        ids: [token].
        learned: [token] whether a token is learned.
        prompt_tokens: how many tokens come before the last turn of an assistant begins to speak.
    """

    ids: list[int]
    learned: list[bool]
    prompt_tokens: int

    @property
    def labels(self) -> list[int]:
        """Give the learned tokens, `IGNORED` elsewhere: [token]."""
        return [number if held else IGNORED for number, held in zip(self.ids, self.learned, strict=True)]

    def end(self, tokenizer: PreTrainedTokenizerFast) -> int:
        """Give the token that ends the last learned turn."""
        last = max(place for place, held in enumerate(self.learned) if held)
        return self.ids[_spoken_last(self.ids, self.learned, last, tokenizer)]

    def within(self, limit: int) -> Conversation:
        """Cut it to `limit` tokens: what comes before the last turn loses its beginning, but keeps half at least."""
        if len(self.ids) <= limit:
            return self
        asked = min(self.prompt_tokens, max(limit - (len(self.ids) - self.prompt_tokens), limit // 2, 1))
        kept = slice(self.prompt_tokens - asked, self.prompt_tokens - asked + limit)
        return Conversation(self.ids[kept], self.learned[kept], asked)


def template_of(option: str | None, tokenizer: PreTrainedTokenizerFast) -> str:
    """Find the chat template: the one that the run file gives as text or file, else the tokenizer's own.

    Raises:
        ConfigError: there is none, or the file is none.
    """
    if option is None:
        template = tokenizer.chat_template
        if not isinstance(template, str):
            fix = "Write `chat_template`, the path of a Jinja file or its text, or choose an instruction-tuned model"
            raise ConfigError(Fault("chat_template", "be given where the tokenizer has none", "none", fix))
        return template
    if "{{" in option or "{%" in option:
        return option
    try:
        return Path(option).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        requirement = "be the path of a Jinja file, or the text of one"
        raise ConfigError(Fault("chat_template", requirement, f"`{option}` ({said(error)})")) from error


def messages_fault(messages: Any, column: str) -> str | None:
    """Say why a value is no list of messages, or None."""
    if not isinstance(messages, list):
        return f"have a list of messages in `{column}`, each with `role` and `content`"
    if not messages:
        return f"have messages in `{column}`, which is empty"
    for place, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or {"role", "content"} - message.keys():
            return f"have `role` and `content` in each of its `{column}`, and message {place} has not"
        role, content = message["role"], message["content"]
        if role not in ROLES:
            return f"have {listed(ROLES)} for `role` in `{column}`, and message {place} has `{role}`"
        if not isinstance(content, str) or not content.strip():
            return f"have text for `content` in `{column}`, and message {place} has none"
    return None


def rendered(tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, *, ask: bool = False) -> str:
    """Write a conversation out.

    Args:
        tokenizer: of the backbone.
        template: its chat template.
        messages: in order.
        ask: whether to end with what an assistant's turn begins with.

    Raises:
        DataError: the template refuses the conversation; its own sentence is told.
    """
    try:
        return _text(tokenizer, template, messages, ask)
    except TEMPLATE_ERRORS as error:
        requirement = "be what the chat template takes"
        raise DataError(Fault("messages", requirement, f"its refusal: {said(error)}")) from error


def refusal(tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages) -> str | None:
    """Give the sentence with which a template refuses a conversation; None where it takes it."""
    try:
        _text(tokenizer, template, messages, False)
    except TEMPLATE_ERRORS as error:
        return said(error)
    return None


def conversation(
    tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, *, after: int = 0
) -> Conversation:
    """Tokenise a conversation, and find the tokens that assistants say.

    Where the template marks these itself, its marks hold. Elsewhere each turn is what stands between the conversation
    up to it, with the beginning of an assistant's turn, and the conversation up to its end. A turn's end that the model
    has to say is part of it: the first special token behind its content, or, after the last turn of a template that has
    none, the tokenizer's own end of a text.

    Args:
        tokenizer: of the backbone.
        template: its chat template.
        messages: in order; where the last is not an assistant's, nothing is learned, and the next turn is asked for.
        after: how many leading messages are given, of which nothing is learned.

    Raises:
        DataError: the template refuses the conversation, or rewrites what it wrote before.
    """
    turns = [place for place, message in enumerate(messages) if message["role"] == ANSWERS and place >= after]
    if messages[-1]["role"] != ANSWERS:
        ids = _asked(tokenizer, template, messages, turns)
        return Conversation(ids, [False] * len(ids), len(ids))
    if MARKS.search(template):
        found = _by_marks(tokenizer, template, messages, turns)
    else:
        found = _by_prefixes(tokenizer, template, messages, turns)
    return _ended(found, tokenizer)


def fitting(tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, limit: int) -> Conversation:
    """Tokenise as much of a conversation as `limit` tokens hold, its last turns first.

    As few of the oldest exchanges go as must, whole ones; what systems say at the beginning stays. If the last one
    alone is too long, it is cut.
    """
    found = None
    for kept in _shortened(tokenizer, template, messages, limit):
        found = conversation(tokenizer, template, kept)
        if len(found.ids) <= limit:
            return found
    assert found is not None, "a conversation has one way to be kept at least"
    return found.within(limit)


def _shortened(tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, limit: int) -> Iterator[Messages]:
    """Give ways to keep a conversation, the longest that may fit first; the last one may be too long."""
    head = next((place for place, message in enumerate(messages) if message["role"] != "system"), 0)
    last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=head)
    starts = [place for place in range(head + 1, last + 1) if messages[place]["role"] == "user"]
    ways = [messages, *([*messages[:head], *messages[start:]] for start in starts)]
    first = bisect_left(
        range(len(ways) - 1),
        True,
        key=lambda way: len(ids_of(tokenizer, rendered(tokenizer, template, ways[way]))) <= limit,
    )
    yield from ways[first:]


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Tokenise what a template wrote, special tokens included."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _text(tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, ask: bool) -> str:
    text: str = tokenizer.apply_chat_template(
        _plain(messages), chat_template=template, tokenize=False, add_generation_prompt=ask
    )
    return text


def _plain(messages: Messages) -> list[dict[str, str]]:
    """Give messages without what a template could make of their further keys, such as calls of tools."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _asked(tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, turns: Sequence[int]) -> list[int]:
    """Tokenise a conversation that asks for a turn, the earlier turns as they are read where that turn is learned."""
    text = rendered(tokenizer, template, messages, ask=True)
    if not turns or MARKS.search(template):
        return ids_of(tokenizer, text)
    before = [rendered(tokenizer, template, messages[:turn], ask=True) for turn in turns]
    upto = [rendered(tokenizer, template, messages[: turn + 1]) for turn in turns]
    return _pieces(tokenizer, text, _cuts(tokenizer, text, before, upto))[0]


def _by_marks(
    tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, turns: Sequence[int]
) -> Conversation:
    """Learn what the template marks, from the first of the turns on."""
    rendered(tokenizer, template, messages)  # says in one sentence what is wrong
    batch: Any = tokenizer.apply_chat_template(
        _plain(messages), chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, learned = list(batch["input_ids"]), [bool(mark) for mark in batch["assistant_masks"]]
    first, last = (
        _shared(ids, ids_of(tokenizer, rendered(tokenizer, template, messages[:turn], ask=True)))
        for turn in (turns[0], turns[-1])
    )
    if turns[0] != next(place for place, message in enumerate(messages) if message["role"] == ANSWERS):
        learned = [held and place >= first for place, held in enumerate(learned)]
    special = specials_of(tokenizer)
    for place in range(1, len(ids)):
        # Marks may leave out the token that ends a turn, without which a model never learns to stop.
        if learned[place - 1] and not learned[place] and ids[place] in special:
            learned[place] = ids[_spoken_last(ids, learned, place - 1, tokenizer)] not in special
    if True not in learned:
        found = "marks around nothing"
        raise DataError(Fault("chat_template", "mark what assistants say with `{% generation %}`", found))
    return Conversation(ids, learned, last)


def _by_prefixes(
    tokenizer: PreTrainedTokenizerFast, template: str, messages: Messages, turns: Sequence[int]
) -> Conversation:
    """Learn what stands between the conversation up to each turn and the conversation up to its end."""
    text = rendered(tokenizer, template, messages)
    before = [rendered(tokenizer, template, messages[:turn], ask=True) for turn in turns]
    upto = [rendered(tokenizer, template, messages[: turn + 1]) for turn in turns]
    for turn, prefix in zip(turns, before, strict=True):
        if not text.startswith(prefix):
            raise _otherwise(prefix, rendered(tokenizer, template, messages[:turn]), text)
    cuts = _cuts(tokenizer, text, before, upto)
    ids, offsets = _pieces(tokenizer, text, cuts)
    starts, through = ([_pieces(tokenizer, part, cuts)[0] for part in texts] for texts in (before, upto))
    special, learned = specials_of(tokenizer), [False] * len(ids)
    for turn, start, prefix, ending in zip(turns, starts, before, through, strict=True):
        end = _shared(ids, ending)
        if end <= len(start) or not _goes_on(ids, ending, tokenizer):
            raise _rewritten()
        content = messages[turn]["content"].strip()
        spoken = text.find(content, len(prefix))
        said_until = spoken + len(content) if spoken >= 0 else len(prefix)
        for place in range(len(start), _turn_end(ids, offsets, text, len(start), end, said_until, special)):
            learned[place] = True
    return Conversation(ids, learned, len(starts[-1]))


def _cuts(tokenizer: PreTrainedTokenizerFast, text: str, before: Sequence[str], upto: Sequence[str]) -> set[int]:
    """Find the beginnings and ends of turns that a token lies across, where generation never puts one.

    Args:
        tokenizer: of the backbone.
        text: the conversation as it is written out.
        before: for each turn the text up to it, with the beginning of an assistant's turn.
        upto: for each turn the text up to its end.

    Returns:
        places in the text, to the sides of which it is to be read apart.
    """
    ids = ids_of(tokenizer, text)
    starts, through = (tokenizer(list(texts), add_special_tokens=False)["input_ids"] for texts in (before, upto))
    begun = [prefix for prefix, start in zip(before, starts, strict=True) if ids[: len(start)] != start]
    ended = [prefix for prefix, end in zip(upto, through, strict=True) if not _goes_on(ids, end, tokenizer)]
    return {len(prefix) for prefix in (*begun, *ended) if text.startswith(prefix)}


def _goes_on(ids: Sequence[int], ending: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> bool:
    """Say whether a conversation goes on from its earlier end, of which special tokens and blanks may be replaced.

    Some templates end whatever they write with a token of their own, whose place the next turn then takes.
    """
    special = specials_of(tokenizer)
    rest = ending[_shared(ids, ending) :]
    return all(number in special or not tokenizer.decode([number]).strip() for number in rest)


def _turn_end(
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    text: str,
    start: int,
    end: int,
    said_until: int,
    special: frozenset[int],
) -> int:
    """Find where a turn ends: behind the first special tokens after its content, else without the blanks behind it."""
    for place in range(start, end):
        if ids[place] in special and offsets[place][0] >= said_until:
            return next((after for after in range(place + 1, end) if ids[after] not in special), end)
    if end < len(ids) and ids[end] in special:
        return end + 1  # of some templates the next turn's beginning is what ends a turn
    while end > start + 1 and not text[slice(*offsets[end - 1])].strip():
        end -= 1
    return end


def _ended(found: Conversation, tokenizer: PreTrainedTokenizerFast) -> Conversation:
    """Have the last turn end with a token at which generation can stop."""
    if found.end(tokenizer) in specials_of(tokenizer):
        return found
    last = max(place for place, held in enumerate(found.learned) if held)
    ids = [*found.ids[: last + 1], int(tokenizer.eos_token_id)]
    return Conversation(ids, [*found.learned[: last + 1], True], found.prompt_tokens)


def _spoken_last(ids: Sequence[int], learned: Sequence[bool], place: int, tokenizer: PreTrainedTokenizerFast) -> int:
    """Find the last token of a run of learned ones that is no blank, from the run's end backwards."""
    while place > 0 and learned[place - 1] and not tokenizer.decode([ids[place]]).strip():
        place -= 1
    return place


@functools.lru_cache(maxsize=4)
def specials_of(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Give the tokens that no plain text turns into."""
    added = tokenizer.added_tokens_decoder
    return frozenset(tokenizer.all_special_ids) | {number for number, token in added.items() if token.special}


def _pieces(
    tokenizer: PreTrainedTokenizerFast, text: str, cuts: Collection[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenise a text in pieces that are cut at some places: ids [token] and offsets [token]."""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for begin, end in pairwise(edges):
        batch: Any = tokenizer(text[begin:end], add_special_tokens=False, return_offsets_mapping=True)
        ids += batch["input_ids"]
        offsets += [(first + begin, last + begin) for first, last in batch["offset_mapping"]]
    return ids, offsets


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    for place, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return place
    return min(len(one), len(other))


def _otherwise(prefix: str, given: str, text: str) -> DataError:
    """Say in what a conversation does not go on as it began: in what a turn begins with, or in all before."""
    beginning = prefix.removeprefix(given)
    if beginning == prefix or not text.startswith(given):
        return _rewritten()
    requirement = f"begin an assistant's turn as it asks for one, with {beginning!r}"
    fix = "Begin the `content` of turns with what is missing, or give a template of your own as `chat_template`"
    return DataError(Fault("chat_template", requirement, repr(text[len(given) : len(prefix)]), fix))


def _rewritten() -> DataError:
    fix = "Mark what assistants say with `{% generation %}` in a template of your own, and give it as `chat_template`"
    return DataError(
        Fault("chat_template", "leave what it wrote of earlier turns as it is", "other words once a turn follows", fix)
    )
