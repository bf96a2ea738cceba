"""Tasks about one text: intent, slots, urgency, topics, and questions about a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskloom.helpdesk.concerns import TOPICS
from taskloom.helpdesk.grammar import Deck, Dice, tagged
from taskloom.helpdesk.message import INTENTS, Plan, compose
from taskloom.helpdesk.questions import QUESTIONS
from taskloom.helpdesk.sentences import AGENT_LINES
from taskloom.helpdesk.urgency import draw_cues
from taskloom.helpdesk.words import SLOTS


def intent_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the intent task."""
    intents = Deck(dice, INTENTS)

    def row() -> dict[str, Any]:
        cues = draw_cues(dice) if dice.chance(0.3) else ()
        message = compose(intents.deal(), split, dice, Plan(cues, facts=dice.below(2), filler=0.25))
        return {"text": message.text, "label": message.intent}

    return row


def slots_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the slots task."""
    intents = Deck(dice, INTENTS)

    def row() -> dict[str, Any]:
        cues = draw_cues(dice) if dice.chance(0.2) else ()
        plan = Plan(cues, facts=1 + dice.below(2), filler=0.25)
        message = compose(intents.deal(), split, dice, plan)
        tokens, tags = tagged(message.text, message.spans, SLOTS)
        return {"tokens": tokens, "tags": tags}

    return row


def urgency_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the urgency task."""
    intents = Deck(dice, INTENTS)

    def row() -> dict[str, Any]:
        message = compose(intents.deal(), split, dice, Plan(draw_cues(dice), opening=0.3, filler=0.15, closing=0.1))
        return {"text": message.text, "label": message.urgency}

    return row


def topics_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the topics task."""
    intents, counts, topics = Deck(dice, INTENTS), Deck(dice, (0, 1, 1, 2, 2, 2, 3)), Deck(dice, TOPICS)

    def row() -> dict[str, Any]:
        raised = tuple(sorted({topics.deal() for _ in range(counts.deal())}))
        plan = Plan(topics=raised, opening=0.35, filler=0.2, closing=0.15)
        message = compose(intents.deal(), split, dice, plan)
        return {"text": message.text, "labels": list(message.topics)}

    return row


def answer_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the answer task, without its id."""
    intents = Deck(dice, INTENTS)

    def row() -> dict[str, Any]:
        plan = Plan(facts=1 + dice.below(3), opening=0.0, filler=0.35, closing=0.0)
        message = compose(intents.deal(), split, dice, plan)
        shift, context = 0, message.text
        if dice.chance(0.4):
            context = f"Customer: {message.text} {dice.pick(AGENT_LINES[split])}"
            shift = len("Customer: ")
        span = dice.pick(message.spans)
        answer = message.text[span.start : span.end]
        return {
            "question": dice.pick(QUESTIONS[span.role][split]),
            "context": context,
            "answers": {"text": [answer], "answer_start": [span.start + shift]},
        }

    return row
